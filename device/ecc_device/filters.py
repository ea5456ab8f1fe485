"""Filters decide which frames the edge is unsure about: those whose score is above the model's threshold.

| name            | score                                                  | 0 means               | 1 means           |
|-----------------|--------------------------------------------------------|-----------------------|-------------------|
| entropy         | `- sum_i p_i log p_i / log N` (ECC-SNN, eq. 11)        | one class has it all  | all classes equal |
| energy          | `(1 + F / (1 + abs(F))) / 2`, `F` the free energy      | very large logits     | very small logits |
| margin          | `1 - (p1 - p2)`, the two largest probabilities         | one class has it all  | a tie of two      |
| max-prob        | `(1 - p1) N / (N - 1)`                                 | one class has it all  | all classes equal |
| novelty         | `d / (d + s)`, `d` bits from the nearest known row     | the same spikes       | unlike known rows |
| entropy+novelty | their sum, each on the scale of known rows             | surer than known rows | unlike known rows |
| random          | uniform in [0, 1), from the seed and the frame's index |                       |                   |
| cloud-only      | always 2: above every threshold, 1.0 too               |                       |                   |
| edge-only       | always -1: above no threshold, 0.0 neither             |                       |                   |

Every score has the same bits on every machine (`ecc_model.numerics`). Thresholds come from known classes alone: the
model's own for entropy, else the same share of the guard set's judging rows.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ecc_device.calibration import fit_threshold
from ecc_device.evidence import Evidence, Known
from ecc_device.novelty import EntropyNoveltyFilter, NoveltyFilter
from ecc_model import numerics
from ecc_model.errors import DeviceError

ALWAYS = 2.0  # thresholds lie in [0, 1], and a frame is ambiguous when its score is above
NEVER = -1.0

ENDS_EARLY = "entropy"  # the filter that a frame's first time steps may be enough for
AS_IN_THE_FILE = ("entropy", "cloud-only", "edge-only")  # go by the model's own threshold

Measure = Callable[[Sequence[float], float, Sequence[float]], float]
"""(logits, temperature, probabilities) -> score."""


class Filter(Protocol):
    """Scores frames by how unsure the edge is."""

    @property
    def name(self) -> str:
        """The key in `FILTERS`."""

    def score(self, evidence: Evidence) -> float:
        """In [0, 1], higher is less sure; `ALWAYS` and `NEVER` of the two baselines lie outside."""
        ...


def free_energy(logits: Sequence[float], temperature: float) -> float:
    """`F = - T log sum_i exp(z_i / T)`, portable bits; N finite logits, T > 0. Low where a network knows its input."""
    scaled = [float(z) / temperature for z in logits]
    top = max(scaled)
    return -temperature * (top + numerics.log(math.fsum(numerics.exp(z - top) for z in scaled)))


def _entropy(logits: Sequence[float], temperature: float, probabilities: Sequence[float]) -> float:
    return numerics.normalized_entropy(probabilities)


def _energy(logits: Sequence[float], temperature: float, probabilities: Sequence[float]) -> float:
    # not the logistic function: it is 0.0 or 1.0 for most logits that networks emit, and a threshold would find ties
    energy = free_energy(logits, temperature)
    return 0.5 * (1.0 + energy / (1.0 + abs(energy)))


def _margin(logits: Sequence[float], temperature: float, probabilities: Sequence[float]) -> float:
    first, second = sorted([*probabilities, 0.0], reverse=True)[:2]
    return 1.0 - (first - second)


def _max_prob(logits: Sequence[float], temperature: float, probabilities: Sequence[float]) -> float:
    count = len(probabilities)
    return min(1.0, (1.0 - max(probabilities)) * count / (count - 1)) if count > 1 else 0.0


def _always(logits: Sequence[float], temperature: float, probabilities: Sequence[float]) -> float:
    return ALWAYS


def _never(logits: Sequence[float], temperature: float, probabilities: Sequence[float]) -> float:
    return NEVER


@dataclass(frozen=True)
class MeasureFilter:
    """A filter that looks at nothing but the network's output."""

    name: str
    measure: Measure

    def score(self, evidence: Evidence) -> float:
        """The measure of this frame; see `Filter.score`."""
        return self.measure(evidence.logits, evidence.temperature, evidence.probabilities)


@dataclass(frozen=True)
class RandomFilter:
    """A baseline: the first 53 bits of `sha256("seed:frame")`. A replay draws the same numbers again."""

    seed: int
    name: str = "random"

    def score(self, evidence: Evidence) -> float:
        """Uniform in [0, 1), the same for the same seed and frame index."""
        digest = hashlib.sha256(f"{self.seed}:{evidence.frame}".encode()).digest()
        return math.ldexp(int.from_bytes(digest[:8], "big") >> 11, -53)


def _measured(name: str, measure: Measure) -> Callable[[Known, int], Filter]:
    return lambda known, seed: MeasureFilter(name, measure)


FILTERS: dict[str, Callable[[Known, int], Filter]] = {
    "entropy": _measured("entropy", _entropy),
    "energy": _measured("energy", _energy),
    "margin": _measured("margin", _margin),
    "max-prob": _measured("max-prob", _max_prob),
    "novelty": lambda known, seed: NoveltyFilter(known),
    "entropy+novelty": lambda known, seed: EntropyNoveltyFilter(known),
    "random": lambda known, seed: RandomFilter(seed),
    "cloud-only": _measured("cloud-only", _always),
    "edge-only": _measured("edge-only", _never),
}
"""Name -> maker, which takes the model's known rows and a seed."""


def check_filter(name: str) -> str:
    """The name; `DeviceError` for one that is not in `FILTERS`."""
    if name not in FILTERS:
        raise DeviceError(f"'{name:.40}' is not a filter; choose one of: {', '.join(FILTERS)}")
    return name


def make_filter(name: str, known: Known, seed: int = 0) -> Filter:
    """The filter of that name for a model; only `random` looks at the seed.

    `DeviceError` for a name that is not in `FILTERS`, and for a model that lacks the rows that the filter needs.
    """
    return FILTERS[check_filter(name)](known, seed)


def filter_threshold(filter_: Filter, known: Known) -> float:
    """The threshold of a filter: the model's own for entropy, else fitted on the guard set's judging rows.

    The same rule as at Setup: known classes only, never what is unknown.
    """
    if filter_.name in AS_IN_THE_FILE:
        return known.model.threshold
    scores = [filter_.score(row) for row in known.judging()]
    return fit_threshold(scores, known.model.accepted) if scores else known.model.threshold
