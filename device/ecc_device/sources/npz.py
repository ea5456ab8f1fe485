"""Recordings in numpy's .npz: read frame by frame, so that their length costs no memory.

| array    | type      | shape                                             |
|----------|-----------|---------------------------------------------------|
| `frames` | uint8     | (N, H, W), (N, H, W, C) or (N, T, H, W, C), C 1-3 |
| `labels` | integer   | (N,), optional: indices into `names`              |
| `names`  | str       | (K,), needed by `labels`                          |
| `times`  | float64   | (N,), optional: seconds, never going back         |

Frames are yielded as (H, W, C) or (T, H, W, C). Without times they come at `DEFAULT_RATE_HZ`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_device.frame import DEFAULT_RATE_HZ, Frame
from ecc_device.sources.npzfile import ArrayHeader, NpzFile
from ecc_model.errors import SourceError

MAX_SIDE = 4096  # pixels
MAX_STEPS = 16
MAX_CLASSES = 4096
MAX_NAME_CHARS = 64

_FRAME_SHAPES = "(N, H, W), (N, H, W, C) or (N, T, H, W, C) with C 1 to 3"
# One value a frame: kinds and sizes of numpy types, and how to say it.
_COLUMNS = {"labels": ("iu", (1, 2, 4, 8), "integers"), "times": ("f", (8,), "float64 seconds")}


class NpzRecording:
    """The frames of one .npz, with labels and times where it holds them.

    Raises `SourceError`, which names the file, what is wrong with it and what to do.
    """

    live = False

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        with NpzFile(path) as arrays:
            arrays.verify()
            header = arrays.header("frames")
            self.shape = _frame_shape(path, header.dtype, header.shape)
            self._count = header.shape[0]
            self._names = _read_names(arrays)
            self._labels = _read_labels(arrays, self._count, self._names)
            self._times = _read_times(arrays, self._count)
        self.length: int | None = self._count
        self.labels: tuple[str, ...] | None = self._names
        self.rate_hz = _rate_hz(self._times)

    def __iter__(self) -> Iterator[Frame]:
        with NpzFile(self._path) as arrays, arrays.open("frames") as (_, stream):
            for index in range(self._count):
                pixels = np.frombuffer(stream.read(math.prod(self.shape)), np.uint8).reshape(self.shape)
                time_s = index / DEFAULT_RATE_HZ if self._times is None else float(self._times[index])
                yield Frame(index, time_s, pixels, self._label(index))

    def close(self) -> None:
        """Nothing is held open between two iterations."""

    def _label(self, index: int) -> str | None:
        if self._names is None or self._labels is None:
            return None
        return self._names[int(self._labels[index])]


def save_npz(
    path: Path,
    frames: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]] | None = None,
    names: Sequence[str] | None = None,
    times: NDArray[np.float64] | None = None,
) -> None:
    """Write a recording (shapes above) that `NpzRecording` reads; what it would refuse is refused here.

    Raises `SourceError`, also when the file cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {"frames": np.ascontiguousarray(frames)}
    _frame_shape(path, arrays["frames"].dtype, frames.shape)
    if names is not None:
        _check_names(path, tuple(names))
        arrays["names"] = np.array(list(names), dtype=np.str_)
    if labels is not None:
        arrays["labels"] = np.asarray(labels)
        _check_column(path, "labels", ArrayHeader(arrays["labels"].dtype, arrays["labels"].shape), len(frames))
        _check_labels(path, arrays["labels"], None if names is None else tuple(names))
    if times is not None:
        arrays["times"] = np.asarray(times)
        _check_column(path, "times", ArrayHeader(arrays["times"].dtype, arrays["times"].shape), len(frames))
        _check_times(path, arrays["times"])
    try:
        with path.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    except OSError as exc:
        raise SourceError(f"{path}: cannot be written ({exc.strerror}); check the folder and its free space") from exc


