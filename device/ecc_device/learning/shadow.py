"""The shadow run: an accepted candidate answers frames silently beside the old model before it takes over.

What it says to frames whose old answer is clear (see `ecc_device.learning.clear`) is held against what the gate has
measured: it is dropped when it changes such answers to other known classes in a share that is more than
`MAX_LOSS_POINTS` above the share on the judging rows, and chance does not explain it (90 % sure, Fisher's exact test).
Of a frame that it takes for a new class nobody knows what is on it; but where it takes more than a third of the clear
answers for new classes, rather the light has changed, and the cloud was wrong about what it learnt from.
"""

from __future__ import annotations

import math
from typing import Any

from ecc_device.learning.gate import CERTAIN, MAX_LOSS_POINTS
from ecc_device.results import Answer

SHADOW_FRAMES = 100
MOST_NEW = 1 / 3  # of the clear answers: a quarter where seven frames of ten show a new class, half under strong noise
FEWEST_NEW = 5  # fewer may be so by chance
MAX_STARTS = 5  # of one shadow run: a candidate that ends its device every time is dropped


class ShadowRun:
    """Counts what an old model and a candidate answer to the same frames.

    measured: the gate's figures, of which it reads the clear ones.
    """

    def __init__(self, frames: int, measured: dict[str, Any]) -> None:
        self.frames, self._level = frames, float(measured["clear_entropy"])
        self._gate = int(measured["clear_rows"]), int(measured["clear_changed"])
        self.seen = 0
        self._rows = self._changed = self._new = 0

    def see(self, old: Answer, candidate: Answer) -> bool:
        """Count one frame; whether more are needed."""
        self.seen += 1
        if old.entropy <= self._level:
            if candidate.label in old.labels:
                self._rows += 1
                self._changed += candidate.label != old.label
            else:
                self._new += 1
        return self.seen < self.frames

    def verdict(self) -> tuple[bool, str, dict[str, Any]]:
        """Whether the candidate may take over, why, and the figures."""
        rows, changed = self._gate
        here, there = _share(self._changed, self._rows), _share(changed, rows)
        figures = {
            "shadow_frames": self.seen,
            "shadow_clear": self._rows,
            "shadow_changed": self._changed,
            "shadow_new": self._new,
        }
        counted = f"{self._changed} of {self._rows} clear answers changed in {self.seen} frames"
        excess = 100.0 * (here - there)
        if excess > MAX_LOSS_POINTS and chance(self._changed, self._rows, changed, rows) < CERTAIN:
            return False, f"shadow run: {counted}, the gate measured {changed} of {rows}", figures
        clear = self._rows + self._new
        if self._new >= FEWEST_NEW and self._new > MOST_NEW * clear:
            return False, f"shadow run: {self._new} of {clear} clear answers were taken for new classes", figures
        return True, f"shadow run: {counted} (the gate: {changed} of {rows})", figures


def chance(changed: int, rows: int, changed_before: int, rows_before: int) -> float:
    """Probability of at least `changed` of `rows` when both samples change alike: Fisher's exact test, one-sided."""
    together, all_rows = changed + changed_before, rows + rows_before
    ways = sum(
        math.comb(rows, k) * math.comb(rows_before, together - k) for k in range(changed, min(rows, together) + 1)
    )
    return ways / math.comb(all_rows, together)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
