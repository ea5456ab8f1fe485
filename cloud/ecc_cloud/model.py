"""The worker's networks behind plain arrays: spikes or pixels in, calibrated logits out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecc_model import bits
from ecc_model.errors import ModelCorrupt
from ecc_model.frames import FrameSpec, Pixels
from ecc_model.modelfile import LeadingInfo, Manifest, labels_id, read_rates
from ecc_model.nets.checkpoint import load_cloud
from ecc_model.nets.cloud import CloudConfig
from ecc_model.nets.neuron import Lif
from ecc_model.nets.vgg import to_unit
from ecc_model.rates import RateTable, coded_id, plain_id

NAME_BYTES = 4  # of an encoder, as it travels
Logits = NDArray[np.float32]


class Encoder(NamedTuple):
    """A bottleneck encoder whose spikes (T, C, H, W) the model reads.

    Requests that name the start of its `features_id` hold spikes in a codec without a table, those that name
    `rates.coded_id` in any: a device knows by the name that both have the same table.
    """

    shape: tuple[int, ...]
    table: RateTable | None
    leading: LeadingInfo | None = None
    """How its leading time steps are answered alone, where they are."""
    decoder: int = 0
    """Which of the network's decoders reads it."""


class CloudModel:
    """What `cloud.pt` can do. Its networks have run once when the constructor returns, so the first request is quick.

    Raises `ModelError` for a file that cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._net, manifest = load_cloud(path, Lif)
        config = self._net.config
        if config.classes != len(manifest.labels):
            raise ModelCorrupt(path, f"{config.classes} logits for {len(manifest.labels)} labels")
        self.path = path
        self.labels = tuple(manifest.labels)
        self.labels_id = labels_id(self.labels)
        self.frame = _frame(path, manifest, config)
        self.encoders = _encoders(path, manifest, config)
        """What a request may name -> its spikes. Encoders with a rate table have two names: see `Encoder`."""
        self.reads_frames = config.teacher is not None
        self._temperature = manifest.temperature
        self._try_out()

    def features(self, batch: Sequence[bits.Spikes], decoder: int = 0) -> Logits:
        """Logits (B, N) divided by the model's temperature, for B codes (t, C, H, W) of one encoder, t <= T."""
        network = partial(self._net.features, decoder=decoder)
        return self._run(network, torch.from_numpy(np.stack(batch, axis=1)).to(torch.float32))

    def frames(self, batch: Sequence[Pixels]) -> Logits:
        """Teacher's logits (B, N) divided by the model's temperature, for B frames as `frames.fit` returns them.

        `ValueError` unless `reads_frames`.
        """
        return self._run(self._net.frames, to_unit(torch.from_numpy(np.stack(batch))))

    def _run(self, network: Callable[[Tensor], Tensor], inputs: Tensor) -> Logits:
        with torch.inference_mode():
            return (network(inputs) / self._temperature).numpy()

    def _try_out(self) -> None:
        still = np.zeros((self.frame.height, self.frame.width, self.frame.channels), np.uint8)
        try:
            answers = [self.frames([still])] if self.reads_frames else []
            for encoder in self.encoders.values():
                alone = [] if encoder.leading is None else [encoder.leading.steps]
                codes = [np.zeros((steps, *encoder.shape[1:]), np.bool_) for steps in (encoder.shape[0], *alone)]
                answers += [self.features([code], encoder.decoder) for code in codes]
        except RuntimeError as exc:
            raise ModelCorrupt(self.path, f"its networks do not run: {str(exc).splitlines()[0]:.120}") from exc
        if not all(np.isfinite(logits).all() for logits in answers):
            raise ModelCorrupt(self.path, "its networks answer with NaN or infinity")


def _frame(path: Path, manifest: Manifest, config: CloudConfig) -> FrameSpec:
    frame = manifest.frame
    if len(frame) != 4 or frame[:2] != [config.steps, config.channels] or not all(1 <= n <= 4096 for n in frame):
        raise ModelCorrupt(path, f"its network does not take frames of {frame}")
    return FrameSpec(*frame)


def _encoders(path: Path, manifest: Manifest, config: CloudConfig) -> dict[bytes, Encoder]:
    tables = read_rates(path, "cloud")
    encoders: dict[bytes, Encoder] = {}
    for encoder in manifest.encoders:
        try:
            prefix = plain_id(encoder.features_id)
        except ValueError as exc:
            raise ModelCorrupt(path, f"features_id {encoder.features_id[:64]!r} is not hexadecimal") from exc
        shape, decoder = tuple(encoder.shape), encoder.decoder
        code = config.codes[decoder] if 0 <= decoder < len(config.codes) else None
        fits = code is not None and len(shape) == 4 and shape[:2] == (config.steps, code.channels)
        if not fits or not all(1 <= n <= 4096 for n in shape) or len(prefix) < NAME_BYTES or prefix in encoders:
            raise ModelCorrupt(path, f"its network cannot read the encoder '{encoder.name:.20}' of shape {shape}")
        leading = encoder.leading
        if leading is not None and not _usable(leading, shape[0]):
            told = f"margin {leading.margin:g}, temperature {leading.temperature:g}, share {leading.more:g}"
            raise ModelCorrupt(path, f"it answers {leading.steps} of {shape[0]} steps alone, with {told}")
        table = tables.get(encoder.name)
        encoders[prefix] = Encoder(shape, None, leading, decoder)
        if table is not None:
            encoders[coded_id(encoder.features_id, table)] = Encoder(shape, table, leading, decoder)
    return encoders


def _usable(leading: LeadingInfo, steps: int) -> bool:
    within = 0.0 <= leading.margin <= 1.0 and 0.0 <= leading.more <= 1.0 and 0.0 < leading.temperature < 1e6
    return within and 1 <= leading.steps < steps
