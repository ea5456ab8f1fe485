"""A robot's bug becomes a regression test: an Edge records, and the pytest fixture `replay` runs it again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ecc_device.replay import Replay
from ecc_snn import Edge, Result
from ecc_snn.testing import LinkProfile, SimulatedClock, SimulatedLink, TableCloud
from support.edges import frames

if TYPE_CHECKING:
    from support.models import TinyModels

LINK = LinkProfile(name="bad", delay_s=0.01, jitter_s=0.03, loss=0.1)
COUNT = 40

TEST = """
import pytest

EXPECTED = {expected!r}


def test_the_bug_of_last_week(replay):
    results = replay({recording!r})
    assert [(result.label, result.why) for result in results] == EXPECTED


def test_a_link_that_is_worse(replay):
    results = replay({recording!r}, link="lte-m")
    assert [result.edge.label for result in results] == {edge!r}


def test_it_would_fail(replay):
    with pytest.raises(AssertionError):
        assert replay({recording!r})[0].label == "no such label"
"""


def record(folder: Path, models: TinyModels, **options: object) -> tuple[Path, list[Result]]:
    """A drive of four seconds over a bad link."""
    clock = SimulatedClock()
    link = SimulatedLink(TableCloud(models.edge, otherwise="9", delay_s=(0.0, 0.05)), clock, LINK)
    path = folder / "drive.mcap"
    edge = Edge(models.edge, state=folder / "state", link=link, clock=clock, deadline_ms=80, record=path, **options)
    with edge:
        results = []
        for index, pixels in enumerate(frames(COUNT)):
            clock.advance_to(index / 10)
            results.append(edge.classify(pixels))
    return path, results


@pytest.mark.parametrize(
    "options", [{}, {"record_as": "spikes"}, {"budget": "30%"}, {"budget": "3kB/h"}], ids=lambda options: str(options)
)
def test_what_an_edge_records_is_what_it_answered(
    tmp_path: Path, unsure: TinyModels, options: dict[str, object]
) -> None:
    path, results = record(tmp_path, unsure, **options)
    with Replay(path) as replay:
        again = list(replay)
    assert [result.to_record() for result in again] == [result.to_record() for result in results]
    assert {result.why for result in again} >= {"cloud answered", "budget" if "budget" in options else "deadline"}


def test_the_pytest_fixture(tmp_path: Path, models: TinyModels) -> None:
    path, results = record(tmp_path, models)
    assert {result.why for result in results} == {"confident", "cloud answered", "deadline"}
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["ecc_snn.testing.plugin"]\n')
    (tmp_path / "test_drive.py").write_text(
        TEST.format(
            recording=str(path),
            expected=[(result.label, result.why) for result in results],
            edge=[result.edge.label for result in results],
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "3 passed" in done.stdout, done.stdout
    fixtures = subprocess.run(
        [sys.executable, "-m", "pytest", "--fixtures", str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "Runs a recording on a virtual clock and returns a result for each frame" in fixtures.stdout
