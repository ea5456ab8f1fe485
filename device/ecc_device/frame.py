"""What every source yields, and what every source can say about itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ecc_model.bits import Spikes

DEFAULT_RATE_HZ = 10.0  # of recordings that carry no times


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture, or one short clip for a network that takes T frames at once."""

    index: int  # 0, 1, 2 ... since the source began
    time_s: float  # seconds since the source began, never less than the frame before
    pixels: np.ndarray[Any, np.dtype[np.uint8]]  # (H, W, C) or (T, H, W, C), C 1 to 3, RGB where C is 3
    label: str | None  # the true class, where the source knows it
    camera: str = ""  # which of a device's cameras took it; empty where there is one
    spikes: Spikes | None = None  # at the split point, where a recording holds them instead of pixels


class Source(Protocol):
    """Frames in order. A recording can be iterated again from its start; a live source goes on."""

    @property
    def name(self) -> str:
        """As the user gave it."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first frame, (H, W, C) or (T, H, W, C); a folder's other images may differ."""
        ...

    @property
    def rate_hz(self) -> float:
        """Frames per second, on average."""
        ...

    @property
    def length(self) -> int | None:
        """Number of frames, None where nobody knows."""
        ...

    @property
    def labels(self) -> tuple[str, ...] | None:
        """Names of the true classes, None where there are none."""
        ...

    @property
    def live(self) -> bool:
        """Whether frames come from the world now, and cannot come again."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """The frames. Raises `SourceError` at the frame that cannot be read."""
        ...

    def close(self) -> None:
        """Let go of files and hardware; closing twice is fine."""
        ...
