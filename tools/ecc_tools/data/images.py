"""Folders of image files, one folder for each class: listed without opening a file, read into one array."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecc_device.sources.imagefolder import IMAGE_SUFFIXES, list_images
from ecc_model.frames import MAX_SIDE, Pixels, resize
from ecc_model.optional import require
from ecc_model.progress import progress_bar
from ecc_tools.data.errors import BadImages, DataCorrupt, unreadable
from ecc_tools.data.parts import Part

if TYPE_CHECKING:
    from PIL.Image import Image

TEST_SHARE = 0.2  # of each class, where a set names no test images itself
MIN_IMAGES = 3  # of each class: one for each part
Files = Mapping[str, Sequence[Path]]  # class -> its image files, by name
Size = tuple[int, int]  # height, width
_WIDE_MODES = ("I", "F")  # more than 8 bits a channel: which 8 to take is not ours to guess


def list_classes(folder: Path, *, without: Sequence[str] = ()) -> dict[str, list[Path]]:
    """The image files in each sub-folder of `folder`, but those in `without`; no file is opened.

    Hidden folders and folders without images are passed over. `BadImages` where nothing is left, or where images
    lie beside the folders.
    """
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        files = {path.name: list_images(path) for path in entries if path.is_dir() and path.name not in without}
    except OSError as exc:
        raise unreadable(folder, exc) from exc
    files = {name: images for name, images in files.items() if images}
    if not files:
        raise BadImages(
            folder, "no folders with images in it", "put the images of each class into a folder of its name"
        )
    loose = [path.name for path in entries if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if loose:
        raise BadImages(folder, f"images ({loose[0]}) beside class folders", "keep all images in the class folders")
    return files


def split(files: Files) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Files to learn from and files to test with: `TEST_SHARE` of each class, at least one, chosen by their names.

    The choice for a class does not depend on other classes. `BadImages` for a class below `MIN_IMAGES`.
    """
    learning, test = {}, {}
    for name, images in files.items():
        if len(images) < MIN_IMAGES:
            raise BadImages(images[0].parent, f"{len(images)} images", f"a class needs at least {MIN_IMAGES}")
        drawn = sorted(images, key=lambda path: hashlib.sha256(f"{name}/{path.name}".encode()).digest())
        count = max(1, round(TEST_SHARE * len(images)))
        learning[name], test[name] = sorted(drawn[count:]), sorted(drawn[:count])
    return learning, test


def read_part(files: Files, names: Sequence[str], size: Size, *, fit: bool) -> Part:
    """The files of `names` as one part, in that order; a label is a position in `names`.

    fit: bring images of another size to `size`; otherwise they are `DataCorrupt`, as are files that are no images.
    """
    chosen = [(path, label) for label, name in enumerate(names) for path in files.get(name, ())]
    return read_images([path for path, _ in chosen], [label for _, label in chosen], size, fit=fit)


def read_images(paths: Sequence[Path], labels: Sequence[int], size: Size, *, fit: bool) -> Part:
    """One image after the other as uint8 (N, height, width, 3), with their labels."""
    frames = np.empty((len(paths), *size, 3), np.uint8)
    with progress_bar("reading images") as told:
        for index, path in enumerate(paths):
            frame = _read(path)
            if frame.shape[:2] != size and not fit:
                raise DataCorrupt(path, f"{frame.shape[1]} x {frame.shape[0]} pixels, not {size[1]} x {size[0]}")
            frames[index] = resize(frame, *size)
            told((index + 1) / len(paths))
    return Part(frames, np.array(labels, np.int64))


def image_size(path: Path) -> Size:
    """Height and width that an image's header tells. `DataCorrupt`."""
    with _open(path) as image:
        return image.height, image.width


def _pillow() -> tuple[Any, tuple[type[BaseException], ...]]:
    """Pillow, and what it raises on files that are no images. `MissingPackage`."""
    pillow = require("PIL.Image", "reading images")
    return pillow, (OSError, SyntaxError, ValueError, pillow.DecompressionBombError, pillow.DecompressionBombWarning)


def _open(path: Path) -> Image:
    pillow, broken = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pillow.DecompressionBombWarning)
            image: Image = pillow.open(path)
    except (FileNotFoundError, PermissionError) as exc:
        raise unreadable(path, exc) from exc
    except broken as exc:
        raise DataCorrupt(path, "not a readable image") from exc
    if not 1 <= min(image.size) <= max(image.size) <= MAX_SIDE:
        image.close()
        raise BadImages(path, f"{image.width} x {image.height} pixels", f"sides are 1 to {MAX_SIDE} pixels")
    return image


def _read(path: Path) -> Pixels:
    with _open(path) as image:
        if image.mode.startswith(_WIDE_MODES):
            raise BadImages(path, f"more than 8 bits a channel (mode {image.mode})", "convert it to 8 bits")
        _, broken = _pillow()
        try:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
        except broken as exc:
            raise DataCorrupt(path, "not a readable image") from exc
