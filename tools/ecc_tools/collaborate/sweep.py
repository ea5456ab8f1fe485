"""Accuracy, upload rate and costs for every threshold and every upload rate of every filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ecc_tools.collaborate.observe import Flags, Observed

STEPS = 100  # thresholds and rates lie on 0, 1 / STEPS, ... 1
CONSTANT = ("cloud-only", "edge-only")  # their upload rate is not anybody's choice


@dataclass(frozen=True)
class Point:
    """One filter at one threshold, or with so many frames sent up; means over the seeds of a random filter.

    accuracy: of the answers that stand by the device's rule; accuracy_cloud_stands: if the cloud's always stood;
    improvement: `(accuracy - edge) / (cloud - edge)`, None where the cloud is not better than the edge; bytes and
    millijoule: means over all frames, also those that did not go up.
    """

    filter: str
    threshold: float | None  # None where the number of uploads was chosen
    upload_rate: float  # eq. 13
    accuracy: float
    accuracy_cloud_stands: float
    improvement: float | None
    improvement_cloud_stands: float | None
    bytes_up: float
    bytes_down: float
    edge_mj_modelled: float
    link_mj_assumed: float
    cloud_mj_modelled: float


COLUMNS = tuple(field.name for field in fields(Point))


def at(observed: Observed, name: str, threshold: float | None, sent: Sequence[Flags]) -> Point:
    """The point of a filter that sends these frames up: flags (N,) for each of its seeds."""
    edge, cloud = observed.edge, observed.cloud
    rows = []
    for up in sent:
        rate = up.mean()
        standing = np.where(up, observed.standing_right, observed.edge_right).mean()
        always = np.where(up, observed.cloud_right, observed.edge_right).mean()
        rows.append(
            (
                *(rate, standing, always),
                *((up * cloud.bytes_up).mean(), rate * cloud.bytes_down),
                *(edge.mj + rate * cloud.upload_mj, (up * cloud.link_mj).mean(), rate * cloud.mj),
            )
        )
    rate, standing, always, *costs = np.array(rows).mean(axis=0).tolist()
    gains = (improvement(observed, standing), improvement(observed, always))
    return Point(name, threshold, rate, standing, always, *gains, *costs)


def improvement(observed: Observed, accuracy: float) -> float | None:
    """`(accuracy - edge) / (cloud - edge)`; None where the cloud alone is not better than the edge alone."""
    edge, cloud = float(observed.edge_right.mean()), float(observed.cloud_right.mean())
    return (accuracy - edge) / (cloud - edge) if cloud > edge else None


def by_threshold(observed: Observed) -> list[Point]:
    """Every filter at the thresholds 0 to 1."""
    thresholds = [step / STEPS for step in range(STEPS + 1)]
    return [
        at(observed, name, threshold, [row > threshold for row in scores])
        for name, scores in observed.edge.scores.items()
        for threshold in thresholds
    ]


def by_rate(observed: Observed) -> list[Point]:
    """Every filter with 0 to 100 % of the frames sent up, highest scores first; of equal scores the earlier frame."""
    count = len(observed.edge_right)
    points = []
    for name, scores in observed.edge.scores.items():
        orders = [np.argsort(-row, kind="stable") for row in scores]
        rates = [step / STEPS for step in range(STEPS + 1)]
        if name in CONSTANT:
            rates = [float(name == "cloud-only")]
        points += [at(observed, name, None, [_first(order, round(rate * count)) for order in orders]) for rate in rates]
    return points


def operating(observed: Observed) -> list[Point]:
    """Every filter at its own threshold, which was chosen on known classes only; a random filter's is their mean."""
    points = []
    for name, scores in observed.edge.scores.items():
        own = observed.edge.thresholds[name]
        sent = [row > threshold for row, threshold in zip(scores, own, strict=True)]
        points.append(at(observed, name, None if name in CONSTANT else float(np.mean(own)), sent))
    return points


def as_rows(points: Sequence[Point]) -> list[tuple[object, ...]]:
    """The points as rows of `COLUMNS`."""
    return [astuple(point) for point in points]


def _first(order: NDArray[np.intp], count: int) -> Flags:
    flags = np.zeros(len(order), np.bool_)
    flags[order[:count]] = True
    return flags
