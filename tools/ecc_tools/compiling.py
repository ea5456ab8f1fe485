"""From a trained network to a model file: integers, calibration, guard set, and how far the integers agree."""

from __future__ import annotations

import contextlib
import itertools
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecc_device.calibration import fit_temperature, fit_threshold
from ecc_device.engine import NumpyEngine
from ecc_device.learning.gate import MIN_JUDGE_ROWS
from ecc_device.sources import open_source
from ecc_model import bits
from ecc_model.errors import CompileError, ModelCorrupt, ModelNotFound, SourceError
from ecc_model.frames import Pixels
from ecc_model.modelfile import GuardSet
from ecc_model.nets.checkpoint import save_edge
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_network
from ecc_model.nets.vgg import HIDDEN, STAGES, SpikingVgg9, VggConfig, to_unit
from ecc_model.numerics import normalized_entropy, softmax
from ecc_model.program import Program
from ecc_tools.training import augment

REPLAY_PER_CLASS = 8  # validation frames of each class that an update replays
VIEWS = 3  # each of them also in this many views less one
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Agreement:
    """The integer program beside the float network, on frames that neither was trained on."""

    frames: int
    agreement: float  # share of frames with the same argmax
    float_accuracy: float
    integer_accuracy: float

    def __str__(self) -> str:
        return (
            f"{self.agreement:.1%} of {self.frames} frames agree; accuracy {self.float_accuracy:.1%} in float, "
            f"{self.integer_accuracy:.1%} in integers"
        )


def write_model(
    path: Path, net: SpikingVgg9, frames: Pixels, labels: Labels, names: Sequence[str], provenance: dict[str, str]
) -> Program:
    """Compile `net`, calibrate it and choose its guard set on validation frames (N, H, W, C), and write `path`."""
    if labels.min() < 0 or labels.max() >= net.config.classes or len(names) != net.config.classes:
        raise CompileError(
            f"{len(names)} names and labels {labels.min()} to {labels.max()} for a network of {net.config.classes} "
            "classes; give validation frames of just these classes"
        )
    program = compile_network(net)
    guard = choose_guard(program, frames, labels)
    temperature, threshold = calibrate(program, frames, labels)
    save_edge(
        path,
        net,
        program,
        guard,
        labels=names,
        temperature=temperature,
        threshold=threshold,
        provenance=provenance,
    )
    return program


def choose_guard(program: Program, frames: Pixels, labels: Labels) -> GuardSet:
    """Validation rows: `REPLAY_PER_CLASS` frames of each class in `VIEWS` views to replay, all others to judge with."""
    judge = np.ones(len(labels), np.bool_)
    for label in np.unique(labels):
        judge[np.flatnonzero(labels == label)[:REPLAY_PER_CLASS]] = False
    if judge.sum() < MIN_JUDGE_ROWS:
        raise CompileError(
            f"{len(labels)} validation frames leave {judge.sum()} to judge updates with; "
            f"give at least {MIN_JUDGE_ROWS + int((~judge).sum())}"
        )
    engine = NumpyEngine(program)
    shown = np.concatenate([frames[judge], views(frames[~judge], VIEWS)])
    rows = [np.frombuffer(bits.pack(engine.head(frame)), np.uint8) for frame in shown]
    return GuardSet(
        np.stack(rows),
        np.concatenate([labels[judge], np.tile(labels[~judge], VIEWS)]).astype(np.int32),
        (np.arange(len(rows)) < judge.sum()).astype(np.uint8),
    )


def calibrate(program: Program, frames: Pixels, labels: Labels) -> tuple[float, float]:
    """Temperature on augmented views (plain validation frames may all be right), threshold on the plain frames."""
    logits = integer_logits(program, views(frames, VIEWS)).tolist()
    temperature = fit_temperature(logits, np.tile(labels, VIEWS).tolist())
    plain = logits[: len(frames)]
    return temperature, fit_threshold([normalized_entropy(softmax(row, temperature)) for row in plain])


def views(frames: Pixels, count: int) -> Pixels:
    """The frames, then `count - 1` augmented copies of all of them."""
    images = to_unit(torch.from_numpy(frames))
    return to_pixels(torch.cat([images, *(augment(images) for _ in range(count - 1))]))


def to_pixels(images: Tensor) -> Pixels:
    """Float (N, C, H, W) in [0, 1] back to `uint8` (N, H, W, C)."""
    pixels: Pixels = (images * 255).round().to(torch.uint8).movedim(1, -1).contiguous().numpy()
    return pixels


def integer_logits(program: Program, frames: Pixels) -> NDArray[np.float32]:
    """Logits (N, classes) as the device computes them."""
    engine = NumpyEngine(program)
    return np.stack([engine.exit(engine.head(frame)) for frame in frames])


def compare(net: SpikingVgg9, program: Program, frames: Pixels, labels: Labels) -> Agreement:
    """Float network and integer program on the same frames."""
    with torch.inference_mode():
        floats = net(to_unit(torch.from_numpy(frames))).argmax(1).numpy()
    integers = integer_logits(program, frames).argmax(axis=1)
    return Agreement(
        len(labels),
        float((floats == integers).mean()),
        float((floats == labels).mean()),
        float((integers == labels).mean()),
    )


def load_plain(checkpoint: Path, frame: tuple[int, ...], steps: int) -> SpikingVgg9:
    """The network of a plain state dict, with an encoder of stride 1; its sizes are read off the weights.

    frame: (H, W, C). `ModelNotFound` when there is no such file, `ModelCorrupt` when it holds something else.
    """
    if checkpoint.is_dir():
        raise ModelNotFound(checkpoint)
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        head = [name for name in state if name.startswith("head.") and name.endswith("conv.weight")]
        linears = sorted((n for n in state if n.endswith("linear.weight")), key=lambda n: int(n.split(".")[1]))
        hidden, classes = (int(state[name].shape[0]) for name in linears)
        split = {len(stage): index for index, stage in enumerate(itertools.accumulate(STAGES), 1)}[len(head)]
        config = VggConfig(
            steps=steps,
            channels=frame[2],
            height=frame[0],
            width_px=frame[1],
            width=hidden / HIDDEN,  # the finest of the rounded sizes
            classes=classes,
            split=split,
            code_channels=state["encoder.0.conv.weight"].shape[0],
        )
        net = SpikingVgg9(config, Lif)
        net.load_state_dict(state)
    except FileNotFoundError as exc:
        raise ModelNotFound(checkpoint) from exc
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as exc:
        reason = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise ModelCorrupt(checkpoint, f"not the weights of a spiking VGG-9 for such frames: {reason:.100}") from exc
    return net.eval()


def load_validation(spec: str) -> tuple[Pixels, Labels, tuple[str, ...]]:
    """All frames (N, H, W, C) of a labelled source, their labels (N,) and the labels' names."""
    with contextlib.closing(open_source(spec)) as source:
        if source.labels is None:
            raise SourceError(f"{spec}: frames without labels cannot calibrate a model; give a source with labels")
        names = tuple(source.labels)
        shown = [(frame.pixels, names.index(frame.label)) for frame in source if frame.label is not None]
    if {pixels.ndim for pixels, _ in shown} != {3}:
        raise SourceError(f"{spec}: labelled still frames are needed to calibrate, not frames with time steps or none")
    if len({pixels.shape for pixels, _ in shown}) != 1:
        raise SourceError(f"{spec}: frames of one size are needed here; make an .npz of them")
    return np.stack([pixels for pixels, _ in shown]), np.array([label for _, label in shown], np.int64), names
