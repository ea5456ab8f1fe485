"""What the edge program costs this machine, by a meter: the energy of frames, less that of doing nothing."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

from ecc_device.engines import make_engine
from ecc_model.frames import Pixels
from ecc_model.modelfile import EdgeModel
from ecc_tools.ledger.meters import Measured, Meter


@dataclass(frozen=True)
class EdgeEnergy:
    """Head and exit on one frame after the other, as fast as this machine does them; and this machine idle.

    The encoder is not included: it runs for frames that go up.
    """

    engine: str
    frames: int
    busy: Measured
    idle: Measured

    @property
    def idle_mw(self) -> float:
        """Power of this machine when it does nothing."""
        return self.idle.mj / self.idle.seconds

    @property
    def mj_per_frame(self) -> float:
        """What a frame adds to an idle machine."""
        return (self.busy.mj - self.idle_mw * self.busy.seconds) / self.frames

    @property
    def mj_per_frame_with_idle(self) -> float:
        """All that the meter saw."""
        return self.busy.mj / self.frames

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "mj_per_frame_measured": self.mj_per_frame,
            "mj_per_frame_measured_with_idle": self.mj_per_frame_with_idle,
            "idle_mw_measured": self.idle_mw,
            "engine": self.engine,
            "frames": self.frames,
            "source": self.busy.source,
            "resolution": self.busy.resolution,
            "busy": asdict(self.busy),
            "idle": asdict(self.idle),
        }


def measure_edge(model: EdgeModel, frames: Pixels, meter: Meter, seconds: float) -> EdgeEnergy:
    """Idle for `seconds`, then frames (N, ...) by turns for as long, at least one. `MeterError`, `FrameError`."""
    engine = make_engine(None, model.program)  # what a device would take here
    shown = itertools.cycle(frames)
    engine.exit(engine.head(next(shown)))  # the first one also pays for memory
    idle = meter.measure(lambda: threading.Event().wait(seconds))
    done = 0

    def work() -> None:
        nonlocal done
        end = time.monotonic() + seconds
        while not done or time.monotonic() < end:
            engine.exit(engine.head(next(shown)))
            done += 1

    busy = meter.measure(work)
    return EdgeEnergy(engine.name, done, busy, idle)
