"""What a device learns from in closed form: where spikes are counted, the ridge, and the classes' statistics.

Places and ridge are chosen by what they are for: some of the known classes are taken for new ones, learnt from a few
rows, and all classes are told apart on validation frames. The network has seen them all, and flatters what lies deep in
it: of choices that the frames cannot tell from the best one, the one that counts most at the cut is taken.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from ecc_model import statistics
from ecc_model.errors import CompileError
from ecc_model.frames import Pixels
from ecc_model.layers import AveragePool, Tap, section_shape, tap_sizes
from ecc_model.program import Program
from ecc_model.statistics import MAX_FEATURES, Statistics
from ecc_tools.augmentation import Augmentation
from ecc_tools.data.parts import Labels, Part
from ecc_tools.frame_by_frame import counting
from ecc_tools.training import Progress, seeded

GRIDS = (1, 2, 4)
RIDGES = (1.0, 0.3, 3.0, 10.0)  # of equally good ones the first
VIEWS = 3  # of each training frame: itself, and augmented ones
CHOICE_VIEWS = 6000  # that the choice is made on, of all classes together
NEW_ROWS = 40  # of each class that is taken for a new one
MAX_TRIALS = 5  # pairs of classes that are taken for new ones
CHUNK = 100  # frames at a time
STANDARD_ERRORS = 2.0  # closer scores are taken for equal
CHOICE_SHARE = 0.3  # of the progress
VIEW_SEED = 0
Counts = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Counts (R, D), as they are known of some taps, and classes (R,)."""

    counts: Counts
    labels: Labels

    def first(self, classes: Sequence[int], most: int | None) -> _Rows:
        """The first `most` rows (None: all) of each of these classes, whose labels become positions among them."""
        found = [np.flatnonzero(self.labels == label)[:most] for label in classes]
        labels = np.repeat(np.arange(len(classes)), [len(rows) for rows in found])
        return _Rows(self.counts[np.concatenate(found)], labels)


def fit_statistics(
    program: Program, learning: Part, validation: Part, augmentation: Augmentation, progress: Progress
) -> Statistics:
    """The statistics of a factory's program on views of its training frames; `validation` chooses taps and ridge.

    `CompileError` for a network of one class, or one without a place that has at most `MAX_FEATURES` features.
    """
    taps, ridge = choose(program, learning, validation, augmentation, lambda share: progress(CHOICE_SHARE * share))
    found = statistics.begin(program, taps, ridge, program.classes)
    count, done, total = counting(program, taps), 0, VIEWS * len(learning.labels)
    for frames, labels in _views(learning, augmentation):
        found = statistics.add(found, count(frames), labels)
        done += len(labels)
        progress(CHOICE_SHARE + (1.0 - CHOICE_SHARE) * done / total)
    return found


def choose(
    program: Program, learning: Part, validation: Part, augmentation: Augmentation, progress: Progress
) -> tuple[tuple[Tap, ...], float]:
    """The taps and the ridge that tell classes apart best when some of them are new; of equals see above."""
    choices = tap_choices(program)
    if program.classes < 2 or not choices:
        raise CompileError("no statistics: the network has one class, or no place in its exit has few enough features")
    every = sorted({tap for taps in choices for tap in taps}, key=lambda tap: (tap.after, tap.grid))
    ends = list(itertools.accumulate(_sizes(program, every), initial=0))
    count = counting(program, every)
    known = _count(count, _views(_some(learning, program.classes), augmentation))
    unseen = _count(count, [(validation.frames, validation.labels)])
    scores: dict[tuple[tuple[Tap, ...], float], float] = {}
    for done, taps in enumerate(choices, 1):
        columns = np.concatenate([np.arange(ends[k], ends[k + 1]) for k in map(every.index, taps)])
        rows = [_Rows(part.counts[:, columns], part.labels) for part in (known, unseen)]
        found = _scores(statistics.begin(program, taps, RIDGES[0], program.classes), *rows)
        scores |= {(taps, ridge): score for ridge, score in found.items()}
        progress(done / len(choices))
    best, judged = max(scores.values()), len(unseen.labels)
    least = best - STANDARD_ERRORS * math.sqrt(max(best * (1.0 - best), 1.0 / judged) / judged)
    equal = {choice: score for choice, score in scores.items() if score >= least}
    return max(equal, key=lambda choice: (_sizes(program, choice[0])[0], equal[choice]))


