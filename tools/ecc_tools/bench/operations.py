"""What a program does with a frame: the synaptic operations of each layer, counted, and what the event engine took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ecc_device.engines.arena import Arena
from ecc_model import reference
from ecc_model.frames import Pixels, fit
from ecc_model.layers import OP_NAMES, Conv, Currents, Layer, Pool, Probe, Residual, Shape
from ecc_model.program import Program

Values = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """A section of a program: the head, which runs on the frame, or an exit, which runs on what the head emits."""

    name: str
    layers: tuple[Layer, ...]
    shape: Shape
    pixels: bool


@dataclass
class LayerCost:
    """One layer on some frames, a number for each.

    Operations: weights added to sums; none for the layer on the frame, which has products instead, and for pools.
    """

    place: str
    kind: str
    outputs: int
    weight_bytes: int
    counted: bool
    operations: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)  # share of the inputs that are not zero
    nanoseconds: list[int] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        """Operations per second: of all frames together."""
        spent = sum(self.nanoseconds)
        return 1e9 * sum(self.operations) / spent if spent else 0.0


def parts(program: Program) -> list[Part]:
    """Head and exits: the way from a frame to its logits, but for the few sums of a probe."""
    exits = {name: tuple(la for la in layers if not isinstance(la, Probe)) for name, layers in program.exits.items()}
    return [
        Part("head", program.head, program.frame_shape, True),
        *(Part(name, layers, program.split_shape, False) for name, layers in exits.items() if layers),
    ]


def operations(layer: Layer, values: Values) -> int:
    """Weights that the spikes of `values` (T, ...) reach in `layer`; without those of a map's padding."""
    if isinstance(layer, Pool):
        return 0
    if isinstance(layer, Residual):
        inside, count = values, 0
        for conv in layer.branch:
            count += operations(conv, inside)
            inside = _behind(conv, inside)
        count += _reached(layer.last, inside)
        return count + (0 if layer.shortcut is None else _reached(layer.shortcut, values))
    if isinstance(layer, Conv):
        return _reached(layer, values)
    return int(values.sum()) * len(layer.weight)


def _reached(layer: Conv | Currents, values: Values) -> int:
    """Of each position of the input: how many windows see it, times its spikes, times the outputs."""
    kernel, seen = layer.weight.shape[2], []
    for side in values.shape[2:]:
        count = np.zeros(side + 2 * layer.padding, np.int64)
        for first in range(0, side + 2 * layer.padding - kernel + 1, layer.stride):
            count[first : first + kernel] += 1
        seen.append(count[layer.padding : layer.padding + side])
    spikes = values.sum(axis=(0, 1))
    return int((spikes * seen[0][:, None] * seen[1]).sum()) * len(layer.weight)


def costs(program: Program, frames: Sequence[Pixels], rounds: int) -> list[LayerCost]:
    """Every layer from frame to logits: its operations on each frame, and its time, the least of `rounds`."""
    found: list[LayerCost] = []
    arenas = [(part, Arena(part.layers, part.shape, pixels=part.pixels)) for part in parts(program)]
    on_frame = next(layer for layer in program.head if not isinstance(layer, Pool))
    for part, _ in arenas:
        for index, layer in enumerate(part.layers):
            weight = getattr(layer, "weight", np.zeros((0, 0)))
            counted = not isinstance(layer, Pool) and layer is not on_frame
            found.append(
                LayerCost(
                    place=f"{part.name}.{index}",
                    kind=OP_NAMES[type(layer)],
                    outputs=len(weight),
                    weight_bytes=weight.size,
                    counted=counted,
                )
            )
    for frame in frames:
        pixels = fit(frame, program.input)
        _count(program, pixels, found)
        spent = np.stack([_profile(arenas, pixels) for _ in range(rounds)])
        for cost, least in zip(found, spent.min(axis=0), strict=True):
            cost.nanoseconds.append(int(least))
    return found


def _count(program: Program, pixels: Pixels, found: list[LayerCost]) -> None:
    split = reference.frame_input(pixels, program.steps)
    rows = iter(found)
    for part in parts(program):
        values = split
        for layer in part.layers:
            cost = next(rows)
            if cost.counted:
                cost.operations.append(operations(layer, values))
                cost.rates.append(float((values != 0).mean()))
            values = _behind(layer, values)
        split = values if part.pixels else split


def _behind(layer: Layer, values: Values) -> Values:
    """What a layer emits; spikes into layers with neurons by the event engine, as the reference takes seconds."""
    if isinstance(layer, Pool) or values.max(initial=0) > 1:
        return reference.run([layer], values)[0]
    spikes = values.reshape(*values.shape, *[1] * (4 - values.ndim)).astype(np.bool_)
    return Arena([layer], spikes.shape, pixels=False).run(spikes).astype(np.int64)


def _profile(arenas: list[tuple[Part, Arena]], values: NDArray[np.generic]) -> NDArray[np.uint64]:
    spent = []
    for part, arena in arenas:
        out, layers = arena.profile(values)
        values = out if part.pixels else values
        spent.append(layers)
    return np.concatenate(spent)
