"""What an update learnt, joined with what the model knew: its own exit goes on deciding among its classes.

The exit that learnt decides whether a frame shows one of them or a new class, and which: `ecc_model.reference.join`.
One number is fitted for it: how much more than a known class a new one must have, so that few known frames are taken
for new ones. It comes from rows that no learner saw, those that judge the update, too.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ecc_device.learning.lesson import exit_logits
from ecc_device.learning.unlearnt import Unlearnt
from ecc_model import statistics
from ecc_model.layers import Readout
from ecc_model.modelfile import EdgeModel
from ecc_model.program import Program

TAKEN_FOR_NEW = 0.025  # share of known rows, answered rightly before, that may be


def joined(model: EdgeModel, learnt: Program, unlearnt: Unlearnt) -> Program:
    """The model's program with the exit of `learnt` for its second one.

    `learnt` itself where it has no new class, or where the model's first exit is none of a network.
    """
    program, last = model.program, model.program.exit[-1]
    if not isinstance(last, Readout) or len(last.weight) == learnt.classes:
        return learnt
    known = len(last.weight)
    logits = exit_logits(learnt, unlearnt.rows)
    temperature = unlearnt.temperature(logits)
    old = (np.arange(len(unlearnt.rows)) < unlearnt.judging) & (unlearnt.labels < known)
    own = exit_logits(replace(program, second=(), known=0), unlearnt.rows[old]).argmax(axis=1)
    right = logits[old][own == unlearnt.labels[old]] / temperature
    # by how much more each row looks new than known, from the most on
    lead = np.sort(right[:, known:].max(axis=1) - right[:, :known].max(axis=1))[::-1]
    least = max(0.0, *lead[int(TAKEN_FOR_NEW * len(lead)) :][:1].tolist())
    unit = model.temperature / temperature  # that of the logits which these are joined with
    second = statistics.scaled(learnt.exit, unit)
    return replace(
        program, second=statistics.lowered(second, known, model.temperature * least, program.steps), known=known
    )
