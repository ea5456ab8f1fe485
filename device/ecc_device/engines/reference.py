"""The reference engine: the definition of the program, run as it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_device.engines.base import Run, Whole, WholeHead
from ecc_model import reference
from ecc_model.bits import Spikes
from ecc_model.frames import Pixels, fit
from ecc_model.layers import Layer, Readout, Shape
from ecc_model.program import Program


class ReferenceEngine(WholeHead):
    """The definition itself, slowly."""

    name = "reference"

    def __init__(self, program: Program) -> None:
        self.program = program
        self._shown: Spikes = np.zeros(0, np.bool_)  # what the exit has seen of a frame

    def _whole(self, frame: Pixels) -> Spikes:
        pixels = reference.frame_input(fit(frame, self.program.input), self.program.steps)
        return reference.run(self.program.head, pixels)[0].astype(np.bool_)

    def encode(self, split: Spikes, encoder: int = 0) -> Spikes:
        """See `Engine.encode`."""
        return reference.run(self.program.encoders[encoder], split)[0].astype(np.bool_)

    def exit(self, split: Spikes, start: int = 0) -> NDArray[np.float32]:
        """See `Engine.exit`."""
        self._shown = np.concatenate([self._shown[:start], split]) if start else split
        return reference.logits(self.program, self._shown)

    def segment(self, layers: Sequence[Layer], shape: Shape) -> Run:
        """See `Engine.segment`."""

        def run(spikes: Spikes) -> NDArray[Any]:
            out = reference.run(layers, spikes)[0]
            return out if isinstance(layers[-1], Readout) else out.astype(np.bool_)

        return Whole(run)
