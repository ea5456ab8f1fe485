"""The gate: may a candidate replace the active model?

It guards against disasters on rows that were not learnt from; with a few hundred rows it cannot judge single points,
and it says how sure it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_LOSS_POINTS = 3.0  # of accuracy on known classes
MIN_JUDGE_ROWS = 200  # with 50 rows even no loss at all would allow 6 points
MIN_HELD_ROWS = 10
MIN_AGREEMENT = 0.5  # with the cloud, on held-out rows; random labels do not reach it
CERTAIN = 0.10  # one-sided
Z_90 = 1.2816  # one-sided 90 % of the normal distribution
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Exam:
    """Right or wrong, before and after: on judging rows of known classes, and on held-out rows of this update.

    known_*: bool (J,), with the class of each row; held_*: bool (H,).
    """

    known_before: Flags
    known_after: Flags
    known_class: NDArray[np.int64]
    held_before: Flags
    held_after: Flags


def decide(exam: Exam, names: list[str]) -> tuple[bool, str, dict[str, Any]]:
    """Accepted or not, the reason in one line, and the figures."""
    judged, held = len(exam.known_before), len(exam.held_before)
    loss, bound = _loss_points(exam.known_before, exam.known_after)
    before, after = _share(exam.held_before), _share(exam.held_after)
    figures = {
        "judge_rows": judged,
        "known_loss_points": round(loss, 2),
        "known_loss_bound_points": round(bound, 2),  # 90 % one-sided
        "held_rows": held,
        "held_agreement_before": round(before, 4),
        "held_agreement_after": round(after, 4),
    }
    if judged < MIN_JUDGE_ROWS or held < MIN_HELD_ROWS:
        reason = (
            f"cannot tell: {judged} judging rows (of {MIN_JUDGE_ROWS}) and {held} held-out rows (of {MIN_HELD_ROWS})"
        )
        return False, reason, figures
    if loss > MAX_LOSS_POINTS:
        return False, f"known classes lose {loss:.1f} points on {judged} rows, {MAX_LOSS_POINTS} are allowed", figures
    for index, name in enumerate(names):
        rows = exam.known_class == index
        class_loss, _ = _loss_points(exam.known_before[rows], exam.known_after[rows])
        if class_loss > MAX_LOSS_POINTS and _chance(exam.known_before[rows], exam.known_after[rows]) < CERTAIN:
            return False, f"class '{name}' certainly loses: {class_loss:.1f} points on {rows.sum()} rows", figures
    if after <= before:
        return False, f"held-out rows do not improve: {before:.0%} before, {after:.0%} after", figures
    if after < MIN_AGREEMENT:
        return False, f"held-out rows agree with the cloud in {after:.0%}, {MIN_AGREEMENT:.0%} are asked for", figures
    cost = f"known classes lose {loss:.1f} points (90 % sure: below {bound:.1f})"
    return True, f"held-out rows {before:.0%} -> {after:.0%}, {cost}", figures


def _loss_points(before: Flags, after: Flags) -> tuple[float, float]:
    """Lost points of accuracy: the estimate and its one-sided 90 % bound (paired rows, one imaginary loss added)."""
    rows = len(before)
    if rows == 0:
        return 0.0, 100.0
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    spread = math.sqrt(max(lost + won + 1 - (lost - won) ** 2 / rows, 1.0))
    return 100.0 * (lost - won) / rows, 100.0 * (lost - won + Z_90 * spread) / rows


def _chance(before: Flags, after: Flags) -> float:
    """Probability of at least so many losses if losses and wins were equally likely (sign test)."""
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    changed = lost + won
    return sum(math.comb(changed, k) for k in range(lost, changed + 1)) / (1 << changed)  # whole numbers: no overflow


def _share(flags: Flags) -> float:
    return float(flags.mean()) if len(flags) else 0.0
