"""Judging a model on a part of a data set, alone or against another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecc_device.calibration import entropies, fit_temperature, fit_threshold
from ecc_model.frames import Pixels
from ecc_model.numerics import normalized_entropy, softmax
from ecc_tools.batched import in_chunks
from ecc_tools.data.parts import DataSet, Part
from ecc_tools.evaluation.counting import Operations, Tally
from ecc_tools.evaluation.statistics import (
    Bin,
    Interval,
    Paired,
    calibration_error,
    confusion,
    paired,
    reliability,
    wilson,
)
from ecc_tools.evaluation.subjects import EvaluationError, Logits, Subject
from ecc_tools.runs import code_version

PartName = Literal["test", "validation"]
Progress = Callable[[float], None]  # told the finished share, 0 to 1
SCHEMA = 1


class ClassScore(msgspec.Struct, frozen=True, kw_only=True):
    """One class: its frames, the share that is answered rightly, and the class that is answered instead most often."""

    label: str
    n: int
    accuracy: float | None  # None: the part has no frame of it
    interval: Interval
    mistaken_for: str | None


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How sure a model is of itself, after its temperature."""

    fitted_on: Literal["model", "validation"]  # "model": the model file brings temperature and threshold
    temperature: float
    threshold: float | None  # of the normalized entropy; None: a cloud's model filters nothing
    above_threshold: float | None  # share of the frames that would go up
    ece: float
    bins: list[Bin]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The evaluated model beside another one, on the frames of those classes that both know."""

    model: str
    what: str
    model_sha256: str
    labels: tuple[str, ...]
    accuracy: float  # the evaluated model's, on these frames
    other_accuracy: float
    paired: Paired


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """`evaluation.json`. Accuracies and rates are shares from 0 to 1; intervals are at 95 %; operations per frame."""

    schema: int
    model: str
    what: str
    model_sha256: str
    code: str
    data: str
    part: PartName
    data_sha256: str  # of the judged frames and labels
    labels: tuple[str, ...]
    n: int
    accuracy: float
    interval: Interval
    per_class: list[ClassScore]
    confusion: list[list[int]]  # a row for each true class, a column for each answer
    calibration: Calibration
    operations: Operations
    against: Comparison | None


def evaluate(
    subject: Subject, data: DataSet, part: PartName, progress: Progress, *, against: Subject | None = None
) -> Evaluation:
    """Judge on the frames of those classes that the model knows; the test part is read only where it is asked for.

    `EvaluationError` for classes that the data or the other model lack, `FrameError` for frames that a model cannot
    take.
    """
    classes = _classes(subject, data)
    held_out = data.training()[1].of(classes) if subject.is_run or part == "validation" else None
    shown = held_out if held_out is not None and part == "validation" else data.test().of(classes)
    if not len(shown.labels):
        raise EvaluationError(f"the {part} part of {data.name} has no frame of the model's classes; give other data")
    common = None if against is None else _common(subject, against, shown)
    apart = held_out if subject.is_run and held_out is not shown else None  # what a run's temperature is fitted on
    parts = (shown, apart, None if common is None else shown.rows(common))
    run = _Runner(progress, sum(len(chosen.labels) for chosen in parts if chosen is not None))
    tally = Tally()
    logits = run(subject, shown.frames, tally)
    fitting = (shown, logits) if apart is None else (apart, run(subject, apart.frames))
    answers = logits.argmax(axis=1)
    counts = confusion(shown.labels, answers, len(subject.labels))
    hits = int(counts.trace())
    return Evaluation(
        schema=SCHEMA,
        model=str(subject.path),
        what=subject.what,
        model_sha256=subject.sha256,
        code=code_version(),
        data=data.name,
        part=part,
        data_sha256=shown.sha256,
        labels=subject.labels,
        n=len(answers),
        accuracy=hits / len(answers),
        interval=wilson(hits, len(answers)),
        per_class=_per_class(subject.labels, counts),
        confusion=counts.tolist(),
        calibration=_calibration(subject, shown, logits, fitting),
        operations=tally.operations(len(answers)),
        against=None if against is None or common is None else _compare(subject, answers, against, shown, common, run),
    )


class _Runner:
    """Runs models over frames in chunks, and tells how far it has come."""

    def __init__(self, progress: Progress, frames: int) -> None:
        self._progress, self._frames, self._done = progress, frames, 0

    def __call__(self, subject: Subject, frames: Pixels, tally: Tally | None = None) -> Logits:
        """Logits (N, classes)."""
        found = []
        for chunk in in_chunks(frames):
            found.append(subject.answer(chunk, tally))
            self._done += len(chunk)
            self._progress(self._done / self._frames)
        return np.concatenate(found)


def _classes(subject: Subject, data: DataSet) -> list[int]:
    foreign = [label for label in subject.labels if label not in data.names]
    if foreign:
        raise EvaluationError(
            f"{subject.path} knows the class '{foreign[0]}', which {data.name} lacks; give the data it was trained for"
        )
    return [data.names.index(label) for label in subject.labels]


def _per_class(labels: tuple[str, ...], counts: NDArray[np.int64]) -> list[ClassScore]:
    scores = []
    for index, label in enumerate(labels):
        n, hits = int(counts[index].sum()), int(counts[index, index])
        wrong = counts[index].copy()
        wrong[index] = 0
        scores.append(
            ClassScore(
                label=label,
                n=n,
                accuracy=hits / n if n else None,
                interval=wilson(hits, n),
                mistaken_for=labels[int(wrong.argmax())] if wrong.any() else None,
            )
        )
    return scores


def _calibration(subject: Subject, shown: Part, logits: Logits, fitting: tuple[Part, Logits]) -> Calibration:
    temperature, threshold = subject.temperature, subject.threshold
    if temperature is None:
        part, rows = fitting
        temperature = fit_temperature(rows.tolist(), part.labels.tolist())
        threshold = fit_threshold(entropies(rows, temperature))
    probabilities = [softmax(row, temperature) for row in logits.tolist()]
    bins = reliability(probabilities, shown.labels.tolist())
    above = None
    if threshold is not None:
        above = sum(normalized_entropy(row) > threshold for row in probabilities) / len(probabilities)
    return Calibration(
        fitted_on="validation" if subject.is_run else "model",
        temperature=temperature,
        threshold=threshold,
        above_threshold=above,
        ece=calibration_error(bins),
        bins=bins,
    )


def _common(subject: Subject, against: Subject, shown: Part) -> NDArray[np.int64]:
    """The rows of the frames whose class both models know."""
    known = [index for index, label in enumerate(subject.labels) if label in against.labels]
    rows = np.flatnonzero(np.isin(shown.labels, known))
    if not len(rows):
        raise EvaluationError(
            f"{subject.path} and {against.path} know no class in common that is shown; give two models of one task"
        )
    return rows


def _compare(
    subject: Subject,
    answers: NDArray[np.int64],
    against: Subject,
    shown: Part,
    rows: NDArray[np.int64],
    run: _Runner,
) -> Comparison:
    shared = shown.rows(rows)
    logits = run(against, shared.frames)
    named = [against.labels[answer] for answer in logits.argmax(axis=1)]
    first = answers[rows] == shared.labels
    second = np.array([subject.labels[label] for label in shared.labels]) == np.array(named)
    return Comparison(
        model=str(against.path),
        what=against.what,
        model_sha256=against.sha256,
        labels=tuple(label for label in subject.labels if label in against.labels),
        accuracy=float(first.mean()),
        other_accuracy=float(second.mean()),
        paired=paired(first, second),
    )
