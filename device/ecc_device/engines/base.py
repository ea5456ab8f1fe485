"""What every engine is: something that runs the integer program and emits its bits."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ecc_model.bits import Spikes
from ecc_model.frames import Pixels
from ecc_model.program import Program


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


def logits(program: Program, sums: NDArray[np.integer]) -> NDArray[np.float32]:
    """Integer sums (N,) to logits (N,); one float32 product each, the same on every machine."""
    scaled = sums.astype(np.float32)
    scaled *= program.readout.scale
    return scaled
