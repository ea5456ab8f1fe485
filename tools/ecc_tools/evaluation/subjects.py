"""What can be evaluated: the models of edge and cloud, and runs of `ecc-tools train`, each as frames in, logits out."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ecc_model.errors import EccError, ModelCorrupt, WrongKind
from ecc_model.frames import FrameSpec, Pixels
from ecc_model.modelfile import Manifest, read_edge, read_manifest
from ecc_model.nets.checkpoint import load_cloud, load_edge
from ecc_model.nets.neuron import Lif
from ecc_model.nets.vgg import to_unit
from ecc_tools.batched import BatchedProgram, Synapses, Watch, fit_all
from ecc_tools.evaluation.counting import Tally
from ecc_tools.runs import file_sha256, load_run, weights_sha256

Logits = NDArray[np.float32]
Answer = Callable[[Pixels, Tally | None], Logits]
"""Frames (B, H, W, C) to logits (B, N), and what they cost into the tally."""


class EvaluationError(EccError):
    """A model that cannot be judged, or not with these data."""


@dataclass(frozen=True, eq=False)
class Subject:
    """One model. Temperature or threshold None: the model has none of its own."""

    path: Path
    what: str
    sha256: str  # of the file with its weights
    labels: tuple[str, ...]
    answer: Answer
    temperature: float | None
    threshold: float | None
    is_run: bool = False  # its temperature and threshold are still to be fitted


def open_subject(path: Path, *, as_float: bool = False) -> Subject:
    """An edge model (its integer program, or with `as_float` its torch network), a cloud model, or a run folder.

    `ModelError`, `RunError`, or `EvaluationError` for a cloud model that reads features alone.
    """
    if path.is_dir():
        return _run(path)
    try:
        manifest = read_manifest(path, "edge")
    except WrongKind:
        return _teacher(path)
    return _float_edge(path, manifest) if as_float else _program(path)


def _program(path: Path) -> Subject:
    model = read_edge(path)
    batched = BatchedProgram(model.program)

    def answer(frames: Pixels, tally: Tally | None) -> Logits:
        return batched.run(frames, None if tally is None else _answering(tally.watch)).logits

    return Subject(path, "integer program", model.sha256, model.labels, answer, model.temperature, model.threshold)


def _answering(watch: Watch) -> Watch:
    """Without the encoder, which runs for frames that go up and adds nothing to the answer."""

    def told(place: str, layer: Synapses, inputs: torch.Tensor, spikes: torch.Tensor | None) -> None:
        if not place.startswith("encoder."):
            watch(place, layer, inputs, spikes)

    return told


def _float_edge(path: Path, manifest: Manifest) -> Subject:
    net = load_edge(path, Lif)
    labels = _labels(path, manifest, net.config.classes)
    answer = _network(net, net.config.frame)
    return Subject(path, "float network", file_sha256(path), labels, answer, manifest.temperature, manifest.threshold)


def _teacher(path: Path) -> Subject:
    net, manifest = load_cloud(path, Lif)
    if net.teacher is None:
        raise EvaluationError(
            f"{path}: a cloud model without a network for frames; evaluate the run that it was made from"
        )
    labels = _labels(path, manifest, net.config.classes)
    answer = _network(net.teacher, FrameSpec(*manifest.frame))
    return Subject(path, "cloud's network for frames", file_sha256(path), labels, answer, manifest.temperature, None)


def _run(folder: Path) -> Subject:
    net, record = load_run(folder)
    height, width, channels = record.provenance.frame
    answer = _network(net, FrameSpec(1, channels, height, width))
    what = f"float network ({record.run.network.kind})"
    labels = record.provenance.labels
    return Subject(folder, what, weights_sha256(folder), labels, answer, None, None, is_run=True)


def _labels(path: Path, manifest: Manifest, classes: int) -> tuple[str, ...]:
    if len(manifest.labels) != classes:
        raise ModelCorrupt(path, f"{classes} logits for {len(manifest.labels)} labels")
    return tuple(manifest.labels)


def _network(net: nn.Module, spec: FrameSpec) -> Answer:
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def answer(frames: Pixels, tally: Tally | None) -> Logits:
        counting = contextlib.nullcontext() if tally is None else tally.attached(net)
        with torch.inference_mode(), counting:
            logits: Logits = net(to_unit(torch.tensor(fit_all(frames, spec)))).numpy()
        return logits

    return answer
