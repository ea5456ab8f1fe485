"""Writing `vgg9.pt` and `cloud.pt`, and rebuilding their torch modules; `torch.load(weights_only=True)` throughout."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import torch
from torch import nn

from ecc_model.errors import ModelCorrupt
from ecc_model.modelfile import (
    FORMAT,
    EncoderInfo,
    GuardSet,
    Manifest,
    Records,
    add_records,
    edge_records,
    read_manifest,
)
from ecc_model.nets.cloud import CloudConfig, CloudNet
from ecc_model.nets.neuron import Neuron
from ecc_model.nets.vgg import SpikingVgg9, VggConfig
from ecc_model.program import Program

ENCODER_NAME = "bottleneck"


def save_edge(
    path: Path,
    net: SpikingVgg9,
    program: Program,
    guard: GuardSet,
    *,
    labels: Sequence[str],
    temperature: float,
    threshold: float,
    provenance: dict[str, str],
) -> None:
    """Write an edge model atomically: float weights for torch, integer program and guard set for the device."""
    spec, records = edge_records(program, guard)
    frame = program.input
    manifest = Manifest(
        format=FORMAT,
        kind="edge",
        labels=list(labels),
        temperature=temperature,
        threshold=threshold,
        encoders=[EncoderInfo(ENCODER_NAME, program.features_id, list(program.code_shape))],
        frame=[frame.steps, frame.channels, frame.height, frame.width],
        network=msgspec.to_builtins(net.config),
        program=spec,
        provenance=provenance,
    )
    _save(path, net, manifest, records)


def save_cloud(
    path: Path,
    net: CloudNet,
    *,
    labels: Sequence[str],
    temperature: float,
    encoders: Sequence[EncoderInfo],
    frame: Sequence[int],
    provenance: dict[str, str],
) -> None:
    """Write the worker's model: decoder, tail, teacher, and which features it can read."""
    manifest = Manifest(
        format=FORMAT,
        kind="cloud",
        labels=list(labels),
        temperature=temperature,
        encoders=list(encoders),
        frame=list(frame),
        network=msgspec.to_builtins(net.config),
        provenance=provenance,
    )
    _save(path, net, manifest, {})


def load_edge(path: Path, neuron: Neuron) -> SpikingVgg9:
    """The float network inside an edge model, in eval mode."""
    net = SpikingVgg9(_config(path, "edge", VggConfig), neuron)
    _restore(path, net)
    return net


def load_cloud(path: Path, neuron: Neuron) -> tuple[CloudNet, Manifest]:
    """The worker's networks in eval mode, and the manifest."""
    net = CloudNet(_config(path, "cloud", CloudConfig), neuron)
    _restore(path, net)
    return net, read_manifest(path, "cloud")


def _save(path: Path, net: nn.Module, manifest: Manifest, records: Records) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    torch.save({name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}, partial)
    add_records(partial, manifest, records)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(path)


_Config = TypeVar("_Config", VggConfig, CloudConfig)


def _config(path: Path, kind: str, type_: type[_Config]) -> _Config:
    network = read_manifest(path, kind).network
    try:
        return msgspec.convert(network, type_)
    except (msgspec.ValidationError, ValueError) as exc:
        raise ModelCorrupt(path, f"its network is not described rightly: {exc}") from exc


def _restore(path: Path, net: nn.Module) -> None:
    try:
        net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError, OSError, ValueError) as exc:
        reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
        raise ModelCorrupt(path, f"torch cannot restore it: {reason:.120}") from exc
    net.eval()