def _frame_shape(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one frame as it is yielded, (H, W, C) or (T, H, W, C)."""
    if dtype != np.uint8:
        raise SourceError(f"{path}: 'frames' must be uint8, it is {dtype}; convert it to 0-255 and save it again")
    one = (*shape[1:], 1) if len(shape) == 3 else shape[1:]
    bounds = {3: (MAX_SIDE, MAX_SIDE, 3), 4: (MAX_STEPS, MAX_SIDE, MAX_SIDE, 3)}.get(len(one), ())
    if not bounds or not all(1 <= size <= bound for size, bound in zip(one, bounds, strict=True)):
        raise SourceError(
            f"{path}: 'frames' must be {_FRAME_SHAPES}, T up to {MAX_STEPS}, H and W up to {MAX_SIDE}; it is {shape}"
        )
    if shape[0] == 0:
        raise SourceError(f"{path}: 'frames' holds no frames; record some")
    return one


def _read_names(arrays: NpzFile) -> tuple[str, ...] | None:
    if "names" not in arrays:
        return None
    header = arrays.header("names")
    if (
        header.dtype.kind != "U"
        or not 4 <= header.dtype.itemsize <= 4 * MAX_NAME_CHARS
        or len(header.shape) != 1
        or not 1 <= header.shape[0] <= MAX_CLASSES
    ):
        raise _bad_names(arrays.path)
    texts = arrays.read("names")
    # Decoded here: numpy trusts that each of its 32-bit characters is one.
    codec = "utf-32-be" if texts.dtype.str.startswith(">") else "utf-32-le"
    try:
        names = tuple(text.tobytes().decode(codec).rstrip("\0") for text in texts.view(f"V{texts.dtype.itemsize}"))
    except UnicodeDecodeError as exc:
        raise SourceError(f"{arrays.path}: 'names' is not Unicode text; save the file again") from exc
    _check_names(arrays.path, names)
    return names


def _check_names(path: Path, names: tuple[str, ...]) -> None:
    if not 1 <= len(names) <= MAX_CLASSES or not all(1 <= len(name) <= MAX_NAME_CHARS for name in names):
        raise _bad_names(path)
    if len(set(names)) != len(names):
        raise SourceError(f"{path}: 'names' has a name twice; give each class its own")


def _bad_names(path: Path) -> SourceError:
    return SourceError(
        f"{path}: 'names' must be 1 to {MAX_CLASSES} texts of 1 to {MAX_NAME_CHARS} characters; save them so"
    )


def _read_labels(arrays: NpzFile, count: int, names: tuple[str, ...] | None) -> NDArray[Any] | None:
    if "labels" not in arrays:
        return None
    _check_column(arrays.path, "labels", arrays.header("labels"), count)
    labels = arrays.read("labels")
    _check_labels(arrays.path, labels, names)
    return labels


def _check_labels(path: Path, labels: NDArray[Any], names: tuple[str, ...] | None) -> None:
    if names is None:
        raise SourceError(f"{path}: has 'labels' but no 'names'; save the class names as 'names'")
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= len(names):
        bad = lowest if lowest < 0 else highest
        raise SourceError(f"{path}: 'labels' has {bad}, but 'names' has only 0 to {len(names) - 1}; save it again")


def _read_times(arrays: NpzFile, count: int) -> NDArray[np.float64] | None:
    if "times" not in arrays:
        return None
    _check_column(arrays.path, "times", arrays.header("times"), count)
    times = arrays.read("times").astype(np.float64)
    _check_times(arrays.path, times)
    return times


def _check_times(path: Path, times: NDArray[np.float64]) -> None:
    if not np.isfinite(times).all():
        raise SourceError(f"{path}: 'times' holds NaN or infinity; save it again")
    back = np.flatnonzero(np.diff(times) < 0)
    if len(back):
        raise SourceError(f"{path}: 'times' goes back at frame {back[0] + 1}; sort the frames by time")


def _check_column(path: Path, name: str, header: ArrayHeader, count: int) -> None:
    """Check that an array has one value of its type for each frame."""
    kinds, itemsizes, wanted = _COLUMNS[name]
    if header.dtype.kind not in kinds or header.dtype.itemsize not in itemsizes or header.shape != (count,):
        raise SourceError(
            f"{path}: '{name}' must be {count} {wanted}, one a frame; it is {header.dtype} of shape {header.shape}"
        )


def _rate_hz(times: NDArray[np.float64] | None) -> float:
    if times is None or len(times) < 2 or times[-1] <= times[0]:
        return DEFAULT_RATE_HZ
    return float((len(times) - 1) / (times[-1] - times[0]))
