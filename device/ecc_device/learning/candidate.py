"""One update from job to candidate: learn, make integers, recalibrate, judge. Runs in the learner's process.

Torch is loaded where a learner needs it, and only there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecc_device.early import fit_early, step_logits
from ecc_device.learning import analytic
from ecc_device.learning.checkpoint import Checkpoint
from ecc_device.learning.clear import clarity
from ecc_device.learning.doubt import believe
from ecc_device.learning.gate import Flags, decide
from ecc_device.learning.job import Job, Outcome
from ecc_device.learning.joining import joined
from ecc_device.learning.lesson import Learnt, Logits, exit_logits, make_lesson, unpack_rows
from ecc_device.learning.memory import memory_typed
from ecc_device.learning.recipes import JOINED, LEARNERS, LWF, REPLAY_PER_NEW_CLASS
from ecc_device.learning.unlearnt import unlearnt_rows
from ecc_model.errors import EccError, MissingPackage, UpdateError
from ecc_model.modelfile import EarlyInfo, EdgeModel, GuardSet, read_edge, write_learnt
from ecc_model.optional import require
from ecc_model.program import Program
from ecc_model.statistics import Statistics

PROBE_ROWS = 4


@dataclass(frozen=True, eq=False)
class Taught:
    """A candidate in memory: what was learnt, the grown guard set and statistics, and how it was calibrated.

    logits: of the rows that calibrated it. early: None where all frames must take all steps.
    """

    learner: str
    learnt: Learnt
    guard: GuardSet
    statistics: Statistics | None
    temperature: float
    threshold: float
    logits: Logits
    early: EarlyInfo | None

    @property
    def program(self) -> Program:
        """The integer program with the learnt exit."""
        return self.learnt.program


class Course:
    """The candidates of one update, each made once. Held-out rows are never learnt from: they calibrate and judge.

    job: without the rows that contradict clear answers, which `contradicted` counts; before: the old model's logits of
    the rows that judge; factory: which of them the factory's model answers rightly, see `GuardSet`, or the old model
    where its file does not say. `UpdateError` when too few rows are left.
    """

    def __init__(
        self,
        job: Job,
        arrays: dict[str, NDArray[Any]],
        progress: Callable[[float], None],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.model = read_edge(job.model)
        believed = believe(self.model, job, arrays)
        self.job, self.contradicted = believed.job, believed.contradicted
        self.unlearnt = unlearnt_rows(self.model, believed.arrays)
        self.before: Logits = np.concatenate([believed.judging, believed.held])
        known = self.model.guard.factory
        own = self.unlearnt.right(self.before)[: self.unlearnt.judging]
        self.factory: Flags = own if known is None else known.astype(np.bool_)
        self._lesson = make_lesson(self.model, job, believed.arrays, progress, checkpoint or Checkpoint(None))
        self._guard = grow_guard(self.model.guard, believed.arrays, len(self.model.labels), self.factory)
        self._learnt: dict[str, Learnt | EccError] = {}
        self._taught: dict[str, Taught | EccError] = {}

    def taught(self, learner: str) -> Taught:
        """One learner's candidate.

        `EccError` if this model file, this installation or the memory has not got the means for it, or if what it
        learnt makes no program.
        """
        return _once(self._taught, learner, self._teach)

    def _teach(self, learner: str) -> Taught:
        learnt = _once(self._learnt, learner, self._learn)
        if learner in JOINED:
            learnt = replace(learnt, program=joined(self.model, learnt.program, self.unlearnt))
        steps = step_logits(learnt.program, unpack_rows(self.unlearnt.rows, learnt.program))
        calibration = self.unlearnt.calibrate(steps[:, -1])
        early = fit_early(steps, self.unlearnt.labels)
        return Taught(learner, learnt, self._guard, self._lesson.statistics, *calibration, steps[:, -1], early)

    def _temperature(self, program: Program) -> float:
        return self.unlearnt.temperature(exit_logits(program, self.unlearnt.rows))

    def _learn(self, learner: str) -> Learnt:
        if learner == "analytic":
            return analytic.learn(self._lesson)
        if learner == "both":
            trained, closed = (_once(self._learnt, part, self._learn) for part in ("lwf", "analytic"))
            warm, cool = (self._temperature(part.program) for part in (trained, closed))
            return Learnt(analytic.average(trained.program, warm, closed.program, cool), trained.net)
        require("torch", "on-device learning")
        from ecc_device.learning import lwf  # loads torch, which is asked for first, by name

        return lwf.learn_lesson(self._lesson, LWF[learner])


Made = TypeVar("Made")


def _once(kept: dict[str, Made | EccError], learner: str, make: Callable[[str], Made]) -> Made:
    """What `make` makes for a learner, or the error that it ends with, made once. Running out of memory is typed."""
    if learner not in kept:
        try:
            with memory_typed():
                kept[learner] = make(learner)
        except EccError as error:
            kept[learner] = error
    found = kept[learner]
    if isinstance(found, EccError):
        raise found
    return found


def possible(learner: str, model: EdgeModel) -> tuple[str, ...]:
    """The candidates that a choice asks for; of several those that statistics and torch allow."""
    wanted = LEARNERS[learner]
    if len(wanted) == 1:
        return wanted
    if model.statistics is None:
        return tuple(name for name in wanted if name in LWF)
    try:
        require("torch", "on-device learning")
    except MissingPackage:
        return ("analytic",)
    return wanted


def grow_guard(guard: GuardSet, arrays: dict[str, NDArray[Any]], old_classes: int, factory: Flags) -> GuardSet:
    """The guard set with this update's held-out rows as judges, and some learnt rows of each new class to replay."""
    labels = arrays["logits"].argmax(axis=1).astype(np.int32)
    held = arrays["held"].astype(np.bool_)
    new = labels >= old_classes
    replay = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels[new]):
        replay[np.flatnonzero((labels == label) & ~held)[:REPLAY_PER_NEW_CLASS]] = True
    joining = (held & new) | replay
    return GuardSet(
        np.concatenate([guard.bits, arrays["bits"][joining]]),
        np.concatenate([guard.labels, labels[joining]]),
        np.concatenate([guard.judge, held[joining].astype(np.uint8)]),
        factory.astype(np.uint8),
    )


