"""Which part of a source is played, and how often."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ecc_device.recordings.channels import ModelInUse
from ecc_device.recordings.recording import Late, Recording, Step
from ecc_device.sources import Source
from ecc_model.errors import DeviceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """From `start_s` on and before `end_s`, in seconds after the first frame; None: from the start, to the end.

    times: how often, 0 without end; frame numbers and stamps go on from pass to pass.
    """

    start_s: float | None = None
    end_s: float | None = None
    times: int = 1

    def __post_init__(self) -> None:
        if self.start_s is not None and self.end_s is not None and not self.start_s < self.end_s:
            raise DeviceError(f"a part from {self.start_s:g} s to {self.end_s:g} s is empty; let it end later")

    def holds(self, since_s: float) -> bool:
        """Whether a frame of `since_s` seconds after the first one belongs to the part."""
        return (self.start_s is None or self.start_s <= since_s) and (self.end_s is None or since_s < self.end_s)

    def steps(self, source: Source) -> Iterator[Step]:
        """The steps of the part; what happened before a frame that is left out comes with the next one."""
        numbers, offset_s = 0, 0.0
        for _ in range(self.times) if self.times else itertools.count():
            first_s, last = 0.0, None
            before: tuple[ModelInUse | Late, ...] = ()
            for step in source.steps() if isinstance(source, Recording) else map(Step, source):
                first_s = step.frame.time_s if last is None else first_s
                last = step.frame
                before += step.before
                if self.holds(step.frame.time_s - first_s):
                    frame = replace(last, index=last.index + numbers, time_s=last.time_s + offset_s)
                    yield replace(step, frame=frame, before=before, offset=numbers)
                    before = ()
            if last is None:
                return
            numbers += last.index + 1
            offset_s += last.time_s - first_s + 1.0 / source.rate_hz


WHOLE = Part()
