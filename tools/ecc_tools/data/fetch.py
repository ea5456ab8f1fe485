"""Bringing a set from its own official address, and checking what lies on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ecc_model.progress import progress_bar
from ecc_tools.data import caltech, tiny_imagenet
from ecc_tools.data.cifar import CIFAR10, CIFAR100, LAYOUTS, verify_cifar
from ecc_tools.data.download import download, md5_of
from ecc_tools.data.errors import ChecksumWrong, DataCorrupt, DataError, DataUnreadable, unreadable
from ecc_tools.data.sets import SETS, data_root, open_dataset
from ecc_tools.data.unpacking import unpack


@dataclass(frozen=True)
class Archive:
    """Where a set lies, with the MD5 of the archive, and the folder of it that is unpacked."""

    url: str
    md5: str
    folder: str
    inner: str = ""  # the archive inside the archive that holds the folder


ARCHIVES = {
    "cifar-10": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", CIFAR10.folder
    ),
    "cifar-100": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", CIFAR100.folder
    ),
    "tiny-imagenet": Archive(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip", "90528d7ca1a48142e341f4ef8d21d0de", tiny_imagenet.FOLDER
    ),
    "caltech-101": Archive(
        "https://data.caltech.edu/records/mzrjq-6wc02/files/caltech-101.zip",
        "3138e1922a9193bfa496528edbbc45d0",
        caltech.FOLDER,
        inner="caltech-101/101_ObjectCategories.tar.gz",
    ),
}


class NothingToFetch(DataError):
    """A set that is not downloaded."""


def fetch(name: str, root: Path | None = None) -> tuple[Path, bool]:
    """Download, check and unpack a set of `ARCHIVES` below `data_root(root)`: its folder, and whether it is new there.

    An archive that lies there already is unpacked without a download, and stays. Beside the folder, `FOLDER.sha256`
    keeps the checksums of its files, for `verify` or `sha256sum -c`. `NothingToFetch` for a set without an archive;
    `DownloadFailed`, `ChecksumWrong`, `DataCorrupt`, `DataUnreadable`.
    """
    if name not in ARCHIVES:
        known = ", ".join(ARCHIVES)
        reason = "comes with scikit-learn" if name in SETS else "is no set with an address"
        raise NothingToFetch(f"'{name}' {reason}; those that can be fetched are {known}")
    archive, into = ARCHIVES[name], data_root(root)
    folder = into / archive.folder
    if folder.exists():
        return folder, False
    packed = into / archive.url.rpartition("/")[2]
    brought = not packed.exists()
    try:
        into.mkdir(parents=True, exist_ok=True)
        if brought:
            with progress_bar(f"downloading {name}") as told:
                download(archive.url, packed, archive.md5, told)
        elif md5_of(packed) != archive.md5:
            raise ChecksumWrong(packed)
        with progress_bar(f"unpacking {name}") as told:
            sums = unpack(packed, archive.folder, into, told, inner=archive.inner)
        _sums_file(folder).write_text("".join(f"{sha256}  {path}\n" for path, sha256 in sums.items()), encoding="utf-8")
        if brought:
            packed.unlink()
    except OSError as exc:
        raise DataUnreadable(into, exc) from exc
    return folder, True


def verify(name: str, root: Path | None = None) -> str:
    """Check all files of a set, and say in words against what.

    CIFAR's files have official checksums, others those that `fetch` kept; without them every image is read.
    `ChecksumWrong`, `DataNotFound`, `DataCorrupt`, `DataUnreadable`.
    """
    into = data_root(root)
    with progress_bar(f"checking {name}") as told:
        if name in LAYOUTS:
            return f"{verify_cifar(name, into, told)} files are the official ones, by their MD5"
        if name in ARCHIVES and _sums_file(into / ARCHIVES[name].folder).exists():
            count = _compare(_sums_file(into / ARCHIVES[name].folder), told)
            return f"{count:,} files are as they were fetched, by their SHA-256"
    data = open_dataset(name, root)
    count = len(data.learning().labels) + len(data.test().labels)
    return f"{count:,} images can be read; there are no checksums to compare them with"


def _sums_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.sha256")


def _compare(listed: Path, told: Callable[[float], None]) -> int:
    try:
        rows = [line.partition("  ") for line in listed.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as exc:
        raise DataCorrupt(listed, "not a list of checksums") from exc
    for number, (sha256, _, name) in enumerate(rows, 1):
        path = listed.parent / name
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                raise ChecksumWrong(path)
        except OSError as exc:
            raise unreadable(path, exc) from exc
        told(number / len(rows))
    return len(rows)
