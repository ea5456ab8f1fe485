"""The gate: may a candidate replace the active model?

It guards against disasters on rows that were not learnt from; with a few hundred rows it cannot judge single points,
and it says how sure it is. Up to `MAX_LOSS_POINTS` of what was known may be paid for what is learnt, by one update and
by all since the factory's model together; more than that is turned down where the judging rows are enough for an
estimate, and where fewer rows (all of them, or those of a class) make it certain. A smaller loss passes even where it
is certain: a few known frames look like a new class, and four of them alone would turn down every update.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_LOSS_POINTS = 3.0  # of accuracy on known classes
MIN_JUDGE_ROWS = 200  # with 50 rows even no loss at all would allow 6 points
MIN_HELD_ROWS = 10
MIN_AGREEMENT = 1 / 3  # with the cloud, on held-out rows, which are hard ones; random labels of many classes stay below
CERTAIN = 0.10  # one-sided
Z_90 = 1.2816  # one-sided 90 % of the normal distribution
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Exam:
    """Right or wrong, before and after: on judging rows of known classes, and on held-out rows of this update.

    known_*: bool (J,), with the class of each row; held_*: bool (H,); factory: bool (F,), of the first F of the J rows,
    by the factory's model.
    """

    known_before: Flags
    known_after: Flags
    known_class: NDArray[np.int64]
    held_before: Flags
    held_after: Flags
    factory: Flags

    @property
    def since_factory(self) -> Exam:
        """The same rows, as far as the factory's file had them, with its model for the old one."""
        rows = len(self.factory)
        return replace(
            self, known_before=self.factory, known_after=self.known_after[:rows], known_class=self.known_class[:rows]
        )


def decide(exam: Exam, names: list[str]) -> tuple[bool, str, dict[str, Any]]:
    """Accepted or not, the reason in one line, and the figures."""
    judged, held = len(exam.known_before), len(exam.held_before)
    loss, bound = _loss_points(exam.known_before, exam.known_after)
    before, after = _share(exam.held_before), _share(exam.held_after)
    classes, since_factory = _class_losses(exam, names), exam.since_factory
    worst = max(range(len(names)), key=lambda index: classes[index].points)
    figures = {
        "judge_rows": judged,
        "known_loss_points": round(loss, 2),
        "known_loss_bound_points": round(bound, 2),  # 90 % one-sided
        "factory_rows": len(exam.factory),
        "factory_loss_points": round(_loss_points(exam.factory, since_factory.known_after)[0], 2),
        "worst_class": names[worst],
        "worst_class_loss_points": round(classes[worst].points, 2),
        "held_rows": held,
        "held_agreement_before": round(before, 4),
        "held_agreement_after": round(after, 4),
    }
    too_much = _too_much(exam, names, "") or _too_much(since_factory, names, " since the factory's model")
    if too_much is not None:
        return False, too_much, figures
    if judged < MIN_JUDGE_ROWS or held < MIN_HELD_ROWS:
        reason = (
            f"cannot tell: {judged} judging rows (of {MIN_JUDGE_ROWS}) and {held} held-out rows (of {MIN_HELD_ROWS})"
        )
        return False, reason, figures
    if after <= before:
        return False, f"held-out rows do not improve: {before:.0%} before, {after:.0%} after", figures
    if after < MIN_AGREEMENT:
        return False, f"held-out rows agree with the cloud in {after:.0%}, {MIN_AGREEMENT:.0%} are asked for", figures
    cost = f"known classes lose {loss:.1f} points (90 % sure: below {bound:.1f})"
    return True, f"held-out rows {before:.0%} -> {after:.0%}, {cost}", figures


def _too_much(exam: Exam, names: list[str], since: str) -> str | None:
    """What is lost of the known classes beyond what is allowed, in words."""
    rows, (loss, _) = len(exam.known_before), _loss_points(exam.known_before, exam.known_after)
    if loss > MAX_LOSS_POINTS and (rows >= MIN_JUDGE_ROWS or _certain(exam.known_before, exam.known_after)):
        return f"known classes lose {loss:.1f} points{since} on {rows} rows, {MAX_LOSS_POINTS} are allowed"
    for name, found in zip(names, _class_losses(exam, names), strict=True):
        if found.points > MAX_LOSS_POINTS and found.certain:
            return f"class '{name}' certainly loses: {found.points:.1f} points{since} on {found.rows} rows"
    return None


class _ClassLoss(NamedTuple):
    points: float
    rows: int
    certain: bool


def _class_losses(exam: Exam, names: list[str]) -> list[_ClassLoss]:
    # each class is a chance to be wrong about some class: together they share the level (Bonferroni)
    return [_class_loss(exam, index, CERTAIN / len(names)) for index in range(len(names))]


def _class_loss(exam: Exam, index: int, level: float) -> _ClassLoss:
    rows = exam.known_class == index
    before, after = exam.known_before[rows], exam.known_after[rows]
    points, _ = _loss_points(before, after)
    return _ClassLoss(points, int(rows.sum()), _certain(before, after, level))


def _certain(before: Flags, after: Flags, level: float = CERTAIN) -> bool:
    """Whether something is lost that chance does not explain."""
    return _chance(before, after) < level


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
