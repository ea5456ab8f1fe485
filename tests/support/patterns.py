"""A small set of images that a small network learns in seconds: each class a pattern of bars in noise."""

from __future__ import annotations

import numpy as np

from ecc_tools.data.parts import DataSet, Part

NAMES = ("across", "along", "both", "neither")
SIDE = 16


def pattern_part(count: int, seed: int, classes: int = len(NAMES)) -> Part:
    """`count` images (16, 16, 1) of the first classes in turn."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    frames = rng.integers(0, 90, (count, SIDE, SIDE, 1), dtype=np.uint8)
    frames[np.isin(labels, (0, 2)), 4:8] += 120
    frames[np.isin(labels, (1, 2)), :, 4:8] += 40
    frames[labels == 1, :, 4:8] += 60
    return Part(frames, labels.astype(np.int64))


def patterns(count: int = 240, seed: int = 0) -> DataSet:
    """The set, whose test part nobody may read."""
    return DataSet("patterns", NAMES, lambda: pattern_part(count, seed), forbidden)


def forbidden() -> Part:
    """In place of the test part."""
    raise AssertionError("the test part was read")
