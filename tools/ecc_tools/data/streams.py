"""Recordings for replays and demos: test images in a random order, as if a camera had seen them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ecc_device.sources import save_npz
from ecc_tools.data.errors import DataError
from ecc_tools.data.parts import DataSet


class TooFewImages(DataError):
    """More frames were asked for than the test part has."""


def write_streams(data: DataSet, paths: Sequence[Path], frames: int, seed: int, rate_hz: float) -> None:
    """Write recordings (.npz) of `frames` test images each, no image in two of them, equally many of each class.

    `TooFewImages` where the test part or one of its classes has too few.
    """
    part, rng = data.test(), np.random.default_rng(seed)
    share = frames // len(data.names)
    rows = [rng.permutation(np.flatnonzero(part.labels == label)) for label in range(len(data.names))]
    fewest = min(len(of_class) for of_class in rows)
    if share == 0 or share * len(paths) > fewest:
        raise TooFewImages(
            f"{data.name}: {len(paths)} recordings of {frames} frames need {max(share, 1) * len(paths)} test images of "
            f"each of {len(data.names)} classes, and one class has {fewest}; ask for fewer frames, or for more than "
            "there are classes"
        )
    for index, path in enumerate(paths):
        chosen = np.concatenate([of_class[index * share : (index + 1) * share] for of_class in rows])
        shown = part.rows(rng.permutation(chosen))
        times = np.arange(len(shown.labels)) / rate_hz
        save_npz(path, shown.frames, labels=shown.labels, names=data.names, times=times)
