"""Anytime exit: a frame whose answer is sure enough after t of the T time steps needs no more of them.

The logits after t steps are sums over those (`Engine.exit`), so each t has a temperature of its own. A frame ends at
the first t at which the normalized entropy of its answer is at or below one limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecc_device.calibration import entropies, fit_temperature
from ecc_device.engines import Engine, make_engine
from ecc_device.frame import Frame
from ecc_device.results import Answer, make_answer
from ecc_model.bits import Spikes
from ecc_model.modelfile import EarlyInfo, EdgeModel
from ecc_model.program import Program

MAX_LOSS = 0.003  # of the mean of the classes' accuracies
MIN_SAVED = 0.15  # share of the steps; for less nothing is risked
LIMITS = tuple(k / 100 for k in range(1, 101))


class Seen(NamedTuple):
    """What the edge makes of a frame: spikes at the split point (t, C, H, W), logits (N,), and its answer by them."""

    split: Spikes
    logits: list[float]
    temperature: float
    answer: Answer


def see(engine: Engine, model: EdgeModel, frame: Frame, limit: float | None) -> Seen:
    """The edge's answer, after the first steps if its entropy is at or below `limit` then; None: after all steps.

    A frame that comes as spikes ends where they end. `FrameError`: the frame does not fit.
    """
    steps = model.program.steps
    stops = (steps,) if limit is None else range(1, steps + 1)
    start, parts = 0, []
    for stop in stops:
        part = engine.head(frame.pixels, start, stop) if frame.spikes is None else frame.spikes[start:stop]
        parts.append(part)
        logits = engine.exit(part, start).tolist()
        start += len(part)
        answer = answer_after(model, logits, start)
        if (limit is not None and answer.entropy <= limit) or (frame.spikes is not None and start == len(frame.spikes)):
            break
    split = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return Seen(split, logits, temperature_after(model, start), answer)


def early_limit(model: EdgeModel, threshold: float) -> float | None:
    """The `limit` for a device that asks about frames above `threshold`; None where the model knows none."""
    early = model.manifest.early
    return None if early is None else min(early.limit, threshold)


def answer_after(model: EdgeModel, logits: Sequence[float], steps: int) -> Answer:
    """The answer by the logits after `steps` steps."""
    return make_answer(logits, model.labels, temperature_after(model, steps))


def temperature_after(model: EdgeModel, steps: int) -> float:
    """The temperature of the logits after `steps` steps."""
    early = model.manifest.early
    return model.temperature if early is None or steps == model.program.steps else early.temperatures[steps - 1]


def step_logits(program: Program, splits: Iterable[Spikes]) -> NDArray[np.float32]:
    """Logits (R, T, N) after 1, 2, ... T time steps, of R frames' spikes at the split point (T, C, H, W)."""
    engine, steps = make_engine(None, program), range(program.steps)
    logits = [[engine.exit(split[step : step + 1], step) for step in steps] for split in splits]
    return np.array(logits, np.float32).reshape(-1, program.steps, program.classes)


def fit_early(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> EarlyInfo | None:
    """Temperatures, and the largest limit that loses at most `MAX_LOSS`; None where it saves less than `MIN_SAVED`.

    logits: (R, T, N), after each step, of rows that were not learnt from; labels: (R,). Classes count alike, however
    few rows one has: the first steps must not cost what was just learnt.
    """
    before = logits[:, :-1]
    temperatures = [fit_temperature(before[:, step].tolist(), labels.tolist()) for step in range(before.shape[1])]
    unsure = np.array([entropies(before[:, step], temperatures[step]) for step in range(before.shape[1])])
    unsure = unsure.T.reshape(before.shape[:2])
    right = logits.argmax(axis=2) == labels[:, None]
    present = np.unique(labels)
    weights = 1.0 / (len(present) * np.bincount(labels)[labels])
    whole, best, saved = float(weights @ right[:, -1]), 0.0, 0.0
    for limit in LIMITS:
        ended = np.column_stack([unsure <= limit, np.ones(len(right), np.bool_)]).argmax(axis=1)
        if weights @ right[np.arange(len(right)), ended] >= whole - MAX_LOSS - 1e-9:
            best, saved = limit, 1.0 - float(weights @ (ended + 1.0)) / right.shape[1]
    return EarlyInfo(temperatures=temperatures, limit=best) if saved >= MIN_SAVED else None
