"""Class statistics of spike counts: what a device learns from in closed form, exactly and without gradients.

Features x of a frame are the counts of a probe (see `ecc_model.layers.Probe`) at the cut and behind layers of the
factory's exit, which stay as they were: an exit that learns otherwise would make other features. From the classes' row
numbers, sums and sums of products, all of them integers, a classifier follows by linear discriminant analysis with a
ridge:

    C = mean over classes of (E[x x'] - m m'),  A = (C + ridge tr(C) / D I)^-1,  logit = m' A x - m' A m / 2

Each class weighs the same in C, however many rows it has: new classes have few. Sums of integers do not depend on the
order of the rows, so rows can come one by one or together.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecc_model import records
from ecc_model.errors import ModelError
from ecc_model.layers import AnyLayer, Layer, Probe, Readout, Shape, Tap, Terminal, largest_counts, tap_sizes, walk
from ecc_model.program import INT32_MAX, Program, to_records
from ecc_model.proof import check_section
from ecc_model.records import Tensors

MAX_FEATURES = 512  # a triangle of their products takes 1 MiB at most
WEIGHT_MAX = 2**15 - 1  # int16, symmetric
SMALLEST = 1e-20  # a class's largest weight is taken to be at least this
SECTION = "statistics"  # of the layers' names
Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]


class StatisticsInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a model file's manifest says of its statistics."""

    stats_id: str  # of head, layers and taps: see `stats_id`
    ridge: float
    taps: list[list[int]]  # [after, grid]
    layers: list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Statistics:
    """Integer statistics of D features, for the base classes together and for each learnt class by itself.

    layers: the factory exit's first ones, up to the deepest of the taps; ridge: share of the mean variance within
    classes that is added to each variance. rows: int64 (N,), rows of each class; sums: int64 (N, D); triangles: int64
    (1 + K, D (D + 1) / 2), the upper triangles of the sums of products x x': first of all base classes, then of the K
    learnt ones, which are the last K.
    """

    layers: tuple[Layer, ...]
    taps: tuple[Tap, ...]
    ridge: float
    rows: Counts
    sums: Counts
    triangles: Counts

    @property
    def features(self) -> int:
        """D."""
        return int(self.sums.shape[1])

    @property
    def base(self) -> int:
        """Number of base classes."""
        return len(self.rows) - len(self.triangles) + 1


