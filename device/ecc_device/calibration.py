"""Temperature and threshold: fitted at Setup and again after every update, on rows that were not learnt from."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecc_model.modelfile import ACCEPTED_SHARE
from ecc_model.numerics import exps, logs, normalized_entropy, softmax

# Fitted on a grid of 5 % steps, not to the last bit: equal rows give an equal temperature on every machine.
TEMPERATURES = tuple(round(1.05**k, 4) for k in range(-28, 57))  # 0.26 to 15.4
_LEAST_PROBABILITY = 1e-12


def fit_temperature(logits: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """The temperature of `TEMPERATURES` with the smallest mean `- log p(label)`. Logits (rows, N), labels (rows,).

    The bits of `ecc_model.numerics.softmax` and `log`, for all rows at once.
    """
    rows = np.array(logits, np.float64).reshape(len(labels), len(logits[0]) if labels else 1)
    chosen = np.arange(len(labels)), np.array(labels, np.int64)

    def loss(temperature: float) -> float:
        scaled = rows / temperature
        weights = exps(scaled - scaled.max(axis=1, keepdims=True))
        totals = np.fromiter(map(math.fsum, weights.tolist()), np.float64, len(weights))
        return -math.fsum(logs(np.maximum(weights[chosen] / totals, _LEAST_PROBABILITY)).tolist())

    return min(TEMPERATURES, key=loss)


def entropies(logits: NDArray[np.float32], temperature: float) -> list[float]:
    """Normalized entropies of logits (rows, N)."""
    return [normalized_entropy(softmax(row, temperature)) for row in logits.tolist()]


def fit_threshold(scores: Sequence[float], accepted: float = ACCEPTED_SHARE) -> float:
    """The smallest of the `scores` that leaves a share of at least `accepted` at or below it."""
    ordered = sorted(scores)
    return ordered[max(0, math.ceil(accepted * len(ordered)) - 1)]


def expected_calibration_error(
    probabilities: Sequence[Sequence[float]], labels: Sequence[int], bins: int = 10
) -> float:
    """ECE: mean over rows of `|accuracy - confidence|` in `bins` equal bins of the largest probability."""
    sums = [[0.0, 0.0, 0.0] for _ in range(bins)]
    for row, label in zip(probabilities, labels, strict=True):
        top = max(row)
        cell = sums[min(bins - 1, int(top * bins))]
        cell[0] += 1
        cell[1] += top
        cell[2] += float(row.index(top) == label)
    return math.fsum(abs(hit - confidence) for _, confidence, hit in sums) / max(1, len(labels))
