"""What a device makes of many frames, by the engine that a device runs: faster than batches, and the bits it has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ecc_device.engines import make_engine
from ecc_device.engines.exits import Counter
from ecc_model.bits import Spikes
from ecc_model.frames import Pixels
from ecc_model.layers import Layer, Tap
from ecc_model.program import Program


def split_spikes(program: Program, frames: Pixels) -> Spikes:
    """Spikes at the cut (N, T, C, H, W) for frames (N, H, W, C), or (N, T, H, W, C)."""
    return np.stack([*map(make_engine(None, program).head, frames)])


def encode(program: Program, frames: Pixels, encoder: int = 0) -> Spikes:
    """What a device would send for each frame by one of its encoders: (N, T, C', H', W')."""
    engine = make_engine(None, program)
    return np.stack([engine.encode(engine.head(frame), encoder) for frame in frames])


def encode_all(program: Program, frames: Pixels) -> list[Spikes]:
    """The same for each of its encoders; the head runs once."""
    engine, encoders = make_engine(None, program), range(len(program.encoders))
    splits = map(engine.head, frames)
    return [np.stack(codes) for codes in zip(*([engine.encode(s, e) for e in encoders] for s in splits), strict=True)]


def integer_logits(program: Program, frames: Pixels) -> NDArray[np.float32]:
    """Logits (N, classes)."""
    engine = make_engine(None, program)
    return np.stack([engine.exit(engine.head(frame)) for frame in frames])


def counting(program: Program, taps: Sequence[Tap]) -> Callable[[Pixels], NDArray[np.int64]]:
    """Makes of frames what a probe with these taps in the exit would count: (N, D)."""
    engine = make_engine(None, program)
    layers = cast(Sequence[Layer], program.exit[: max(tap.after for tap in taps)])
    counter = Counter(layers, taps, program.split_shape, engine.segment)
    return lambda frames: np.stack([counter.counts(engine.head(frame)) for frame in frames])
