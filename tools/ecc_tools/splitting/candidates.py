"""The places and widths that a search tries."""

from __future__ import annotations

import re
from typing import NamedTuple

from ecc_tools.runs import RunError

STRIDES = {1: 4, 2: 2, 3: 1}  # pool -> stride that leaves an eighth of the frame's sides: equally many cells at each
CHANNELS = (2, 4, 8, 16)


class Candidate(NamedTuple):
    """A cut after pool `split` (1 to 3), whose encoder has `channels` and `stride`."""

    split: int
    channels: int
    stride: int

    def __str__(self) -> str:
        return f"pool{self.split}-{self.channels}x{self.stride}"


DEFAULT = tuple(Candidate(split, channels, stride) for split, stride in STRIDES.items() for channels in CHANNELS)


def parse(text: str) -> Candidate:
    """ "pool2-8x2" to a candidate. `RunError`."""
    found = re.fullmatch(r"pool([1-3])-([1-9][0-9]{0,2})x([1-4])", text)
    if found is None:
        raise RunError(
            f"'{text:.40}' is no candidate; write pool2-8x2 for 8 channels and stride 2 after the second pool"
        )
    return Candidate(*map(int, found.groups()))
