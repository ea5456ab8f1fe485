"""Writing `vgg9.pt` and `cloud.pt`, and rebuilding their torch modules; `torch.load(weights_only=True)` throughout."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
import torch
from torch import Tensor, nn

from ecc_model.bits import packed_size
from ecc_model.errors import ModelCorrupt, ModelError
from ecc_model.modelfile import (
    ACCEPTED_SHARE,
    EarlyInfo,
    EncoderInfo,
    GuardSet,
    Manifest,
    Records,
    add_records,
    edge_records,
    read_manifest,
    whole_file,
    with_rates,
)
from ecc_model.nets.cloud import CloudConfig, CloudNet
from ecc_model.nets.neuron import Neuron
from ecc_model.nets.vgg import SpikingVgg9, VggConfig
from ecc_model.program import Program
from ecc_model.rates import RateTable
from ecc_model.statistics import Statistics

ENCODER_NAME = "bottleneck"  # of one that is alone
WEIGHTS = "weights"  # their entry in the manifest's records: torch.load checks no sums itself
# what torch.load, a network's constructor and load_state_dict raise on files that lie
_UNUSABLE = (
    RuntimeError,
    LookupError,
    AttributeError,
    EOFError,
    pickle.UnpicklingError,
    OSError,
    ValueError,
    TypeError,
    OverflowError,
)


def encoder_infos(program: Program) -> list[EncoderInfo]:
    """What a model file says of a program's encoders: one alone is the bottleneck, several are told by their bytes."""
    shapes = program.code_shapes
    names = [f"{packed_size(shape)}-bytes" for shape in shapes] if len(shapes) > 1 else [ENCODER_NAME]
    found = zip(names, program.features_ids, shapes, strict=True)
    return [EncoderInfo(name, features_id, list(shape)) for name, features_id, shape in found]


def save_edge(
    path: Path,
    net: SpikingVgg9,
    program: Program,
    guard: GuardSet,
    *,
    labels: Sequence[str],
    temperature: float,
    threshold: float,
    accepted: float = ACCEPTED_SHARE,
    provenance: dict[str, str],
    rates: Sequence[RateTable | None] = (),
    statistics: Statistics | None = None,
    early: EarlyInfo | None = None,
    half: bool = False,
) -> None:
    """Write an edge model atomically: float weights for torch, integer program and guard set for the device.

    Of further encoders only the integers are written. `rates` are those of the encoders' spikes, one for each or none
    at all, `statistics` what a device can learn from without torch, `early` says when fewer time steps are enough.
    `half` stores matrices of weights in 16 bits; they come back as what `round_to_half` makes of them.

    `ModelError` when it cannot be written.
    """
    frame = program.input
    manifest = Manifest(
        format=program.format,
        kind="edge",
        labels=list(labels),
        temperature=temperature,
        threshold=threshold,
        accepted=accepted,
        early=early,
        encoders=encoder_infos(program),
        frame=[frame.steps, frame.channels, frame.height, frame.width],
        network=msgspec.to_builtins(net.config),
        provenance=provenance,
    )
    tables = rates or [None] * len(program.encoders)
    _save(path, net, *edge_records(manifest, program, guard, statistics, tables), half)


def save_cloud(
    path: Path,
    net: CloudNet,
    *,
    labels: Sequence[str],
    temperature: float,
    encoders: Sequence[EncoderInfo],
    frame: Sequence[int],
    provenance: dict[str, str],
    rates: Mapping[str, RateTable] = MappingProxyType({}),
    half: bool = False,
) -> None:
    """Write the worker's model: decoder, tail, teacher, and which features it can read. Errors: see `save_edge`.

    `rates` are the encoders' rate tables, by the encoders' names.
    """
    infos, tables = with_rates(encoders, rates)
    manifest = Manifest(
        format=5 if net.config.others else 1,
        kind="cloud",
        labels=list(labels),
        temperature=temperature,
        encoders=infos,
        frame=list(frame),
        network=msgspec.to_builtins(net.config),
        provenance=provenance,
    )
    _save(path, net, manifest, {"rates": tables} if tables else {}, half)


def round_to_half(net: nn.Module) -> None:
    """Round the matrices of a network to 16 bits in place. Biases and batch statistics keep theirs: some are tiny."""
    with torch.no_grad():
        for tensor in _matrices(net.state_dict()).values():
            tensor.copy_(tensor.half())


def _matrices(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point() and tensor.ndim > 1}


def load_edge(path: Path, neuron: Neuron) -> SpikingVgg9:
    """The float network inside an edge model, in eval mode."""
    manifest = read_manifest(path, "edge")
    config = _config(path, manifest, VggConfig)
    return _restore(path, manifest, lambda: SpikingVgg9(config, neuron))


def load_cloud(path: Path, neuron: Neuron) -> tuple[CloudNet, Manifest]:
    """The worker's networks in eval mode, and the manifest."""
    manifest = read_manifest(path, "cloud")
    config = _config(path, manifest, CloudConfig)
    return _restore(path, manifest, lambda: CloudNet(config, neuron)), manifest


def _save(path: Path, net: nn.Module, manifest: Manifest, records: Records, half: bool) -> None:
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    if half:
        weights |= {name: tensor.half() for name, tensor in _matrices(weights).items()}
    manifest = msgspec.structs.replace(manifest, records={WEIGHTS: weights_hash(weights)})
    with whole_file(path) as partial:
        try:
            torch.save(weights, partial)
        except RuntimeError as exc:  # torch's writer has no error of its own for a full disk
            raise ModelError(f"{path}: cannot be written (is the disk full?); choose another place for it") from exc
        add_records(partial, manifest, records)


_Config = TypeVar("_Config", VggConfig, CloudConfig)
_Net = TypeVar("_Net", bound=nn.Module)


def _config(path: Path, manifest: Manifest, type_: type[_Config]) -> _Config:
    try:
        return msgspec.convert(manifest.network, type_)
    except (msgspec.ValidationError, ValueError) as exc:
        raise ModelCorrupt(path, f"its network is not described rightly: {exc}") from exc


def weights_hash(weights: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a state dict: names, types, shapes and bytes. `TypeError` if it holds more than tensors."""
    if not isinstance(weights, Mapping):
        raise TypeError("no state dict")
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"'{name:.60}' is no tensor")
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _restore(path: Path, manifest: Manifest, build: Callable[[], _Net]) -> _Net:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        if weights_hash(weights) != manifest.records.get(WEIGHTS):
            raise ModelCorrupt(path, "its weights have another hash than the manifest says")
        with torch.device("meta"):  # no memory for what a manifest claims: the weights bring their own
            net = build()
        net.load_state_dict(weights, assign=True)
        net.float()  # what was stored in 16 bits
    except _UNUSABLE as exc:
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise ModelCorrupt(path, f"torch cannot restore it: {reason:.120}") from exc
    return net.eval()
