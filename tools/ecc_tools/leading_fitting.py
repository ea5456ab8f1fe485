"""How a worker answers leading time steps: how many come first, and from which margin on they do.

Fitted on validation frames: of the numbers of steps that go first, the one with the fewest bytes, where the margin is
the smallest from which on at most `MOST_LOST` of the answers get wrong that all steps would have had right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecc_broker.messages import Leading
from ecc_device.calibration import fit_temperature
from ecc_device.questions import FIRST, REST, WHOLE, Question
from ecc_model.bits import Spikes
from ecc_model.modelfile import LeadingInfo
from ecc_model.numerics import margin, softmax
from ecc_model.rates import RateTable
from ecc_tools.data.parts import Labels

MOST_LOST = 0.001
ROW, BUDGET_MS = 65535, 200  # of a typical request
NAME = bytes(4)

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]
Logits = NDArray[np.float32]


class PartBytes(NamedTuple):
    """Bytes of the requests for N codes, (N,) each: the leading steps, those behind them, all."""

    first: Numbers
    rest: Numbers
    whole: Numbers


def part_bytes(codes: Spikes, table: RateTable | None, steps: int) -> PartBytes:
    """What the parts of codes (N, T, C, H, W) weigh, with `steps` first."""
    questions = [Question(ROW, code, NAME, table, Leading(steps, 0)) for code in codes]
    sizes = [[len(question.message(part, BUDGET_MS)) for part in (FIRST, REST, WHOLE)] for question in questions]
    return PartBytes(*np.array(sizes, np.float64).T)


def margins(logits: Logits) -> Numbers:
    """By how much the best class leads, as the worker computes it, for calibrated logits (N, classes): (N,)."""
    return np.array([margin(softmax(row)) for row in logits.tolist()])


def fit_leading(
    codes: Spikes, table: RateTable, whole: Logits, alone: Callable[[int], Logits], labels: Labels
) -> LeadingInfo | None:
    """For codes (N, T, C, H, W) and true labels (N,); None where two requests would mostly be no shorter than one.

    whole: calibrated logits for all steps; alone: for a number of leading steps, divided by the same temperature.
    """
    found: tuple[float, LeadingInfo | None] = (float(part_bytes(codes, table, 1).whole.mean()), None)
    for steps in range(1, codes.shape[1]):
        logits = alone(steps)
        temperature = fit_temperature(logits.tolist(), labels.tolist())
        sure = margins(logits / np.float32(temperature))
        limit = fit_margin(sure, logits.argmax(1) == labels, whole.argmax(1) == labels)
        if limit is None:
            continue
        needs_more = sure < limit
        sizes = part_bytes(codes, table, steps)
        expected = float((sizes.first + needs_more * sizes.rest).mean())
        info = LeadingInfo(steps=steps, margin=limit, temperature=temperature, more=float(needs_more.mean()))
        found = min(found, (expected, info), key=lambda one: one[0])
    return found[1]


def fit_margin(sure: Numbers, alone_right: Flags, whole_right: Flags) -> float | None:
    """The smallest margin from which on asking for the rest below it loses at most `MOST_LOST` of the answers.

    None where even the largest margin of all loses more. sure: margins of leading steps (N,); alone_right, whole_right:
    whether their answers, and those of all steps, are right.
    """
    order = np.argsort(sure, kind="stable")
    gained = whole_right[order].astype(np.int64) - alone_right[order]
    lost = whole_right.sum() - alone_right.sum() - np.concatenate([[0], np.cumsum(gained)])  # with the first k asked
    limits, asked = np.unique(sure, return_counts=True)
    lost = lost[np.cumsum(asked) - asked]  # at each limit, with all below it asked
    too_many = np.flatnonzero(lost > MOST_LOST * len(sure))
    if len(too_many) == 0:
        return 0.0
    return float(limits[too_many[-1] + 1]) if too_many[-1] + 1 < len(limits) else None
