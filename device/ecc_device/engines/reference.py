"""The reference engine: the definition of the program, run as it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_device.engines.base import Run
from ecc_model import reference
from ecc_model.bits import Spikes
from ecc_model.frames import Pixels, fit
from ecc_model.layers import Layer, Readout, Shape
from ecc_model.program import Program


class ReferenceEngine:
    """The definition itself, slowly."""

    name = "reference"

    def __init__(self, program: Program) -> None:
        self.program = program

    def head(self, frame: Pixels) -> Spikes:
        """See `Engine.head`."""
        pixels = reference.frame_input(fit(frame, self.program.input), self.program.steps)
        return reference.run(self.program.head, pixels)[0].astype(np.bool_)

    def encode(self, split: Spikes) -> Spikes:
        """See `Engine.encode`."""
        return reference.run(self.program.encoder, split)[0].astype(np.bool_)

    def exit(self, split: Spikes) -> NDArray[np.float32]:
        """See `Engine.exit`."""
        return reference.logits(self.program, split)

    def segment(self, layers: Sequence[Layer], shape: Shape) -> Run:
        """See `Engine.segment`."""

        def run(spikes: Spikes) -> NDArray[Any]:
            out = reference.run(layers, spikes)[0]
            return out if isinstance(layers[-1], Readout) else out.astype(np.bool_)

        return run