def tap_choices(program: Program) -> list[tuple[Tap, ...]]:
    """Counts at the cut, alone or with those behind the last map of spikes in the exit, in some grids."""
    shapes = _shapes(program)
    maps = [
        after
        for after, shape in enumerate(shapes)
        if len(shape) == 4 and not (after and isinstance(program.exit[after - 1], AveragePool))
    ]

    def grids(after: int) -> list[Tap]:
        return [Tap(after, grid) for grid in GRIDS if all(tap_sizes([Tap(after, grid)], shapes))]

    cut, deep = grids(0), grids(maps[-1])
    sets = [*zip(cut, strict=True), *(itertools.product(cut, deep) if maps[-1] else ())]
    return [taps for taps in sets if sum(_sizes(program, taps)) <= MAX_FEATURES]


def _scores(blank: Statistics, known: _Rows, unseen: _Rows) -> dict[float, float]:
    """For each ridge the mean accuracy of classes, in the mean of some pairs of classes that are taken for new."""
    classes = len(blank.rows)
    pair = min(2, classes // 2)
    accuracies: dict[float, list[float]] = {ridge: [] for ridge in RIDGES}
    for start in range(0, classes - pair + 1, pair)[:MAX_TRIALS]:
        new = range(start, start + pair)
        old = [label for label in range(classes) if label not in new]
        base, fresh, judge = known.first(old, None), known.first(new, NEW_ROWS), unseen.first([*old, *new], None)
        begun = replace(blank, rows=blank.rows[: len(old)], sums=blank.sums[: len(old)])
        learnt = statistics.add(begun, base.counts.astype(np.int64), base.labels)
        learnt = statistics.add(learnt, fresh.counts.astype(np.int64), fresh.labels + len(old), classes)
        for ridge, found in accuracies.items():
            weight, bias = statistics.solve(replace(learnt, ridge=ridge))
            right = (judge.counts @ weight.T + bias).argmax(axis=1) == judge.labels
            found.append(float(np.mean([right[judge.labels == label].mean() for label in np.unique(judge.labels)])))
    return {ridge: float(np.mean(found)) for ridge, found in accuracies.items()}


def _some(part: Part, classes: int) -> Part:
    """As many frames of each class as the choice is made on, at least those of a new class."""
    most = max(NEW_ROWS, CHOICE_VIEWS // (VIEWS * classes))
    return part.rows(np.concatenate([np.flatnonzero(part.labels == label)[:most] for label in range(classes)]))


def _views(part: Part, augmentation: Augmentation) -> Iterator[tuple[Pixels, Labels]]:
    """All frames in chunks with their labels, first as they are, then augmented."""
    generator = seeded(VIEW_SEED)
    for view in range(VIEWS):
        for start in range(0, len(part.labels), CHUNK):
            frames, labels = part.frames[start : start + CHUNK], part.labels[start : start + CHUNK]
            yield augmentation(torch.from_numpy(frames), generator).numpy() if view else frames, labels


def _count(count: Callable[[Pixels], Counts], shown: Iterable[tuple[Pixels, Labels]]) -> _Rows:
    counts, labels = zip(*((count(frames).astype(np.int32), own) for frames, own in shown), strict=True)
    return _Rows(np.concatenate(counts), np.concatenate(labels))


def _sizes(program: Program, taps: Sequence[Tap]) -> list[int]:
    return tap_sizes(taps, _shapes(program))


def _shapes(program: Program) -> list[tuple[int, ...]]:
    return [section_shape(program.exit[:after], program.split_shape) for after in range(len(program.exit))]
