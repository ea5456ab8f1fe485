"""What a learner may look at, and what it makes of it; no held-out or judging row is among it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_device.engines import make_engine
from ecc_device.engines.exits import Counter
from ecc_device.learning.checkpoint import Checkpoint
from ecc_device.learning.job import Job
from ecc_model import bits, statistics
from ecc_model.bits import Spikes
from ecc_model.modelfile import EdgeModel
from ecc_model.program import Program
from ecc_model.statistics import Statistics

Packed = NDArray[np.uint8]
Logits = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a learner makes: a program with another exit, and where torch's network learnt, that network."""

    program: Program
    net: Any = None  # SpikingVgg9


@dataclass(frozen=True, eq=False)
class Lesson:
    """The rows of one update to learn from, uint8 (R, bytes), with the cloud's logits (R, N) over the grown classes.

    statistics: the model's, with these rows; None where it has none. checkpoint: where a learner that takes long was.
    """

    model: EdgeModel
    labels: list[str]
    rows: Packed
    logits: Logits
    statistics: Statistics | None
    seed: int
    progress: Callable[[float], None]
    checkpoint: Checkpoint


def make_lesson(
    model: EdgeModel,
    job: Job,
    arrays: dict[str, NDArray[Any]],
    progress: Callable[[float], None],
    checkpoint: Checkpoint,
) -> Lesson:
    """The job's rows, without those that are held out."""
    learnt = ~arrays["held"].astype(np.bool_)
    rows, logits = arrays["bits"][learnt], arrays["logits"][learnt]
    grown = None
    if model.statistics is not None:
        counts = count_rows(model.program, model.statistics, rows)
        grown = statistics.add(model.statistics, counts, logits.argmax(axis=1), len(job.labels))
    return Lesson(model, job.labels, rows, logits, grown, job.seed, progress, checkpoint)


def count_rows(program: Program, counted: Statistics, rows: Packed) -> NDArray[np.int64]:
    """The statistics' features (R, D) of packed split-point rows uint8 (R, bytes)."""
    shape = program.split_shape
    counter = Counter(counted.layers, counted.taps, shape, make_engine(None, program).segment)
    counts = np.zeros((len(rows), counted.features), np.int64)
    for index, row in enumerate(rows):
        counts[index] = counter.counts(bits.unpack(row.tobytes(), shape))
    return counts


def exit_logits(program: Program, rows: Packed) -> Logits:
    """Logits (R, N) of packed split-point rows uint8 (R, bytes)."""
    engine = make_engine(None, program)
    logits = np.zeros((len(rows), program.classes), np.float32)
    for index, row in enumerate(rows):
        logits[index] = engine.exit(bits.unpack(row.tobytes(), program.split_shape))
    return logits


def unpack_rows(rows: Packed, program: Program) -> Spikes:
    """Packed rows uint8 (R, bytes) to spikes (R, T, C, H, W)."""
    spikes = np.zeros((len(rows), *program.split_shape), np.bool_)
    for index, row in enumerate(rows):
        spikes[index] = bits.unpack(row.tobytes(), program.split_shape)
    return spikes
