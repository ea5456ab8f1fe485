"""What one run of the demo has measured: everything that its report shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_model.frames import Pixels


@dataclass(frozen=True)
class DemoModels:
    """The files that a demo runs on: two models, two recorded streams with labels (.npz)."""

    edge: Path
    cloud: Path
    first: Path
    second: Path


@dataclass(frozen=True, eq=False)
class Stream:
    """One replay, frame by frame. All arrays have one entry per frame."""

    name: str  # "first" (before the update) or "second" (after it, other frames)
    time_s: NDArray[np.float64]
    edge_right: NDArray[np.bool_]  # the edge's own answer
    right: NDArray[np.bool_]  # the answer that stands
    uploaded: NDArray[np.bool_]
    known: NDArray[np.bool_]  # a class that the edge was trained on at Setup


@dataclass(frozen=True, eq=False)
class Curve:
    """Collaborative accuracy on the second stream against the number of uploads, most ambiguous frames first.

    accuracy: (N + 1,), entry k with the k most ambiguous of N frames sent up; operating: uploads at the threshold.
    """

    accuracy: NDArray[np.float64]
    operating: int


@dataclass(frozen=True, eq=False)
class Example:
    """A frame that went up, with both answers (label, probability)."""

    pixels: Pixels
    truth: str
    edge: tuple[str, float]
    cloud: tuple[str, float]


@dataclass(frozen=True)
class LearnerRow:
    """One learner on the same uploaded rows, judged on the second stream (percent)."""

    name: str
    edge_accuracy: float
    known_loss_points: float  # accuracy lost on the classes of Setup
    upload_rate: float
    upload_rate_not_recalibrated: float  # with the old temperature and threshold
    collab_accuracy: float
    uploads_needed: int | None  # for the collaborative accuracy of the old model at its threshold; None: not reached


@dataclass(frozen=True, eq=False)
class DemoData:
    """All that the report shows. `report` follows the report contract (docs/report.md)."""

    report: dict[str, Any]
    streams: list[Stream]
    entropy_before: NDArray[np.float64]  # second stream, old model
    entropy_after: NDArray[np.float64]  # second stream, new model
    threshold_before: float
    threshold_after: float
    curve_before: Curve
    curve_after: Curve
    target_accuracy: float  # collaborative accuracy that `uploads_needed` is counted for
    learners: list[LearnerRow]  # before the update, the device's learner, LwF as published
    examples: list[Example]
    checks: list[tuple[str, str, bool]]  # what is promised, what was measured, kept or not
