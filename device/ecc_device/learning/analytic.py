"""Learning in closed form: the discriminant of the grown class statistics, on what the frozen factory exit counts."""

from __future__ import annotations

from dataclasses import replace

from ecc_device.learning.lesson import Learnt, Lesson
from ecc_model import statistics
from ecc_model.errors import UpdateError
from ecc_model.layers import AnyLayer
from ecc_model.program import Program

NO_STATISTICS = "the model file has no statistics to learn from in closed form; learn with: --learner lwf"


def learn(lesson: Lesson) -> Learnt:
    """One solve, no gradients, no torch. `UpdateError` for a model without statistics."""
    if lesson.statistics is None:
        raise UpdateError(NO_STATISTICS)
    program = lesson.model.program
    exit_ = statistics.make_exit(program, lesson.statistics, *statistics.solve(lesson.statistics))
    return Learnt(replace(program, exit=exit_, second=(), known=0))


def average(first: Program, first_temperature: float, second: Program, second_temperature: float) -> Program:
    """The mean of both programs' logits, each divided by its own temperature before; both have one exit."""

    def half(exit_: tuple[AnyLayer, ...], temperature: float) -> tuple[AnyLayer, ...]:
        return statistics.scaled(exit_, 0.5 / temperature)

    return replace(first, exit=half(first.exit, first_temperature), second=half(second.exit, second_temperature))
