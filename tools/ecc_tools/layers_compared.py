"""Where integers and floats part: every layer of both, fed with the same spikes, and the bits that its sums take."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ecc_model.frames import Pixels
from ecc_model.layers import Conv, Linear, Readout
from ecc_model.nets.vgg import SpikingVgg9
from ecc_model.program import PIXEL_MAX, Program, layer_bound
from ecc_model.proof import membrane_bound
from ecc_tools.batched import BatchedProgram, Synapses, in_chunks

MOST_FRAMES = 500  # more would tell no more


class LayerCompared(NamedTuple):
    """One layer with weights."""

    place: str  # "head.0"
    alike: float | None  # share of its spikes that integers and floats have in common; None: it emits none
    bits: int  # of 31: what its largest possible sum or membrane takes


def compare_layers(net: SpikingVgg9, program: Program, frames: Pixels) -> list[LayerCompared]:
    """Each layer of a network beside that of its program, on what the program's layer gets from these frames.

    So a layer's disagreement is its own: what earlier layers did otherwise does not count. frames: (N, H, W, C), of
    which at most the first `MOST_FRAMES` are shown.
    """
    sections = {"head": net.head, "encoder": net.encoder, "exit": net.exit}
    same: Counter[str] = Counter()
    spikes_seen: Counter[str] = Counter()
    layers: dict[str, Synapses] = {}

    def watch(place: str, layer: Synapses, inputs: Tensor, spikes: Tensor | None) -> None:
        layers[place] = layer
        if spikes is None:
            return
        section, index = place.split(".")
        batch = len(spikes) // program.steps
        values = _steps_first(inputs, batch).to(torch.float32) / (PIXEL_MAX if place == "head.0" else 1)
        floats = sections[section][int(index)](values.expand(program.steps, *values.shape[1:]))
        same[place] += int(((floats > 0) == (_steps_first(spikes, batch) > 0)).sum())
        spikes_seen[place] += spikes.numel()

    batched = BatchedProgram(program)
    for chunk in in_chunks(frames[:MOST_FRAMES]):
        batched.run(chunk, watch)
    return [
        LayerCompared(place, same[place] / spikes_seen[place] if place in same else None, _bits(place, layer, program))
        for place, layer in layers.items()
    ]


def _bits(place: str, layer: Synapses, program: Program) -> int:
    bound = layer_bound(cast(Conv | Linear | Readout, layer), PIXEL_MAX if place == "head.0" else 1)
    if isinstance(layer, Conv | Linear):
        return membrane_bound(bound, layer.leak, program.steps).bit_length()
    return (bound * program.steps).bit_length()


def _steps_first(rows: Tensor, batch: int) -> Tensor:
    """(B T, ...) -> (T, B, ...); of a still frame (B, ...) -> (1, B, ...)."""
    return rows.reshape(batch, -1, *rows.shape[1:]).transpose(0, 1)
