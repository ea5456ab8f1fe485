"""What every engine is: something that runs the integer program and emits its bits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from ecc_model.bits import Spikes
from ecc_model.frames import FrameSpec, Pixels, fit
from ecc_model.layers import AnyLayer, Layer, Probe, Shape, Tap, Terminal, section_shape
from ecc_model.program import Program
from ecc_model.reference import count

Run = Callable[[Spikes], NDArray[Any]]
Segment = Callable[[Sequence[Layer], Shape], Run]
"""Makes what runs some layers, of which none is a probe, on spikes of a shape (T, C, H, W).

It answers with spikes bool (T, C, H, W) or (T, N), or where the last layer is a readout with its sums, integers (N,).
"""


class Engine(Protocol):
    """What the runtime asks of an engine. Shapes are those of `Program`; any thread may call it."""

    name: str
    program: Program

    def head(self, frame: Pixels) -> Spikes:
        """`uint8` (H, W, C) or (T, H, W, C), any size -> spikes at the split point (T, C, H, W)."""
        ...

    def encode(self, split: Spikes) -> Spikes:
        """Spikes at the split point -> spikes that travel (T, C', H', W')."""
        ...

    def exit(self, split: Spikes) -> NDArray[np.float32]:
        """Spikes at the split point -> logits (N,): int32 sums over T times the class's float32 scale."""
        ...

    def segment(self, layers: Sequence[Layer], shape: Shape) -> Run:
        """See `Segment`."""
        ...


def steps_first(frame: Pixels, spec: FrameSpec) -> Pixels:
    """A frame of any size as the head takes it, (T, C, H, W); T is 1 for a still one, which is summed once."""
    pixels = fit(frame, spec)
    return np.moveaxis(pixels if pixels.ndim == 4 else pixels[None], -1, 1)


class Exits:
    """A program's exits, by what an engine knows: layers other than probes."""

    def __init__(self, program: Program, segment: Segment) -> None:
        self._parts = [
            (_sums(layers, program.split_shape, segment), cast(Terminal, layers[-1]).scale)
            for layers in program.exits.values()
        ]

    def logits(self, split: Spikes) -> NDArray[np.float32]:
        """Logits (N,): of each exit one float32 product a class, then their sum; the same on every machine."""
        scaled = [run(split).astype(np.float32) * scale for run, scale in self._parts]
        return scaled[0] if len(scaled) == 1 else scaled[0] + scaled[1]


class Counter:
    """Numbers of spikes behind some layers, cut into segments at the taps: see `ecc_model.layers.Probe`.

    shape: (T, C, H, W) of the spikes that enter.
    """

    def __init__(self, layers: Sequence[Layer], taps: Sequence[Tap], shape: Shape, segment: Segment) -> None:
        self._segments: list[tuple[Run | None, Shape, list[int]]] = []  # with the shape that enters, and grids behind
        for before, after in itertools.pairwise([0, *sorted({tap.after for tap in taps})]):
            part = layers[before:after]
            entering = section_shape(layers[:before], shape)
            entering += (1,) * (4 - len(entering))  # neurons without a map
            grids = [tap.grid for tap in taps if tap.after == after]
            self._segments.append((segment(part, entering) if part else None, entering, grids))

    def counts(self, split: Spikes) -> NDArray[np.int64]:
        """Spikes (T, C, H, W) -> int64 (D,), for one tap after the other."""
        found, spikes = [], split
        for run, shape, grids in self._segments:
            if run is not None:
                spikes = run(spikes.reshape(shape))
            found += [count(spikes, grid) for grid in grids]
        return np.concatenate(found)


def _sums(layers: Sequence[AnyLayer], shape: Shape, segment: Segment) -> Run:
    last = layers[-1]
    if not isinstance(last, Probe):
        return segment(cast(Sequence[Layer], layers), shape)
    counter = Counter(cast(Sequence[Layer], layers[:-1]), last.taps, shape, segment)
    weight, bias = last.weight.astype(np.float64), last.bias.astype(np.int64)  # floats hold these sums exactly

    def run(split: Spikes) -> NDArray[np.int64]:
        return (weight @ counter.counts(split)).astype(np.int64) + bias

    return run
