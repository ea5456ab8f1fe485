"""What every engine is: something that runs the integer program and emits its bits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ecc_model.bits import Spikes
from ecc_model.frames import FrameSpec, Pixels, fit
from ecc_model.layers import Layer, Shape
from ecc_model.program import Program


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

    def encode(self, split: Spikes, encoder: int = 0) -> Spikes:
        """Spikes at the split point -> those that travel (T, C', H', W'), by one of the program's `encoders`."""
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


class WholeHead(ABC):
    """An engine whose head runs all steps of a frame at once, and hands them out as they are asked for."""

    _split: Spikes

    def head(self, frame: Pixels, start: int = 0, stop: int | None = None) -> Spikes:
        """See `Engine.head`."""
        if start == 0:
            self._split = self._whole(frame)
        return self._split[start:stop]

    @abstractmethod
    def _whole(self, frame: Pixels) -> Spikes: ...
