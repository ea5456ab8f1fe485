"""What a device notices itself: the charger and the link, and the thread that looks."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterable
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecc_device.clock import VirtualClock
from ecc_device.power import LinkWatcher, PowerWatcher, Watch, battery_charge, battery_plugged
from ecc_model.errors import DeviceError


def power_events(readings: Iterable[bool | None]) -> list[str]:
    said: list[str] = []
    readings = list(readings)
    left = iter(readings)
    watcher = PowerWatcher(said.append, read_plugged=lambda: next(left))
    for _ in readings:
        watcher.check()
    return said


@pytest.mark.parametrize(
    ("readings", "events"),
    [
        ([True], []),
        ([False], []),
        ([None, None], []),
        ([False, True], ["charging"]),
        ([True, False], ["undocked"]),
        ([False, True, True, False, False], ["charging", "undocked"]),
        ([None, True], []),
        ([False, None, True], ["charging"]),
        ([True, None, True], []),
    ],
)
def test_power_says_what_changed(readings: list[bool | None], events: list[str]) -> None:
    assert power_events(readings) == events


@given(st.lists(st.sampled_from([True, False, None])))
def test_power_events_alternate_and_end_at_the_last_reading(readings: list[bool | None]) -> None:
    events = power_events(readings)
    assert all(one != other for one, other in itertools.pairwise(events))
    known = [reading for reading in readings if reading is not None]
    if events:
        assert events[-1] == ("charging" if known[-1] else "undocked")
    else:
        assert len(set(known)) <= 1


@pytest.mark.parametrize(
    ("battery", "plugged"),
    [
        (None, None),
        (SimpleNamespace(power_plugged=True), True),
        (SimpleNamespace(power_plugged=False), False),
        (SimpleNamespace(power_plugged=None), None),
    ],
)
def test_the_battery_is_read_by_psutil(
    monkeypatch: pytest.MonkeyPatch, battery: SimpleNamespace | None, plugged: bool | None
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery)
    assert battery_plugged() is plugged


def test_a_battery_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(psutil, "sensors_battery", broken)
    assert battery_plugged() is None


@pytest.mark.parametrize(
    ("battery", "charge"),
    [
        (None, 1.0),
        (SimpleNamespace(power_plugged=True, percent=30), 1.0),
        (SimpleNamespace(power_plugged=None, percent=30), 1.0),
        (SimpleNamespace(power_plugged=False, percent=30), 0.3),
    ],
)
def test_a_battery_in_use_has_a_charge(
    monkeypatch: pytest.MonkeyPatch, battery: SimpleNamespace | None, charge: float
) -> None:
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery)
    assert battery_charge() == charge


class Watched:
    """A `LinkWatcher` with 30 s patience, and what it said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.clock = VirtualClock()
        self.watcher = LinkWatcher(self.said.append, self.clock)

    def at(self, time_s: float) -> list[str]:
        self.clock.advance_to(time_s)
        self.watcher.tick()
        return self.said


def test_offline_is_said_once_after_the_patience() -> None:
    watched = Watched()
    watched.watcher.connection(True)
    assert watched.at(1000.0) == []
    watched.watcher.connection(False)
    assert watched.at(1029.9) == []
    watched.watcher.connection(False)  # a failed attempt does not start the patience again
    assert watched.at(1030.0) == ["offline"]
    watched.watcher.connection(False)
    assert watched.at(5000.0) == ["offline"]


def test_online_follows_an_offline_that_was_said() -> None:
    watched = Watched()
    assert watched.at(30.0) == ["offline"]  # a link that never came up
    watched.watcher.connection(True)
    assert watched.at(31.0) == ["offline", "online"]
    assert watched.at(99.0) == ["offline", "online"]


def test_a_short_break_is_not_told() -> None:
    watched = Watched()
    for second in range(100):
        watched.watcher.connection(second % 20 == 19)
        assert watched.at(float(second)) == []


def test_a_link_that_comes_and_goes_between_two_ticks_stays_offline() -> None:
    watched = Watched()
    assert watched.at(30.0) == ["offline"]
    watched.watcher.connection(True)
    watched.watcher.connection(False)
    assert watched.at(31.0) == ["offline"]


@given(st.lists(st.tuples(st.floats(0.0, 50.0), st.booleans(), st.booleans())))
def test_offline_and_online_alternate(steps: list[tuple[float, bool, bool]]) -> None:
    watched = Watched()
    for seconds, changes, connected in steps:
        if changes:
            watched.watcher.connection(connected)
        watched.at(watched.clock.monotonic() + seconds)
    assert watched.said == ["offline", "online"] * (len(watched.said) // 2) + ["offline"] * (len(watched.said) % 2)


def test_watch_calls_every_check_and_lives_through_an_error(caplog: pytest.LogCaptureFixture) -> None:
    rounds = threading.Semaphore(0)

    def fails() -> None:
        raise DeviceError("no")

    watch = Watch([fails, rounds.release], period_s=0.001)
    watch.start()
    assert all(rounds.acquire(timeout=10) for _ in range(3))
    watch.close()
    assert caplog.record_tuples[0] == ("ecc_device", logging.WARNING, "no")


def test_watch_stops_at_once_whatever_its_period() -> None:
    looked = threading.Event()
    watch = Watch([looked.set], period_s=1e6)
    watch.start()
    assert looked.wait(10)
    watch.close()
    assert "ecc-watch" not in [thread.name for thread in threading.enumerate()]
    watch.close()


def test_watch_closes_before_its_start() -> None:
    Watch([]).close()
