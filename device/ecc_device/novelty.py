"""Filters that compare a frame's spikes with those of known classes.

The spikes at the split point, packed, are compared bit by bit with the guard rows that updates replay (8 frames of
each class, in 3 views). Those are fewer than the judging rows, so they cost less, and the judging rows stay unseen:
the threshold can be fitted on them. Everything is counted in integers up to one division.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ecc_device.calibration import fit_threshold
from ecc_device.evidence import Evidence, Known
from ecc_model.bits import Spikes
from ecc_model.errors import DeviceError
from ecc_model.modelfile import ACCEPTED_SHARE
from ecc_model.numerics import normalized_entropy

WORD_BYTES = 8
Words = NDArray[np.uint64]
_HAS_POPCOUNT = hasattr(np, "bitwise_count")  # numpy 2
_ONES = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(1, dtype=np.uint8)


def count_ones(words: Words) -> NDArray[np.int64]:
    """Set bits of each row. Shape: (..., W) -> (...)."""
    counts = np.bitwise_count(words) if _HAS_POPCOUNT else _ONES[np.ascontiguousarray(words).view(np.uint16)]
    return cast("NDArray[np.int64]", counts.sum(axis=-1, dtype=np.int64))


def to_words(packed: NDArray[np.uint8]) -> Words:
    """Packed rows as 64-bit words, filled up with zeros. Shape: (R, bytes) -> (R, ceil(bytes / 8))."""
    rows, width = packed.shape
    padded = np.zeros((rows, -(-width // WORD_BYTES) * WORD_BYTES), np.uint8)
    padded[:, :width] = packed
    return padded.view(np.uint64)


def pair_distances(packed: NDArray[np.uint8]) -> tuple[int, int]:
    """Sum of the Hamming distances of all pairs of rows (R, bytes), and how many pairs there are.

    A bit that k of R rows have set differs in `k (R - k)` pairs.
    """
    rows = len(packed)
    ones = np.unpackbits(packed, axis=1).sum(axis=0, dtype=np.int64)
    return int((ones * (rows - ones)).sum()), rows * (rows - 1) // 2


@dataclass(frozen=True, eq=False)
class _Class:
    """The rows of one class; the mean distance of two of them is `spread / pairs`."""

    words: Words
    spread: int
    pairs: int


def _class_of(packed: NDArray[np.uint8]) -> _Class:
    return _Class(to_words(packed), *pair_distances(packed))


class NoveltyFilter:
    """How far a frame's spikes are from every replayed guard row of the class that the edge names.

    `score = d / (d + s)`: d is the Hamming distance to the nearest of these rows, s the mean distance of two of them.
    0: the same spikes as a known row; 1/2: as far as two known rows are from each other; it rises with d and stays
    below 1. A class with fewer than two different rows is compared with the rows of all classes. `DeviceError` for a
    model whose guard set has no rows to replay.
    """

    name = "novelty"

    def __init__(self, known: Known) -> None:
        guard = known.model.guard
        replayed = ~guard.judge.astype(np.bool_)
        if not replayed.any():
            raise DeviceError(
                f"{known.model.path}: its guard set has no rows to replay, which the filter '{self.name}' compares "
                "with; compile the model again, or choose another filter"
            )
        rows, labels = guard.bits[replayed], guard.labels[replayed]
        everything = _class_of(rows)
        self._classes = []
        for label in range(len(known.model.labels)):
            own = _class_of(rows[labels == label])
            self._classes.append(own if own.spread else everything)

    def score(self, evidence: Evidence) -> float:
        """See the class."""
        compared = self._classes[evidence.predicted]
        distance = int(count_ones(compared.words ^ _words(evidence.split)).min())
        scaled = distance * max(1, compared.pairs)
        return scaled / (scaled + compared.spread) if distance else 0.0


def _words(split: Spikes) -> Words:
    return to_words(np.packbits(split)[None])


@dataclass(frozen=True)
class Scale:
    """Brings scores of different kinds to one scale: -1 to 1, 0 at the median of known rows, 1/2 at their quantile.

    `(x - median) / (spread + abs(x - median))`, spread: from the median to the quantile, that of
    `ACCEPTED_SHARE` whatever share the model file names.
    """

    median: float
    spread: float

    @classmethod
    def fit(cls, scores: list[float]) -> Scale:
        """The scale of known rows' scores."""
        median = fit_threshold(scores, 0.5)
        return cls(median, fit_threshold(scores, ACCEPTED_SHARE) - median)

    def __call__(self, score: float) -> float:
        """The score on this scale."""
        above = score - self.median
        return above / (self.spread + abs(above)) if above else 0.0


class EntropyNoveltyFilter:
    """The sum of normalized entropy and novelty, each by its `Scale` on the judging guard rows, brought to [0, 1].

    `score = 1/2 + (scale_e(NE) + scale_n(novelty)) / 4`. `DeviceError` for a model whose guard set has no rows to
    replay or none to judge with.
    """

    name = "entropy+novelty"

    def __init__(self, known: Known) -> None:
        self._novelty = NoveltyFilter(known)
        rows = [(normalized_entropy(row.probabilities), self._novelty.score(row)) for row in known.judging()]
        if not rows:
            raise DeviceError(
                f"{known.model.path}: its guard set has no rows to judge with, which the filter '{self.name}' needs; "
                "compile the model again, or choose another filter"
            )
        entropies, novelties = zip(*rows, strict=True)
        self._scales = Scale.fit(list(entropies)), Scale.fit(list(novelties))

    def score(self, evidence: Evidence) -> float:
        """See the class."""
        entropy, novelty = self._scales
        both = entropy(normalized_entropy(evidence.probabilities)) + novelty(self._novelty.score(evidence))
        return 0.5 + both / 4.0
