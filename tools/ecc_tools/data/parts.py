"""A data set as its three parts: to train with, to choose with, to report on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecc_model.frames import Pixels

Labels = NDArray[np.int64]
VALIDATION_SHARE = 0.1  # of each class's official training images
SPLIT_SEED = 0


@dataclass(frozen=True, eq=False)
class Part:
    """frames: uint8 (N, H, W, C); labels: int64 (N,), indices into the names of the set."""

    frames: Pixels
    labels: Labels

    def of(self, classes: Sequence[int]) -> Part:
        """Only the images of `classes`; their labels become positions in that list."""
        position = np.full(int(self.labels.max(initial=0)) + 1, -1, np.int64)
        inside = [label for label in classes if label < len(position)]
        position[inside] = np.arange(len(inside))
        keep = position[self.labels] >= 0
        return Part(self.frames[keep], position[self.labels[keep]])

    def rows(self, rows: NDArray[np.int64]) -> Part:
        """The images at `rows`, in that order."""
        return Part(self.frames[rows], self.labels[rows])

    @property
    def sha256(self) -> str:
        """Hash (hex) of the pixels followed by the labels as bytes (two bytes each beyond 256 classes)."""
        narrow = np.uint8 if self.labels.max(initial=0) < 256 else np.dtype("<u2")
        digest = hashlib.sha256(np.ascontiguousarray(self.frames).data)
        digest.update(self.labels.astype(narrow).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class DataSet:
    """A set of labelled images. No file of the test part is opened before `test` is called.

    `learning` yields the official training images; a fixed tenth of each class is held out of them for validation.
    """

    name: str
    names: tuple[str, ...]
    learning: Callable[[], Part]
    test: Callable[[], Part]

    def training(self) -> tuple[Part, Part]:
        """The parts to train with and to choose with."""
        return hold_out(self.learning())


def hold_out(part: Part, share: float = VALIDATION_SHARE, seed: int = SPLIT_SEED) -> tuple[Part, Part]:
    """Split `share` of each class off, at least one image: (the rest, what was split off). The choice is fixed."""
    rng = np.random.default_rng(seed)
    held = np.zeros(len(part.labels), np.bool_)
    for label in np.unique(part.labels):
        rows = np.flatnonzero(part.labels == label)
        held[rng.permutation(rows)[: max(1, round(share * len(rows)))]] = True
    return part.rows(np.flatnonzero(~held)), part.rows(np.flatnonzero(held))
