"""What a set holds, in figures."""

from __future__ import annotations

from typing import Any

import numpy as np

from ecc_tools.data.parts import DataSet, Part, hold_out
from ecc_tools.data.sets import FOLDER_TERMS, SETS


def describe(data: DataSet) -> dict[str, Any]:
    """Names, terms, and of each part: images, their shape, images of each class, SHA-256. Reads the test part too.

    `learning` is the official training part, `train` and `validation` are what it is divided into.
    """
    learning = data.learning()
    train, validation = hold_out(learning)
    parts = {"learning": learning, "train": train, "validation": validation, "test": data.test()}
    known = SETS.get(data.name)
    return {
        "name": data.name,
        "page": known.page if known else None,
        "terms": known.terms if known else FOLDER_TERMS,
        "classes": list(data.names),
        "parts": {name: _describe_part(part, data.names) for name, part in parts.items()},
    }


def _describe_part(part: Part, names: tuple[str, ...]) -> dict[str, Any]:
    counts = np.bincount(part.labels, minlength=len(names))
    return {
        "images": len(part.labels),
        "shape": list(part.frames.shape[1:]),
        "per_class": {name: int(count) for name, count in zip(names, counts, strict=True)},
        "sha256": part.sha256,
    }
