"""The pytest plugin: `pytest_plugins = ["ecc_snn.testing.plugin"]` in your `conftest.py`.

def test_the_bug_of_last_week(replay):
    results = replay("recordings/last-week.mcap")
    assert results[41].label == "stop"
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import pytest

from ecc_device.replay import Replay
from ecc_device.results import Result


class RunReplay(Protocol):
    """The type of the fixture `replay`."""

    def __call__(self, recording: str | os.PathLike[str], **options: Any) -> list[Result]:
        """Run a recording, with the cloud's recorded answers; `options` are those of `ecc_device.replay.Replay`."""
        ...


@pytest.fixture
def replay() -> RunReplay:
    """Runs a recording on a virtual clock and returns a result for each frame; the same ones each time."""

    def run(recording: str | os.PathLike[str], **options: Any) -> list[Result]:
        with Replay(Path(recording), **options) as running:
            return list(running)

    return run
