"""Learning in closed form: the discriminant of the grown class statistics, on what the frozen factory exit counts.

Networks tell the classes that they were trained on better apart than a linear discriminant does. So the model's own
exit goes on deciding among these, and the discriminant decides whether a frame shows one of them or a new class
(`ecc_model.reference.join`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ecc_device.calibration import fit_temperature
from ecc_device.learning.lesson import Learnt, Lesson, count_rows
from ecc_model import statistics
from ecc_model.errors import UpdateError
from ecc_model.layers import AnyLayer, Readout
from ecc_model.program import Program

NO_STATISTICS = "the model file has no statistics to learn from in closed form; learn with: --learner lwf"
TAKEN_FOR_NEW = 0.02  # share of known rows that may be, where classes overlap


def learn(lesson: Lesson) -> Learnt:
    """One solve, no gradients, no torch. `UpdateError` for a model without statistics."""
    grown, program = _grown(lesson), lesson.model.program
    last = program.exit[-1]
    if not isinstance(last, Readout) or len(last.weight) == len(grown.rows):  # no exit of a network, or no new class
        return Learnt(discriminant(lesson))
    known = len(last.weight)
    weight, bias = statistics.solve(grown)
    replayed = ~lesson.model.guard.judge.astype(np.bool_)
    labels = lesson.model.guard.labels[replayed]
    logits = count_rows(program, grown, lesson.model.guard.bits[replayed]) @ weight.T + bias
    temperature = fit_temperature(logits.tolist(), labels.tolist())
    # by how much more each known row that is answered rightly looks new, from the most on
    lead = logits[:, known:].max(axis=1) - logits[:, :known].max(axis=1)
    ordered = np.sort(lead[logits[:, :known].argmax(axis=1) == labels])[::-1]
    bias[known:] -= max(0.0, *ordered[int(TAKEN_FOR_NEW * len(ordered)) :][:1])
    unit = lesson.model.temperature / temperature  # that of the logits which it is joined with
    second = statistics.make_exit(program, grown, unit * weight, unit * bias)
    return Learnt(replace(program, second=second, known=known))


def discriminant(lesson: Lesson) -> Program:
    """The program with the discriminant of all classes for an exit."""
    grown, program = _grown(lesson), lesson.model.program
    return replace(program, exit=statistics.make_exit(program, grown, *statistics.solve(grown)), second=(), known=0)


def _grown(lesson: Lesson) -> statistics.Statistics:
    if lesson.statistics is None:
        raise UpdateError(NO_STATISTICS)
    return lesson.statistics


def average(first: Program, first_temperature: float, second: Program, second_temperature: float) -> Program:
    """The mean of both programs' logits, each divided by its own temperature before; both have one exit."""

    def half(exit_: tuple[AnyLayer, ...], temperature: float) -> tuple[AnyLayer, ...]:
        return statistics.scaled(exit_, 0.5 / temperature)

    return replace(first, exit=half(first.exit, first_temperature), second=half(second.exit, second_temperature))
