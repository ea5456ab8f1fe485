"""Tiny ImageNet in its official layout: `wnids.txt`, `words.txt`, `train/` and `val/`.

The official test images have no published labels; as everywhere, the official validation images are tested with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ecc_device.sources.imagefolder import list_images
from ecc_tools.data.errors import DataCorrupt, DataNotFound, unreadable
from ecc_tools.data.images import read_images, read_part
from ecc_tools.data.parts import DataSet, Part

FOLDER = "tiny-imagenet-200"
SIZE = (64, 64)


def open_tiny_imagenet(root: Path) -> DataSet:
    """The set under `root`, with those classes of `wnids.txt`, in its order, that have training images.

    A class is called by its first word. `DataNotFound`, `DataUnreadable`, `DataCorrupt`.
    """
    folder = root / FOLDER
    files = {}
    for (wnid,) in _table(folder / "wnids.txt", 1):
        images = folder / "train" / _plain(wnid, folder / "wnids.txt") / "images"
        try:
            files[wnid] = list_images(images)
        except FileNotFoundError:
            continue  # the set was cut down to other classes
        except OSError as exc:
            raise unreadable(images, exc) from exc
    wnids = [wnid for wnid, images in files.items() if images]
    if not wnids:
        raise DataNotFound(folder / "train")
    words = {wnid: names.partition(",")[0].strip() for wnid, names in _table(folder / "words.txt", 2)}
    firsts = [words.get(wnid, wnid) for wnid in wnids]
    names = tuple(wnid if firsts.count(first) > 1 else first for wnid, first in zip(wnids, firsts, strict=True))
    return DataSet(
        "tiny-imagenet",
        names,
        lambda: read_part(files, wnids, SIZE, fit=False),
        lambda: _validation(folder / "val", {wnid: label for label, wnid in enumerate(wnids)}),
    )


def _validation(folder: Path, labels: Mapping[str, int]) -> Part:
    listed = folder / "val_annotations.txt"
    rows = _table(listed, 2)
    unknown = [wnid for _, wnid in rows if wnid not in labels]
    if unknown:
        raise DataCorrupt(listed, f"a class {unknown[0]!r} without training images")
    paths = [folder / "images" / _plain(name, listed) for name, _ in rows]
    return read_images(paths, [labels[wnid] for _, wnid in rows], SIZE, fit=False)


def _table(path: Path, columns: int) -> list[list[str]]:
    """The first `columns` of each line, which tabs divide."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as exc:
        raise unreadable(path, exc) from exc
    except UnicodeDecodeError as exc:
        raise DataCorrupt(path, "no text") from exc
    rows = [line.split("\t")[:columns] for line in lines if line.strip()]
    short = [number for number, row in enumerate(rows, 1) if len(row) < columns]
    if short:
        raise DataCorrupt(path, f"row {short[0]} has fewer than {columns} columns")
    return rows


def _plain(name: str, path: Path) -> str:
    """`name`, if it names a file in a folder and nothing above it."""
    if Path(name).name != name or name == ".." or "\0" in name:
        raise DataCorrupt(path, f"{name!r} is no file name")
    return name
