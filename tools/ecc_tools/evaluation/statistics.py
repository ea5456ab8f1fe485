"""Figures with their uncertainty: shares, two models on the same frames, calibration."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

Z95 = 1.959963984540054  # of the standard normal distribution: 95 % lie within +- Z95
BINS = 15  # of the reliability diagram
Interval = tuple[float, float]


def wilson(hits: int, n: int) -> Interval:
    """95 % interval of a share by Wilson's score, within [0, 1]; (0, 1) for n = 0.

    `(p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)`.
    """
    if n == 0:
        return 0.0, 1.0
    share, zz = hits / n, Z95 * Z95
    centre = share + zz / (2 * n)
    reach = Z95 * math.sqrt(share * (1 - share) / n + zz / (4 * n * n))
    low, high = (centre - reach) / (1 + zz / n), (centre + reach) / (1 + zz / n)
    return (0.0 if hits == 0 else low), (1.0 if hits == n else high)


def mcnemar(first: int, second: int) -> float:
    """Two-sided p value of McNemar's exact test: a fair coin for each frame that only one of two models has right.

    first, second: frames that only the first, only the second has right.
    """
    n = first + second
    tail = sum(itertools.islice(_binomials(n), min(first, second) + 1))
    return min(1.0, 2 * tail / (1 << n))


def _binomials(n: int) -> itertools.accumulate[int]:
    """C(n, 0), C(n, 1), ..., C(n, n)."""
    return itertools.accumulate(range(1, n + 1), lambda value, k: value * (n - k + 1) // k, initial=1)


class Paired(msgspec.Struct, frozen=True, kw_only=True):
    """Two models on the same frames. Points are hundredths of all frames; above zero the first is better."""

    n: int
    both: int  # frames that both have right
    only_first: int
    only_second: int
    neither: int
    difference_points: float
    interval_points: Interval  # 95 %
    p_value: float  # McNemar, exact


def paired(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
    """Compare what two models have right, (n,) each.

    The interval is Agresti and Min's: with b and c the discordant pairs and m = n + 2,
    `(b - c) / m +- z sqrt(b + c + 1 - (b - c)^2 / m) / m`; it stays honest where few pairs are discordant.
    """
    n = len(first)
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    m = n + 2
    centre = (b - c) / m
    reach = Z95 * math.sqrt(b + c + 1 - (b - c) ** 2 / m) / m
    return Paired(
        n=n,
        both=int((first & second).sum()),
        only_first=b,
        only_second=c,
        neither=int((~first & ~second).sum()),
        difference_points=100.0 * (b - c) / max(1, n),
        interval_points=(100.0 * max(-1.0, centre - reach), 100.0 * min(1.0, centre + reach)),
        p_value=mcnemar(b, c),
    )


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """The answers whose confidence, the largest probability, lies in [low, high)."""

    low: float
    high: float
    n: int
    confidence: float  # their mean; 0 without answers, as is the accuracy
    accuracy: float


def reliability(probabilities: Sequence[Sequence[float]], labels: Sequence[int], bins: int = BINS) -> list[Bin]:
    """The reliability diagram: `bins` equal bins of the confidence, the last with 1."""
    cells: list[list[tuple[float, bool]]] = [[] for _ in range(bins)]
    for row, label in zip(probabilities, labels, strict=True):
        top = max(row)
        cells[min(bins - 1, int(top * bins))].append((top, row.index(top) == label))
    return [
        Bin(
            low=index / bins,
            high=(index + 1) / bins,
            n=len(cell),
            confidence=math.fsum(top for top, _ in cell) / max(1, len(cell)),
            accuracy=sum(right for _, right in cell) / max(1, len(cell)),
        )
        for index, cell in enumerate(cells)
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """ECE: `sum_b n_b / n |accuracy_b - confidence_b|`."""
    n = sum(cell.n for cell in bins)
    return math.fsum(cell.n * abs(cell.accuracy - cell.confidence) for cell in bins) / max(1, n)


def confusion(truth: NDArray[np.int64], answers: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(classes, classes) counts: a row for each true class, a column for each answer."""
    counts = np.bincount(truth * classes + answers, minlength=classes * classes)
    return counts.reshape(classes, classes)