@dataclass(frozen=True)
class Judgement:
    """What the gate says of one candidate."""

    accepted: bool
    reason: str
    figures: dict[str, Any]

    @property
    def rank(self) -> tuple[bool, float, float]:
        """The gate prefers what ranks higher: accepted ones, then more held-out rows right, then a smaller loss."""
        return self.accepted, self.figures["held_agreement_after"], -self.figures["known_loss_points"]


def judge(course: Course, taught: Taught) -> Judgement:
    """The gate's decision, with calibration error, temperature and threshold before and after."""
    model, unlearnt, cut = course.model, course.unlearnt, course.unlearnt.judging
    accepted, reason, figures = decide(unlearnt.exam(course.before, taught.logits, course.factory), list(model.labels))
    clear = clarity(course.before[:cut], taught.logits[:cut], model.temperature)
    figures |= {
        "learner": taught.learner,
        "rows": len(course.job.row_ids),
        "unsure": course.job.unsure,
        "contradicted": course.contradicted,
        "new_classes": course.job.labels[len(model.labels) :],
        "clear_entropy": clear.entropy,
        "clear_rows": clear.rows,
        "clear_changed": clear.changed,
        "ece_before": round(unlearnt.calibration_error(course.before, model.temperature), 4),
        "ece_after": round(unlearnt.calibration_error(taught.logits, taught.temperature), 4),
        "temperature": [model.temperature, taught.temperature],
        "threshold": [model.threshold, taught.threshold],
    }
    return Judgement(accepted, reason, figures)


def make_candidate(
    folder: Path,
    job: Job,
    arrays: dict[str, NDArray[Any]],
    progress: Callable[[float], None],
    checkpoint: Checkpoint | None = None,
) -> Outcome:
    """Teach, judge, and write the candidate that the gate prefers as `candidate.pt`."""
    course = Course(job, arrays, progress, checkpoint)
    taught, skipped = _all_taught(course)
    judged = [judge(course, one) for one in taught]
    best = max(range(len(judged)), key=lambda index: judged[index].rank)
    path, chosen = folder / "candidate.pt", judged[best]
    write_taught(path, course.job, taught[best])
    candidate = read_edge(path)
    probe = exit_logits(candidate.program, probe_rows(candidate.guard))
    candidates = [{"reason": one.reason, **_short(one.figures)} for one in judged]
    progress(1.0)
    return Outcome(
        accepted=chosen.accepted,
        reason=chosen.reason,
        sha256=candidate.sha256,
        figures=chosen.figures | {"candidates": candidates, "skipped": skipped},
        probe=probe.tolist(),
        row_ids=course.job.row_ids,
    )


def _all_taught(course: Course) -> tuple[list[Taught], dict[str, str]]:
    """The candidates of the job's learners, and why others could not make one; `EccError` when none could."""
    taught, skipped = [], {}
    wanted = possible(course.job.learner, course.model)
    for learner in wanted:
        try:
            taught.append(course.taught(learner))
        except EccError as error:
            if len(wanted) == 1:
                raise
            skipped[learner] = str(error)
    if not taught:
        raise UpdateError("; ".join(f"{learner}: {reason}" for learner, reason in skipped.items()))
    return taught, skipped


def _short(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: figures[name] for name in ("learner", "held_agreement_after", "known_loss_points", "ece_after")}


def write_taught(path: Path, job: Job, taught: Taught) -> None:
    """A candidate's model file; with torch only where its network learnt. `ModelError`."""
    model = read_edge(job.model)
    parts = taught.program, taught.guard
    provenance = {"parent": model.sha256, "learner": taught.learner, "rows": str(len(job.row_ids))}
    told: dict[str, Any] = {
        "labels": job.labels,
        "temperature": taught.temperature,
        "threshold": taught.threshold,
        "early": taught.early,
        "provenance": model.manifest.provenance | provenance,
        "statistics": taught.statistics,
    }
    if taught.learnt.net is None:
        write_learnt(path, model, *parts, **told)
        return
    from ecc_model.nets.checkpoint import save_edge  # loads torch, which has learnt already

    save_edge(path, taught.learnt.net, *parts, rates=model.tables, accepted=model.accepted, **told)


def probe_rows(guard: GuardSet) -> NDArray[np.uint8]:
    """The first judging rows, for the bit-for-bit check after a swap."""
    return guard.bits[guard.judge.astype(np.bool_)][:PROBE_ROWS]
