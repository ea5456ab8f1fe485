"""The public test doubles do what they say, and the same each time."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ecc_snn.testing
from ecc_device.frame import Source
from ecc_device.linkprofiles import PROFILES
from ecc_model.errors import DeviceError, LinkError, SourceError, WireError
from ecc_snn import Edge, Result
from ecc_snn.testing import (
    LinkProfile,
    RealtimeClock,
    SimulatedCamera,
    SimulatedClock,
    SimulatedLink,
    TableCloud,
)
from support.edges import PATIENCE_S, Inbox, frames

if TYPE_CHECKING:
    from support.models import TinyModels

BAD = LinkProfile(name="bad", delay_s=0.01, jitter_s=0.05, loss=0.2, duplicate=0.3)


def simulate(
    folder: Path, models: TinyModels, link: SimulatedLink, clock: SimulatedClock, count: int, deadline_ms: float = 50
) -> tuple[list[Result], list[Result], dict[str, int]]:
    """Ten frames a second, and then a minute of rest: results, corrections, the store's counts."""
    corrections = Inbox()
    with Edge(models.edge, state=folder, link=link, clock=clock, deadline_ms=deadline_ms) as edge:
        edge.on_result(corrections)
        results = []
        for index, pixels in enumerate(frames(count)):
            clock.advance_to(index / 10)
            results.append(edge.classify(pixels))
        clock.advance_to(clock.now() + 60)
        counts = edge.status()["counts"]
    return results, corrections.results, counts


def test_public_names_are_pinned() -> None:
    assert ecc_snn.testing.__all__ == [
        "PROFILES",
        "LinkProfile",
        "RealtimeClock",
        "SimulatedCamera",
        "SimulatedClock",
        "SimulatedLink",
        "TableCloud",
    ]


# ---- the cloud ----


def test_a_cloud_answers_from_its_table(tmp_path: Path, unsure: TinyModels) -> None:
    clock = SimulatedClock()
    cloud = TableCloud(unsure.edge, {1: "7", 3: "parked car"})
    results, corrections, _ = simulate(tmp_path, unsure, SimulatedLink(cloud, clock), clock, 4)
    assert [(result.label, result.why) for result in (results[0], results[2])] == [
        ("7", "cloud answered"),
        ("parked car", "cloud answered"),
    ]
    assert [(result.stands, result.why) for result in (results[1], results[3])] == [("edge", "deadline")] * 2
    assert cloud.labels == ("0", "1", "2", "3", "4", "5", "7", "parked car")
    assert cloud.rows == [1, 2, 3, 4]
    assert corrections == []


def test_what_the_table_does_not_name_gets_the_other_label(tmp_path: Path, unsure: TinyModels) -> None:
    clock = SimulatedClock()
    cloud = TableCloud(unsure.edge, {2: "9"}, otherwise="8")
    results, _, _ = simulate(tmp_path, unsure, SimulatedLink(cloud, clock), clock, 3)
    assert [result.label for result in results] == ["8", "9", "8"]


def test_a_table_with_a_label_that_the_cloud_has_not(unsure: TinyModels) -> None:
    with pytest.raises(WireError, match=r"^the table names 'x', which is none of the cloud's labels; add it"):
        TableCloud(unsure.edge, {1: "x"}, labels=("0", "1"))


def test_a_cloud_that_takes_its_time(tmp_path: Path, unsure: TinyModels) -> None:
    clock = SimulatedClock()
    slow = TableCloud(unsure.edge, otherwise="7", delay_s=0.2)
    results, corrections, counts = simulate(tmp_path, unsure, SimulatedLink(slow, clock), clock, 3)
    assert [result.why for result in results] == ["deadline"] * 3
    assert [(result.frame, result.label) for result in corrections] == [(0, "7"), (1, "7"), (2, "7")]
    assert counts == {"sent": 3, "answered": 3, "late": 3}


def test_frames_are_answered_too(tmp_path: Path, unsure: TinyModels) -> None:
    clock = SimulatedClock()
    link = SimulatedLink(TableCloud(unsure.edge, otherwise="9"), clock)
    with Edge(unsure.edge, state=tmp_path, link=link, clock=clock, send="frames") as edge:
        assert edge.classify(frames(1)[0]).label == "9"


# ---- the link ----


