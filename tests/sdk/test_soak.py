"""Eight threads and two cameras on one Edge, for ten minutes: nothing is lost, nothing comes twice, memory is flat.

ECC_SOAK_S in the environment sets another time, in seconds.
"""

from __future__ import annotations

import gc
import itertools
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from ecc_snn import Edge, Result
from ecc_snn.testing import LinkProfile, RealtimeClock, SimulatedLink, TableCloud
from support.edges import PATIENCE_S, frames

if TYPE_CHECKING:
    from support.models import TinyModels

SECONDS = float(os.environ.get("ECC_SOAK_S", "600"))
THREADS = 8
CAMERAS = ("left", "right")
MOST_FRAMES = 20_000_000
GROWTH_MB = 16  # of the process, from a quarter of the time to its end
LINK = LinkProfile(name="busy", delay_s=0.0, jitter_s=0.02, loss=0.01, duplicate=0.05)


class Ledger:
    """How often each frame was answered and corrected, a byte a frame, so that the ledger itself does not grow."""

    def __init__(self) -> None:
        self.answered, self.corrected, self.open = (bytearray(MOST_FRAMES) for _ in range(3))

    def answer(self, result: Result) -> None:
        """A frame's first result."""
        self.answered[result.frame] += 1
        self.open[result.frame] = result.row is not None and result.cloud is None

    def correct(self, result: Result) -> None:
        """A frame's correction."""
        self.corrected[result.frame] += 1


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 300)
def test_eight_threads_and_two_cameras(tmp_path: Path, models: TinyModels) -> None:
    ledger, stop, memory = Ledger(), threading.Event(), []
    pictures = frames(64)
    submitted: list[int] = []
    classified: list[int] = []

    def classify(_: int) -> None:
        count = 0
        for pixels in itertools.cycle(pictures):
            if stop.is_set():
                break
            ledger.answer(edge.classify(pixels, deadline_ms=20))
            count += 1
        classified.append(count)

    def film(camera: str) -> None:
        count = 0
        for pixels in itertools.cycle(pictures):
            if stop.wait(0.01):  # a hundred frames a second
                break
            edge.submit(pixels, camera=camera)
            count += 1
        submitted.append(count)

    def told(result: Result) -> None:
        """First results have a camera here, and those of `classify` only come as corrections."""
        first = result.camera and not ledger.answered[result.frame]
        ledger.answer(result) if first else ledger.correct(result)

    with RealtimeClock() as clock:
        cloud = TableCloud(models.edge, otherwise="9", delay_s=(0.0, 0.05))
        link = SimulatedLink(cloud, clock, LINK)
        with Edge(models.edge, state=tmp_path, link=link, clock=clock, deadline_ms=20) as edge:
            edge.on_result(told)
            users = [threading.Thread(target=classify, args=(number,)) for number in range(THREADS)]
            users += [threading.Thread(target=film, args=(camera,)) for camera in CAMERAS]
            for user in users:
                user.start()
            for _ in range(4):
                stop.wait(SECONDS / 4)
                cloud.rows.clear()
                gc.collect()
                memory.append(psutil.Process().memory_info().rss / 2**20)
            stop.set()
            for user in users:
                user.join(PATIENCE_S)
            cameras = edge.status()["cameras"].values()
    replaced = sum(camera["replaced"] for camera in cameras)
    total = sum(classified) + sum(submitted)
    answered = sum(ledger.answered)
    print(f"{total} frames in {SECONDS:g} s, {replaced} replaced, {sum(ledger.corrected)} corrected, MB {memory}")
    assert sum(camera["frames"] for camera in cameras) == sum(submitted)
    assert answered == total - replaced
    assert max(ledger.answered) == 1
    assert max(ledger.corrected) <= 1
    assert not any(c and not o for c, o in zip(ledger.corrected[:total], ledger.open[:total], strict=True))
    assert min(sum(classified), sum(submitted) - replaced) > 0
    assert memory[-1] - memory[0] < GROWTH_MB