def begin(program: Program, taps: Sequence[Tap], ridge: float, classes: int) -> Statistics:
    """Of no rows, on a factory's program. `ModelError` for taps with more than `MAX_FEATURES`, or that do not fit."""
    layers = cast(tuple[Layer, ...], program.exit[: taps[-1].after])
    features = number_of_features(layers, taps, program)
    if not 1 <= features <= MAX_FEATURES:
        raise ModelError(f"statistics of {features} features; 1 to {MAX_FEATURES} are possible, choose other taps")
    triangles = np.zeros((1, features * (features + 1) // 2), np.int64)
    rows, sums = np.zeros(classes, np.int64), np.zeros((classes, features), np.int64)
    return Statistics(layers, tuple(taps), ridge, rows, sums, triangles)


def number_of_features(layers: Sequence[AnyLayer], taps: Sequence[Tap], program: Program) -> int:
    """Numbers that the taps count behind layers at the program's cut; `ModelError` for a tap that does not fit."""
    sizes = tap_sizes(taps, _shapes(layers, program))
    if not all(sizes):
        raise ModelError(f"taps {records.describe_taps(taps)} do not fit the layers that they count behind")
    return sum(sizes)


def add(statistics: Statistics, counts: Counts, labels: NDArray[np.integer], classes: int | None = None) -> Statistics:
    """With rows of features (R, D) and their classes (R,); `classes` grows the number of classes, by learnt ones.

    `ModelError` for rows of another number of features, or a label beyond the classes.
    """
    known, wanted = len(statistics.rows), len(statistics.rows) if classes is None else classes
    if counts.shape != (len(labels), statistics.features) or wanted < known:
        raise ModelError(f"{counts.shape} counts and {len(labels)} labels for statistics of {statistics.features}")
    if len(labels) and not (labels.min() >= 0 and labels.max() < wanted):
        raise ModelError(f"labels {labels.min()} to {labels.max()} for {wanted} classes")
    more = wanted - known
    rows = np.concatenate([statistics.rows, np.zeros(more, np.int64)])
    sums = np.concatenate([statistics.sums, np.zeros((more, statistics.features), np.int64)])
    triangles = np.concatenate([statistics.triangles, np.zeros((more, statistics.triangles.shape[1]), np.int64)])
    upper = np.triu_indices(statistics.features)
    for label in np.unique(labels):
        own = counts[labels == label]
        rows[label] += len(own)
        sums[label] += own.sum(axis=0)
        triangles[max(0, label - statistics.base + 1)] += _products(own)[upper]
    return replace(statistics, rows=rows, sums=sums, triangles=triangles)


def solve(statistics: Statistics) -> tuple[Numbers, Numbers]:
    """Weights (N, D) and bias (N,) of the classifier. `ModelError` for a class without rows."""
    if (statistics.rows < 1).any():
        raise ModelError(f"class {int(statistics.rows.argmin())} has no rows to learn from")
    features, base = statistics.features, statistics.base
    means: Numbers = statistics.sums / statistics.rows[:, None]
    # base classes share one triangle: weighed by their number of rows among themselves, and as so many classes
    weights = np.concatenate([[base / statistics.rows[:base].sum()], 1.0 / statistics.rows[base:]])
    shares = np.concatenate([statistics.rows[:base] * weights[0], np.ones(len(means) - base)])
    within = np.zeros((features, features))
    within[np.triu_indices(features)] = weights @ statistics.triangles
    within = within + np.triu(within, 1).T
    within = (within - (means.T * shares) @ means) / len(means)
    ridge = statistics.ridge * np.trace(within) / features
    if not ridge > 0.0:
        raise ModelError("the statistics' rows do not differ within classes; count at other taps")
    projected: Numbers = np.linalg.solve(within + ridge * np.eye(features), means.T).T
    return projected, -0.5 * (projected * means).sum(axis=1)


def make_exit(program: Program, statistics: Statistics, weight: Numbers, bias: Numbers) -> tuple[AnyLayer, ...]:
    """The exit of a classifier: the frozen layers, and a probe of its weights (N, D) and bias (N,) in integers.

    A class's scale puts its largest weight at 32767, unless that could take its sums out of 31 bits.
    """
    most = largest_counts(statistics.taps, _shapes(statistics.layers, program))
    reached = np.abs(weight) @ most + np.abs(bias)
    largest = np.maximum(np.abs(weight).max(axis=1), SMALLEST) / WEIGHT_MAX
    scale = np.maximum(largest, reached / (INT32_MAX / 2))  # half of what 32 bits hold: room for rounding
    integers = np.rint(weight / scale[:, None]).astype(np.int16)
    offsets = np.rint(bias / scale).astype(np.int32)
    return (*statistics.layers, Probe(statistics.taps, integers, offsets, scale.astype(np.float32)))


def scaled(exit_: tuple[AnyLayer, ...], factor: float) -> tuple[AnyLayer, ...]:
    """The same exit with its logits times `factor`."""
    last = cast(Terminal, exit_[-1])
    return (*exit_[:-1], replace(last, scale=(last.scale * np.float32(factor)).astype(np.float32)))


def lowered(exit_: tuple[AnyLayer, ...], first: int, amount: float, steps: int) -> tuple[AnyLayer, ...]:
    """The same exit with the logits of the classes from `first` on lower by `amount`, as near as integers come."""
    last = cast(Terminal, exit_[-1])
    every = steps if isinstance(last, Readout) else 1  # a readout adds its bias in each time step
    bias = last.bias.astype(np.int64)
    bias[first:] -= np.rint(amount / (last.scale[first:].astype(np.float64) * every)).astype(np.int64)
    return (*exit_[:-1], replace(last, bias=np.clip(bias, -INT32_MAX, INT32_MAX).astype(np.int32)))


def stats_id(program: Program, statistics: Statistics) -> str:
    """SHA-256 (hex) of the integer head, the statistics' layers and taps: equal id, equal features."""
    spec, tensors = to_records(program)
    entries, more = records.describe(SECTION, statistics.layers)
    text = json.dumps([spec["input"], spec["head"], entries, records.describe_taps(statistics.taps)], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    used = {name: tensor for name, tensor in tensors.items() if name.startswith("head.")} | more
    for name, tensor in sorted(used.items()):
        digest.update(f"{name}{tensor.shape}".encode() + tensor.tobytes())
    return digest.hexdigest()


def describe(program: Program, statistics: Statistics) -> tuple[StatisticsInfo, Tensors]:
    """What the manifest says, and the tensors of the record; inverse of `build`."""
    entries, tensors = records.describe(SECTION, statistics.layers)
    info = StatisticsInfo(
        stats_id=stats_id(program, statistics),
        ridge=statistics.ridge,
        taps=records.describe_taps(statistics.taps),
        layers=entries,
    )
    numbers = {name: _narrow(getattr(statistics, name)) for name in ("rows", "sums", "triangles")}
    return info, tensors | numbers


def build(info: StatisticsInfo, tensors: Tensors, program: Program) -> Statistics:
    """The statistics in a model file with this program. `ModelError` for anything missing, left over or unfitting."""
    left = dict(tensors)
    numbers = [_wide(name, left.pop(name, None)) for name in ("rows", "sums", "triangles")]
    layers, taps = records.build(SECTION, info.layers, left), records.build_taps(SECTION, info.taps)
    if left:
        raise ModelError(f"tensors that no statistics use: {min(left)!r:.60}")
    if not taps or max(tap.after for tap in taps) != len(layers):
        raise ModelError("the statistics' layers do not end at their last tap")
    statistics = Statistics(cast(tuple[Layer, ...], layers), taps, info.ridge, *numbers)
    features, classes = number_of_features(layers, taps, program), program.classes
    rows, sums, triangles = numbers
    shapes = (classes,), (classes, features), (features * (features + 1) // 2,)
    if features > MAX_FEATURES or (rows.shape, sums.shape, triangles.shape[1:]) != shapes:
        raise ModelError(f"statistics of {rows.shape} rows and {sums.shape} sums do not fit the program and the taps")
    check_section(SECTION, (*layers, _blank(statistics)), program.split_shape, 1)
    if not 1 <= len(triangles) <= len(rows) or min(rows.min(), sums.min(), triangles.min()) < 0:
        raise ModelError(f"statistics with {len(triangles)} triangles for {len(rows)} classes, or numbers below zero")
    if not (math.isfinite(info.ridge) and info.ridge > 0.0):
        raise ModelError(f"the statistics' ridge is {info.ridge}")
    if stats_id(program, statistics) != info.stats_id:
        raise ModelError("its stats_id is not that of its head and the statistics' layers and taps")
    return statistics


def _shapes(layers: Sequence[AnyLayer], program: Program) -> list[Shape]:
    """Of the spikes at the cut, and behind each layer."""
    return [program.split_shape, *(shape for _, _, shape in walk(SECTION, layers, program.split_shape))]


def _blank(statistics: Statistics) -> Probe:
    """A probe without weights: as an exit's end it proves that layers, taps and cut fit each other."""
    classes = len(statistics.rows)
    weight = np.zeros((classes, statistics.features), np.int16)
    return Probe(statistics.taps, weight, np.zeros(classes, np.int32), np.ones(classes, np.float32))


def _products(counts: Counts) -> Counts:
    """Sum of x x' over rows; by floats, which hold these integers exactly."""
    floats = counts.astype(np.float64)
    products: Numbers = floats.T @ floats
    return cast(Counts, products.astype(np.int64))


def _narrow(numbers: Counts) -> NDArray[np.signedinteger[Any]]:
    """In 32 bits where they fit."""
    return numbers.astype(np.int32) if numbers.max() <= INT32_MAX else numbers


def _wide(name: str, tensor: NDArray[Any] | None) -> Counts:
    if tensor is None or tensor.dtype not in (np.int32, np.int64):
        raise ModelError(f"the statistics have no integers '{name}'")
    return tensor.astype(np.int64)