def test_a_bad_link_is_the_same_each_time(tmp_path: Path, unsure: TinyModels) -> None:
    def once(name: str, seed: int) -> tuple[list[dict[str, object]], list[int], dict[str, int]]:
        clock = SimulatedClock()
        link = SimulatedLink(TableCloud(unsure.edge, otherwise="7"), clock, BAD, seed=seed)
        results, corrections, counts = simulate(tmp_path / name, unsure, link, clock, 100)
        return [result.to_record() for result in results], [result.frame for result in corrections], counts

    first = once("first", 0)
    assert once("second", 0) == first
    assert once("third", 1) != first


def test_a_bad_link_loses_delays_duplicates_and_reorders(tmp_path: Path, unsure: TinyModels) -> None:
    clock = SimulatedClock()
    cloud = TableCloud(unsure.edge, otherwise="7")
    link = SimulatedLink(cloud, clock, BAD)
    results, corrections, counts = simulate(tmp_path, unsure, link, clock, 200)
    in_time = [result for result in results if result.cloud is not None]
    assert link.counts["lost"] > 50
    assert 0 < len(corrections) < 150
    assert len(in_time) + len(corrections) == counts["answered"] < 200
    assert counts["answers-duplicate"] > 20
    assert cloud.rows != sorted(cloud.rows)
    assert len(cloud.rows) > len(set(cloud.rows))
    late = [result.frame for result in corrections]
    assert len(set(late)) == len(late)
    assert not set(late) & {result.frame for result in in_time}


def test_a_link_that_drops_out_and_comes_back(tmp_path: Path, unsure: TinyModels) -> None:
    """Ten frames a second; from 5 s to 7 s there is no link, and what waits goes up afterwards."""
    clock = SimulatedClock()
    gaps = LinkProfile(name="gaps", delay_s=0.0, jitter_s=0.0, outage_every_s=5.0, outage_s=2.0)
    link = SimulatedLink(TableCloud(unsure.edge, otherwise="7"), clock, gaps)
    results, corrections, counts = simulate(tmp_path, unsure, link, clock, 100)
    assert [result.frame for result in results if result.why == "offline"] == list(range(50, 70))
    assert {result.why for result in results} == {"offline", "cloud answered"}
    assert sorted(result.frame for result in corrections) == list(range(50, 70))
    assert (counts["answered"], link.connected) == (100, False)


def test_profiles_by_name(tmp_path: Path, unsure: TinyModels) -> None:
    assert set(PROFILES) == {"wifi-drop", "lte-m", "tunnel", "lossy"}
    clock = SimulatedClock()
    link = SimulatedLink(TableCloud(unsure.edge, otherwise="7"), clock, "lte-m")
    results, _, _ = simulate(tmp_path, unsure, link, clock, 20, deadline_ms=1000)
    assert {result.why for result in results} == {"cloud answered"}
    with pytest.raises(DeviceError, match=r"^there is no link profile 'string'; choose one of: wifi-drop, lte-m"):
        SimulatedLink(TableCloud(unsure.edge), clock, "string")


def test_a_link_is_started_once_and_says_why_it_is_down(unsure: TinyModels) -> None:
    link = SimulatedLink(TableCloud(unsure.edge), SimulatedClock())
    assert (link.connected, link.problem) == (False, "the simulated link is down")
    assert link.publish("ecc/1/default/device/event", b"") is False
    link.start()
    assert (link.connected, link.problem) == (True, None)
    with pytest.raises(LinkError, match=r"^a link is started once; make a new one$"):
        link.start()


# ---- clocks ----


def test_a_realtime_clock_runs_calls_in_order() -> None:
    done, ran = threading.Event(), []
    with RealtimeClock() as clock:
        clock.after(0.02, done.set)
        clock.after(0.01, lambda: ran.append("second"))
        clock.after(0.0, lambda: ran.append("first"))
        assert clock.wait(done, PATIENCE_S)
    assert ran == ["first", "second"]
    clock.after(0.0, lambda: ran.append("never"))
    assert ran == ["first", "second"]


# ---- the camera ----


def test_a_camera_is_a_source() -> None:
    camera: Source = SimulatedCamera(frames(3), name="front")
    taken = list(camera)
    assert [frame.index for frame in taken] == [0, 1, 2]
    assert (camera.name, camera.live, camera.length, camera.shape) == ("front", True, None, (16, 16, 1))
    camera.close()
    assert list(camera) == []
    with pytest.raises(SourceError, match=r"^camera: no pictures; give at least one$"):
        SimulatedCamera([])
