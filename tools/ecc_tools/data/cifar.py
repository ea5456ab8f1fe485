"""CIFAR-10 and CIFAR-100 in their official Python format: a folder of pickled dictionaries."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecc_tools.data.errors import ChecksumWrong, DataCorrupt, unreadable
from ecc_tools.data.parts import DataSet, Part
from ecc_tools.data.pickled import PickleRefused, read_pickle

SIDE = 32
MAX_BYTES = 1 << 28  # the largest official file has 155 MB


@dataclass(frozen=True)
class Layout:
    """How one of the two sets lies on disk, with the official MD5 of each file."""

    folder: str
    training: tuple[tuple[str, str], ...]
    test: tuple[str, str]
    meta: tuple[str, str]
    labels: str
    label_names: str

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """All of them, with their MD5."""
        return (*self.training, self.test, self.meta)


CIFAR10 = Layout(
    folder="cifar-10-batches-py",
    training=(
        ("data_batch_1", "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", "482c414d41f54cd18b22e5b47cb7c3cb"),
    ),
    test=("test_batch", "40351d587109b95175f43aff81a1287e"),
    meta=("batches.meta", "5ff9c542aee3614f3951f8cda6e48888"),
    labels="labels",
    label_names="label_names",
)
CIFAR100 = Layout(
    folder="cifar-100-python",
    training=(("train", "16019d7e3df5f24257cddd939b257f8d"),),
    test=("test", "f0ef6b0ae62326f3e7ffdfab6717acfc"),
    meta=("meta", "7973b15100ade9c7d40fb424638fde48"),
    labels="fine_labels",
    label_names="fine_label_names",
)
LAYOUTS = {"cifar-10": CIFAR10, "cifar-100": CIFAR100}


def open_cifar(name: str, root: Path, *, verify: bool = True) -> DataSet:
    """`cifar-10` or `cifar-100` under `root`. `verify`: compare each file with its official MD5 before it is read.

    `DataNotFound`, `DataUnreadable`, `ChecksumWrong`, `DataCorrupt` (also for a pickle that holds foreign objects).
    """
    layout = LAYOUTS[name]
    folder = root / layout.folder
    meta = _read(folder, layout.meta, verify)
    names = meta.get(layout.label_names)
    if not isinstance(names, list) or not names or not all(isinstance(name, (bytes, str)) for name in names):
        raise DataCorrupt(folder / layout.meta[0], f"it has no list '{layout.label_names}'")
    labels = tuple(name if isinstance(name, str) else name.decode("ascii", "replace") for name in names)

    def part(files: Sequence[tuple[str, str]]) -> Part:
        batches = [_batch(folder, file, layout, len(labels), verify) for file in files]
        return Part(
            np.concatenate([batch.frames for batch in batches]), np.concatenate([batch.labels for batch in batches])
        )

    return DataSet(name, labels, lambda: part(layout.training), lambda: part([layout.test]))


def verify_cifar(name: str, root: Path, told: Callable[[float], None]) -> int:
    """Compare each file with its official MD5; how many there are. `told`: the share done.

    `DataNotFound`, `DataUnreadable`, `ChecksumWrong`.
    """
    layout = LAYOUTS[name]
    for number, file in enumerate(layout.files, 1):
        _load(root / layout.folder, file, verify=True)
        told(number / len(layout.files))
    return len(layout.files)


def _batch(folder: Path, file: tuple[str, str], layout: Layout, classes: int, verify: bool) -> Part:
    path = folder / file[0]
    content = _read(folder, file, verify)
    pixels, labels = content.get("data"), content.get(layout.labels)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != 3 * SIDE * SIDE:
        raise DataCorrupt(path, f"its 'data' is no matrix of {3 * SIDE * SIDE} columns")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        raise DataCorrupt(path, f"it has {len(pixels)} images, and no list '{layout.labels}' of as many")
    if not all(type(label) is int and 0 <= label < classes for label in labels):
        raise DataCorrupt(path, f"it has labels outside of 0 to {classes - 1}")
    frames = pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Part(np.ascontiguousarray(frames), np.array(labels, np.int64))


def _read(folder: Path, file: tuple[str, str], verify: bool) -> dict[str, Any]:
    blob = _load(folder, file, verify)
    try:
        return read_pickle(blob)
    except PickleRefused as exc:
        raise DataCorrupt(folder / file[0], f"its pickle cannot be read: {exc}") from exc


def _load(folder: Path, file: tuple[str, str], verify: bool) -> bytes:
    path = folder / file[0]
    try:
        with path.open("rb") as stream:
            blob = stream.read(MAX_BYTES + 1)
    except OSError as exc:
        raise unreadable(path, exc) from exc
    if len(blob) > MAX_BYTES:
        raise DataCorrupt(path, f"it has more than {MAX_BYTES:,} bytes")
    if verify and hashlib.md5(blob, usedforsecurity=False).hexdigest() != file[1]:
        raise ChecksumWrong(path)
    return blob
