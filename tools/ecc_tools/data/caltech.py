"""Caltech-101 in its official layout: `101_ObjectCategories/`, a folder for each class."""

from __future__ import annotations

from pathlib import Path

from ecc_tools.data.images import list_classes, read_part, split
from ecc_tools.data.parts import DataSet

FOLDER = "101_ObjectCategories"
CLUTTER = "BACKGROUND_Google"  # what the authors found beside their classes; no class itself
SIDE = 64


def open_caltech(root: Path, *, side: int = SIDE) -> DataSet:
    """The set under `root`, all images `side` x `side`. It has no official parts: the split is ours, and fixed.

    `DataNotFound`, `DataUnreadable`, `BadImages`; reading a part also `DataCorrupt`.
    """
    learning, test = split(list_classes(root / FOLDER, without=[CLUTTER]))
    names, size = tuple(learning), (side, side)
    return DataSet(
        "caltech-101",
        names,
        lambda: read_part(learning, names, size, fit=True),
        lambda: read_part(test, names, size, fit=True),
    )
