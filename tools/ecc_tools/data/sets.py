"""All data sets by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecc_tools.data.caltech import open_caltech
from ecc_tools.data.cifar import open_cifar
from ecc_tools.data.errors import BadImages, UnknownSet
from ecc_tools.data.folder import open_folder
from ecc_tools.data.parts import DataSet, Part
from ecc_tools.data.tiny_imagenet import open_tiny_imagenet

DIGITS_SEED = 0


@dataclass(frozen=True)
class KnownSet:
    """A set that has a name: what it holds, whose it is, and how it is opened."""

    holds: str
    page: str
    terms: str
    open: Callable[[Path], DataSet]


def _open_digits(root: Path) -> DataSet:
    from ecc_tools.digits import NAMES, load_digits

    def join(*names: str) -> Part:
        parts = load_digits(DIGITS_SEED)
        return Part(
            np.concatenate([parts[name].frames for name in names]),
            np.concatenate([parts[name].labels for name in names]),
        )

    return DataSet("digits", NAMES, lambda: join("train", "validation"), lambda: join("first", "second"))


_CIFAR_TERMS = "none stated by the authors; for research, cite Krizhevsky 2009"
SETS = {
    "cifar-10": KnownSet(
        "50,000 + 10,000 images of 10 classes, 32 x 32",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        _CIFAR_TERMS,
        lambda root: open_cifar("cifar-10", root),
    ),
    "cifar-100": KnownSet(
        "50,000 + 10,000 images of 100 classes, 32 x 32",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        _CIFAR_TERMS,
        lambda root: open_cifar("cifar-100", root),
    ),
    "tiny-imagenet": KnownSet(
        "100,000 + 10,000 images of 200 classes, 64 x 64",
        "http://cs231n.stanford.edu/",
        "ImageNet's: non-commercial research and education",
        open_tiny_imagenet,
    ),
    "caltech-101": KnownSet(
        "8,677 images of 101 classes, brought to 64 x 64",
        "https://data.caltech.edu/records/mzrjq-6wc02",
        "see its page before passing images on; cite Li, Andreeto, Ranzato and Perona 2022",
        open_caltech,
    ),
    "digits": KnownSet(
        "1,740 scans of 10 digits, 16 x 16, grey; they come with scikit-learn",
        "https://archive.ics.uci.edu/dataset/80/",
        "CC BY 4.0; cite Alpaydin and Kaynak 1998",
        _open_digits,
    ),
}
FOLDER_TERMS = "your own: the images come from a folder of yours"


def open_dataset(name: str, root: Path | None = None) -> DataSet:
    """A set of `SETS` that lies under `data_root(root)`, or the folder of images at the path `name`.

    `UnknownSet`, `BadImages`, and what its format raises.
    """
    known = SETS.get(name)
    if known is not None:
        return known.open(data_root(root))
    folder = Path(name)
    if folder.is_dir():
        return open_folder(folder)
    if folder.is_file():
        remedy = "give a set's name or a folder of images per class (collaborate and costs take recordings)"
        raise BadImages(folder, "a file, and no data set", remedy)
    if os.sep in name:
        raise BadImages(folder, "no such folder", "check the path")
    raise UnknownSet(name, SETS)


def data_root(root: Path | None) -> Path:
    """`root`, else the folder that ECC_DATA names, else `data` in the working directory."""
    return root or Path(os.environ.get("ECC_DATA") or "data")
