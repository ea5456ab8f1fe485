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
from ecc_model.reference import count, join


class Run(Protocol):
    """Some layers, of which none is a probe, on leading steps of spikes (t, C, H, W); t is T at most.

    It answers with spikes bool (t, C, H, W) or (t, N), or where the last layer is a readout with its sums over the
    steps, integers (N,). `start` > 0: the spikes go on where the last call stopped, and so does the answer.
    """

    def __call__(self, spikes: Spikes, start: int = 0, /) -> NDArray[Any]:
        """See above."""
        ...


Segment = Callable[[Sequence[Layer], Shape], Run]
"""Makes what runs some layers on spikes of a shape (T, C, H, W)."""


class Engine(Protocol):
    """What the runtime asks of an engine. Shapes are those of `Program`; any thread may call it.

    A frame may be run a few steps at a time: a `start` above 0 goes on from the last call; one thread sees to that.
    """

    name: str
    program: Program

    def head(self, frame: Pixels, start: int = 0, stop: int | None = None) -> Spikes:
        """`uint8` (H, W, C) or (T, H, W, C), any size -> spikes at the split point (t, C, H, W).

        These are of the steps from `start` to `stop`, to the last one if nothing is said.
        """
        ...

    def encode(self, split: Spikes) -> Spikes:
        """Spikes at the split point -> spikes that travel (T, C', H', W')."""
        ...

    def exit(self, split: Spikes, start: int = 0) -> NDArray[np.float32]:
        """Spikes at the split point, from step `start` on -> logits (N,): sums over all steps so far times a scale.

        The sums are int32, the scale is the class's, float32.
        """
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
        self._sums: list[NDArray[Any]] = []
        self._known = program.known

    def logits(self, split: Spikes, start: int = 0) -> NDArray[np.float32]:
        """Logits (N,): of each exit one float32 product a class, then joined; the same on every machine."""
        found = [run(split, start) for run, _ in self._parts]
        if start:
            found = [before + more for before, more in zip(self._sums, found, strict=True)]
        self._sums = found
        scaled = [sums.astype(np.float32) * scale for sums, (_, scale) in zip(found, self._parts, strict=True)]
        return join(scaled, self._known)


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

    def counts(self, split: Spikes, start: int = 0) -> NDArray[np.int64]:
        """Spikes (t, C, H, W), from step `start` on -> int64 (D,), for one tap after the other."""
        found, spikes = [], split
        for run, shape, grids in self._segments:
            if run is not None:
                spikes = run(spikes.reshape(-1, *shape[1:]), start)
            found += [count(spikes, grid) for grid in grids]
        return np.concatenate(found)


def _sums(layers: Sequence[AnyLayer], shape: Shape, segment: Segment) -> Run:
    last = layers[-1]
    if not isinstance(last, Probe):
        return segment(cast(Sequence[Layer], layers), shape)
    counter = Counter(cast(Sequence[Layer], layers[:-1]), last.taps, shape, segment)
    weight, bias = last.weight.astype(np.float64), last.bias.astype(np.int64)  # floats hold these sums exactly

    def run(split: Spikes, start: int = 0) -> NDArray[np.int64]:
        sums: NDArray[np.int64] = (weight @ counter.counts(split, start)).astype(np.int64)
        return sums if start else sums + bias

    return run


class Whole:
    """A `Run` on an engine that keeps no membranes between calls: to go on, it runs the steps before again."""

    def __init__(self, run: Callable[[Spikes], NDArray[Any]]) -> None:
        self._run = run
        self._seen: Spikes = np.zeros(0, np.bool_)

    def __call__(self, spikes: Spikes, start: int = 0, /) -> NDArray[Any]:
        """See `Run`."""
        self._seen = np.concatenate([self._seen[:start], spikes]) if start else spikes
        out = self._run(self._seen)
        if start == 0:
            return out
        return out - self._run(self._seen[:start]) if out.ndim == 1 else out[start:]


class WholeHead:
    """An engine whose head runs all steps of a frame at once, and hands them out as they are asked for."""

    _split: Spikes

    def head(self, frame: Pixels, start: int = 0, stop: int | None = None) -> Spikes:
        """See `Engine.head`."""
        if start == 0:
            self._split = self._whole(frame)
        return self._split[start:stop]

    def _whole(self, frame: Pixels) -> Spikes:
        raise NotImplementedError
