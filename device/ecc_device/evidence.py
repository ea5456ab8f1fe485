"""What a filter may look at: one frame as the edge saw it, and the model's own rows of known classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ecc_device.engines import Engine
from ecc_model import bits
from ecc_model.bits import Spikes
from ecc_model.modelfile import EdgeModel
from ecc_model.numerics import softmax


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """One frame after the edge has answered.

    frame: its index in the source; logits (N,): finite; probabilities (N,): `softmax(logits, temperature)`;
    split: spikes at the split point (T, C, H, W).
    """

    frame: int
    logits: Sequence[float]
    temperature: float
    probabilities: Sequence[float]
    split: Spikes

    @property
    def predicted(self) -> int:
        """The edge's answer: the first of the most probable classes."""
        return self.probabilities.index(max(self.probabilities))


class Known:
    """A model and the engine that runs it, with its guard set: what known classes look like."""

    def __init__(self, model: EdgeModel, engine: Engine) -> None:
        self.model, self._engine = model, engine
        self._judging = model.guard.bits[model.guard.judge.astype(np.bool_)]

    def judging(self) -> Iterator[Evidence]:
        """The judging rows as if they were frames, from index 0 on. The exit runs on them once."""
        for index, (row, logits) in enumerate(zip(self._judging, self._logits, strict=True)):
            split = bits.unpack(row.tobytes(), self.model.program.split_shape)
            probabilities = softmax(logits, self.model.temperature)
            yield Evidence(index, logits, self.model.temperature, probabilities, split)

    @cached_property
    def _logits(self) -> list[list[float]]:
        shape = self.model.program.split_shape
        return [self._engine.exit(bits.unpack(row.tobytes(), shape)).tolist() for row in self._judging]
