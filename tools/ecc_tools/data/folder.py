"""Any folder of images as a data set: a sub-folder for each class, or `train/` and `test/` with such sub-folders."""

from __future__ import annotations

import functools
from pathlib import Path

from ecc_tools.data.errors import BadImages, DataCorrupt
from ecc_tools.data.images import Files, Size, image_size, list_classes, read_part, split
from ecc_tools.data.parts import DataSet, Part

MAX_OWN_SIDE = 256  # larger images are brought to `SIDE` even where all are alike
SIDE = 64


def open_folder(folder: Path) -> DataSet:
    """The images below `folder`, classes by name; its parts are `train/` and `test/`, or a fixed split.

    Images that are all of one size stay as they are; otherwise all become `SIDE` x `SIDE`. `BadImages`,
    `DataNotFound`, `DataUnreadable`; reading a part also `DataCorrupt`.
    """
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        learning = list_classes(folder / "train")
        names = tuple(learning)

        def test_files() -> Files:
            found = list_classes(folder / "test")
            unknown = sorted(set(found) - set(names))
            if unknown:
                raise BadImages(
                    folder / "test", f"a class '{unknown[0]}' that train/ lacks", "give both the same classes"
                )
            return found

    else:
        learning, kept = split(list_classes(folder))
        names = tuple(learning)

        def test_files() -> Files:
            return kept

    size = functools.cache(lambda: _common_size(learning))

    def part(files: Files) -> Part:
        try:
            return read_part(files, names, size(), fit=True)
        except DataCorrupt as exc:  # a named set would be fetched again
            raise DataCorrupt(exc.path, exc.reason, "replace it or take it away") from exc

    return DataSet(str(folder), names, lambda: part(learning), lambda: part(test_files()))


def _common_size(files: Files) -> Size:
    sizes = {image_size(path) for images in files.values() for path in images}
    size = sizes.pop()
    return (SIDE, SIDE) if sizes or max(size) > MAX_OWN_SIDE else size
