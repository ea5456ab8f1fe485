"""A program's exits, by what an engine knows: layers other than probes.

What the exit that ships with a model and one learnt in closed form have in common is run once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ecc_device.engines.base import Run, Segment
from ecc_model.bits import Spikes
from ecc_model.layers import AnyLayer, Layer, Probe, Readout, Shape, Tap, Terminal, section_shape
from ecc_model.program import Program
from ecc_model.reference import count, join

Sums = NDArray[Any]  # integers (N,)
Part = Callable[[Spikes, int], list[Sums]]
"""(leading steps of spikes at the split point, the step that they start at) -> the sums of each exit over them."""


class Exits:
    """The exits of a program, joined to logits."""

    def __init__(self, program: Program, segment: Segment) -> None:
        exits = list(program.exits.values())
        self._scales = [cast(Terminal, layers[-1]).scale for layers in exits]
        self._run = _both(exits, program.split_shape, segment)
        self._sums: list[Sums] = []
        self._known = program.known

    def logits(self, split: Spikes, start: int = 0) -> NDArray[np.float32]:
        """Logits (N,): of each exit one float32 product a class, then joined; the same on every machine."""
        found = self._run(split, start)
        if start:
            found = [before + more for before, more in zip(self._sums, found, strict=True)]
        self._sums = found
        scaled = [sums.astype(np.float32) * scale for sums, scale in zip(found, self._scales, strict=True)]
        return join(scaled, self._known)


class Counter:
    """Numbers of spikes behind some layers, cut into segments at the taps: see `ecc_model.layers.Probe`.

    shape: (T, C, H, W) of the spikes that enter.
    """

    def __init__(self, layers: Sequence[Layer], taps: Sequence[Tap], shape: Shape, segment: Segment) -> None:
        self._segments: list[tuple[Run | None, Shape, list[int]]] = []  # with the shape that enters, and grids behind
        for before, after in itertools.pairwise([0, *sorted({tap.after for tap in taps})]):
            part, entering = layers[before:after], _entering(layers[:before], shape)
            grids = [tap.grid for tap in taps if tap.after == after]
            self._segments.append((segment(part, entering) if part else None, entering, grids))

    def counts(self, split: Spikes, start: int = 0) -> NDArray[np.int64]:
        """Spikes (t, C, H, W), from step `start` on -> int64 (D,), for one tap after the other."""
        return self.run(split, start)[0]

    def run(self, split: Spikes, start: int) -> tuple[NDArray[np.int64], Spikes]:
        """The counts, and the spikes behind the last tap."""
        found, spikes = [], split
        for run, shape, grids in self._segments:
            if run is not None:
                spikes = run(spikes.reshape(-1, *shape[1:]), start)
            found += [count(spikes, grid) for grid in grids]
        return np.concatenate(found), spikes


def _both(exits: Sequence[tuple[AnyLayer, ...]], shape: Shape, segment: Segment) -> Part:
    """All exits on the same spikes; layers that a second one counts behind, and the first one begins with, once."""
    ends = [type(layers[-1]) for layers in exits]
    if ends == [Readout, Probe] and _begins_with(exits[0], exits[1][:-1]):
        return _shared(exits[0], exits[1], shape, segment)
    runs = [_alone(layers, shape, segment) for layers in exits]
    return lambda split, start: [run(split, start) for run in runs]


def _shared(first: Sequence[AnyLayer], second: Sequence[AnyLayer], shape: Shape, segment: Segment) -> Part:
    probe, common = cast(Probe, second[-1]), cast(Sequence[Layer], second[:-1])
    counter, behind = Counter(common, probe.taps, shape, segment), _entering(common, shape)
    rest, sums = segment(cast(Sequence[Layer], first[len(common) :]), behind), _probe_sums(probe)

    def run(split: Spikes, start: int) -> list[Sums]:
        counts, spikes = counter.run(split, start)
        return [rest(spikes.reshape(-1, *behind[1:]), start), sums(counts, start)]

    return run


def _alone(layers: Sequence[AnyLayer], shape: Shape, segment: Segment) -> Callable[[Spikes, int], Sums]:
    last = layers[-1]
    if not isinstance(last, Probe):
        return segment(cast(Sequence[Layer], layers), shape)
    counter, sums = Counter(cast(Sequence[Layer], layers[:-1]), last.taps, shape, segment), _probe_sums(last)
    return lambda split, start: sums(counter.counts(split, start), start)


def _probe_sums(probe: Probe) -> Callable[[NDArray[np.int64], int], Sums]:
    weight, bias = probe.weight.astype(np.float64), probe.bias.astype(np.int64)  # floats hold these sums exactly

    def sums(counts: NDArray[np.int64], start: int) -> Sums:
        products: NDArray[np.int64] = (weight @ counts).astype(np.int64)
        return products if start else products + bias

    return sums


def _entering(layers: Sequence[AnyLayer], shape: Shape) -> Shape:
    """The shape behind the layers, four numbers also for neurons without a map."""
    found = section_shape(layers, shape)
    return found + (1,) * (4 - len(found))


def _begins_with(layers: Sequence[AnyLayer], others: Sequence[AnyLayer]) -> bool:
    return len(layers) >= len(others) and all(map(_equal, layers, others))


def _equal(one: Any, other: Any) -> bool:
    """Whether two layers, or what they hold, are the same numbers."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Layer):
        return all(_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one is other or np.array_equal(one, other)
