"""The rows of an update that no learner sees: they calibrate a candidate, and the gate judges it by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_device.calibration import entropies, expected_calibration_error, fit_temperature, fit_threshold
from ecc_device.learning.gate import Exam, Flags
from ecc_device.learning.lesson import Logits, Packed
from ecc_model.modelfile import EdgeModel
from ecc_model.numerics import softmax

Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Unlearnt:
    """The guard's judging rows, of known classes, and then the update's held-out ones: uint8 (R, bytes).

    labels: (R,), of the guard, and the cloud's; judging: how many rows the guard gives; classes: how many are known;
    accepted: the share of known frames that the model's threshold is for.
    """

    rows: Packed
    labels: Labels
    judging: int
    classes: int
    accepted: float

    def calibrate(self, logits: Logits) -> tuple[float, float]:
        """Temperature and threshold for a model with these logits (R, N).

        The temperature comes from all rows; the threshold, which is a share of known frames, from those that nobody
        picked for being hard: held-out rows of classes that were known before went up because they were.
        """
        temperature = self.temperature(logits)
        unpicked = (np.arange(len(self.rows)) < self.judging) | (self.labels >= self.classes)
        return temperature, fit_threshold(entropies(logits[unpicked], temperature), self.accepted)

    def temperature(self, logits: Logits) -> float:
        """The temperature alone, for logits (R, N)."""
        return fit_temperature(logits.tolist(), self.labels.tolist())

    def exam(self, before: Logits, after: Logits, factory: Flags) -> Exam:
        """Right and wrong by the logits of the old model and of the candidate; `factory`: see `Exam`."""
        old, new = self.right(before), self.right(after)
        cut = self.judging
        return Exam(old[:cut], new[:cut], self.labels[:cut], old[cut:], new[cut:], factory)

    def right(self, logits: Logits) -> Flags:
        """Where the answers by logits (R, N) are right, bool (R,)."""
        found: Flags = logits.argmax(axis=1) == self.labels
        return found

    def calibration_error(self, logits: Logits, temperature: float) -> float:
        """ECE of these logits on all rows; a class that a model does not know counts as wrong."""
        probabilities = [softmax(row, temperature) for row in logits.tolist()]
        return expected_calibration_error(probabilities, self.labels.tolist())


def unlearnt_rows(model: EdgeModel, arrays: dict[str, NDArray[Any]]) -> Unlearnt:
    """The rows of an update that judge it."""
    judging, held = model.guard.judge.astype(np.bool_), arrays["held"].astype(np.bool_)
    labels = [model.guard.labels[judging].astype(np.int64), arrays["logits"][held].argmax(axis=1)]
    rows = np.concatenate([model.guard.bits[judging], arrays["bits"][held]])
    return Unlearnt(rows, np.concatenate(labels), int(judging.sum()), len(model.labels), model.accepted)
