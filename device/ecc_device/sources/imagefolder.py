"""A folder of images as a recording; a sub-folder for each class gives labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ecc_device.frame import DEFAULT_RATE_HZ, Frame
from ecc_device.sources.listing import ClassFolder, list_files
from ecc_model.errors import SourceError
from ecc_model.frames import MAX_SIDE, Pixels
from ecc_model.optional import require

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_WIDE_MODES = ("I", "F")  # more than 8 bits a channel: which 8 to take is not ours to guess


class ImageFolder:
    """RGB frames from a folder, by name; with sub-folders, one class after the other.

    Sizes may differ between images. Raises `SourceError` for a folder without images, for one that mixes images
    and classes, and (while iterating) for an image that cannot be read.
    """

    live = False
    rate_hz = DEFAULT_RATE_HZ

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._files = ClassFolder(folder, IMAGE_SUFFIXES, "images")
        self.labels: tuple[str, ...] | None = self._files.labels
        self.length: int | None = len(self._files.paths)
        self.shape: tuple[int, ...] = _read(self._files.paths[0]).shape

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self._files.paths):
            yield Frame(index, index / self.rate_hz, _read(path), self._files.label(path))

    def close(self) -> None:
        """Nothing is held open between two frames."""


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder by name; hidden ones are passed over. `OSError` where it cannot be listed."""
    return list_files(folder, IMAGE_SUFFIXES)


def _read(path: Path) -> Pixels:
    return read_image(path, str(path))


def read_image(file: Path | BinaryIO, name: str) -> Pixels:
    """One image as uint8 (H, W, 3). `SourceError` begins with its name; `MissingPackage` without Pillow."""
    Image = require("PIL.Image", "reading images")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_SIDE refuses those, in one line
            image = Image.open(file)
        with image:
            if max(image.size) > MAX_SIDE:  # before anything is decoded: a small file may claim gigabytes
                raise SourceError(f"{name}: {image.width} x {image.height} pixels; sides are at most {MAX_SIDE}")
            if image.mode.startswith(_WIDE_MODES):
                raise SourceError(f"{name}: more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
            pixels: Pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
            return pixels
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise SourceError(f"{name}: not a readable image; remove it or copy it again") from exc
