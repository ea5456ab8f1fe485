"""Clear answers: those of which the old model is as sure as of half of the known rows that judge.

Of such an answer it is hardly ever wrong, so whoever contradicts it by another known class is to be doubted: the
cloud in a row of an update (see `contradicted`), or a candidate in its shadow run. Naming a new class contradicts
nothing: the old model could not name it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecc_device.calibration import entropies, fit_threshold
from ecc_device.learning.lesson import Logits

CLEAR_SHARE = 0.5  # of the judging rows
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Clarity:
    """entropy: what a clear answer's normalized entropy is at most; rows: judging rows that were clear and that the
    candidate takes for a known class; changed: those of them that it takes for another one than the old model does.
    """

    entropy: float
    rows: int
    changed: int


def clear_level(judging: Logits, temperature: float) -> float:
    """The largest entropy of a clear answer, from the old model's logits of the judging rows; below 0 without rows."""
    found = entropies(judging, temperature)
    return fit_threshold(found, CLEAR_SHARE) if found else -1.0


def clarity(before: Logits, after: Logits, temperature: float) -> Clarity:
    """What a candidate's logits (J, N') of the judging rows change in clear answers by logits (J, N)."""
    level = clear_level(before, temperature)
    told = after.argmax(axis=1)
    counted = (np.array(entropies(before, temperature)) <= level) & (told < before.shape[1])
    return Clarity(level, int(counted.sum()), int((counted & (told != before.argmax(axis=1))).sum()))


def contradicted(edge: Logits, cloud: Logits, temperature: float, level: float) -> Flags:
    """Rows (R,) where the cloud's logits (R, N') name another known class than a clear answer by logits (R, N)."""
    named = cloud.argmax(axis=1)
    clear = np.array(entropies(edge, temperature)) <= level
    doubted: Flags = clear & (named < edge.shape[1]) & (named != edge.argmax(axis=1))
    return doubted
