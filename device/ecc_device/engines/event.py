"""The event engine: the program in C, at a cost that follows the spikes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecc_device.engines.arena import Arena, chosen_isa
from ecc_device.engines.base import Run
from ecc_device.engines.exits import Exits
from ecc_model.bits import Spikes
from ecc_model.frames import Pixels, fit
from ecc_model.layers import Layer, Shape
from ecc_model.program import Program


class EventEngine:
    """Adds, for each spike, one row of weights to the sums that it reaches; a frame allocates nothing in C.

    isa: the instruction set in use; threads: how many share the rows of a map, while no other engine of the process
    uses them. `MissingEngine` where the C library was not built.
    """

    name = "event"

    def __init__(self, program: Program, threads: int = 1) -> None:
        self.program = program
        self.isa = chosen_isa()
        self._threads = threads
        self._head = Arena(program.head, program.frame_shape, pixels=True, threads=threads)
        self._encoders = [
            Arena(layers, program.split_shape, pixels=False, threads=threads) for layers in program.encoders
        ]
        self._exits = Exits(program, self.segment)

    def head(self, frame: Pixels, start: int = 0, stop: int | None = None) -> Spikes:
        """See `Engine.head`."""
        count = (self.program.steps if stop is None else stop) - start
        return self._head.run(fit(frame, self.program.input), start, count)

    def encode(self, split: Spikes, encoder: int = 0) -> Spikes:
        """See `Engine.encode`."""
        return self._encoders[encoder].run(split)

    def exit(self, split: Spikes, start: int = 0) -> NDArray[np.float32]:
        """See `Engine.exit`."""
        return self._exits.logits(split, start)

    def segment(self, layers: Sequence[Layer], shape: Shape) -> Run:
        """See `Engine.segment`."""
        arena = Arena(layers, shape, pixels=False, threads=self._threads)
        return lambda spikes, start=0: arena.run(spikes, start, len(spikes))
