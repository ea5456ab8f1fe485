"""A folder of images as a recording; a sub-folder for each class gives labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ecc_device.frame import DEFAULT_RATE_HZ, Frame
from ecc_model.errors import SourceError
from ecc_model.frames import MAX_SIDE

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
        try:
            classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
            loose = list_images(folder)
            self._files = loose or [image for path in classes for image in list_images(path)]
            labelled = [path.name for path in classes if list_images(path)]
        except OSError as exc:
            raise SourceError(f"{folder}: cannot be listed ({exc.strerror}); check its permissions") from exc
        if not self._files:
            raise SourceError(f"{folder}: holds no images; put {', '.join(IMAGE_SUFFIXES)} files there")
        if loose and labelled:
            raise SourceError(
                f"{folder}: holds images ({loose[0].name}) beside class folders ({labelled[0]}); "
                "keep either images, or one folder for each class"
            )
        self.labels: tuple[str, ...] | None = tuple(labelled) or None
        self.length: int | None = len(self._files)
        self.shape: tuple[int, ...] = _read(self._files[0]).shape

    def __iter__(self) -> Iterator[Frame]:
        for index, path in enumerate(self._files):
            label = None if self.labels is None else path.parent.name
            yield Frame(index, index / self.rate_hz, _read(path), label)

    def close(self) -> None:
        """Nothing is held open between two frames."""


def list_images(folder: Path) -> list[Path]:
    """Image files of a folder by name; hidden ones are passed over. `OSError` where it cannot be listed."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _read(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """One image as uint8 (H, W, 3)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # MAX_SIDE refuses those, in one line
            image = Image.open(path)
        with image:
            if max(image.size) > MAX_SIDE:  # before anything is decoded: a small file may claim gigabytes
                raise SourceError(f"{path}: {image.width} x {image.height} pixels; sides are at most {MAX_SIDE}")
            if image.mode.startswith(_WIDE_MODES):
                raise SourceError(f"{path}: more than 8 bits a channel (mode {image.mode}); convert it to 8 bits")
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as exc:
        raise SourceError(f"{path}: not a readable image; remove it or copy it again") from exc
