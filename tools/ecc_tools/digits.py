"""scikit-learn's handwritten digits, 1,797 real scans that come with the package, as 16x16 frames in fixed parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ecc_model.frames import resize
from ecc_model.optional import require
from ecc_tools.data.parts import Part

SIDE = 16
NAMES = tuple("0123456789")
KNOWN = 6  # the edge is trained on digits 0-5; 6-9 are new to it
# Scans of each digit in each part; the rarest digit has 174. Parts never share a scan.
PARTS = {"train": 72, "validation": 42, "first": 31, "second": 29}


def load_digits(seed: int) -> dict[str, Part]:
    """The parts of `PARTS`, shuffled by `seed`: to train with, to choose with, and two streams unseen at Setup."""
    data = require("sklearn.datasets", "the digits demo").load_digits()
    levels = np.minimum(data.images * 16, 255).astype(np.uint8)[..., None]  # 17 grey levels, 0-16
    frames = resize(levels, SIDE, SIDE)
    labels = data.target.astype(np.int64)
    rng = np.random.default_rng(seed)
    rows: dict[str, list[NDArray[np.int64]]] = {name: [] for name in PARTS}
    for digit in range(len(NAMES)):
        order = rng.permutation(np.flatnonzero(labels == digit))
        start = 0
        for name, count in PARTS.items():
            rows[name].append(order[start : start + count])
            start += count
    parts = {}
    for name, chosen in rows.items():
        order = rng.permutation(np.concatenate(chosen))
        parts[name] = Part(frames[order], labels[order])
    return parts
