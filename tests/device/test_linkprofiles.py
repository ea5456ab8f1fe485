"""Links as numbers: outages, delay, loss and duplicates over time, the same on every machine."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecc_device.linkprofiles import MAX_JITTERS, PROFILES, LinkProfile, LinkSchedule, link_profile
from ecc_model.errors import DeviceError

STEADY = LinkProfile(name="steady", delay_s=0.5, jitter_s=0.0)


def test_a_name_that_is_none_lists_the_profiles() -> None:
    assert link_profile("tunnel") is PROFILES["tunnel"]
    with pytest.raises(DeviceError) as caught:
        link_profile("carrier-pigeon")
    assert str(caught.value) == (
        "there is no link profile 'carrier-pigeon'; choose one of: wifi-drop, lte-m, tunnel, lossy"
    )


def test_outages_come_when_the_profile_says() -> None:
    schedule = LinkSchedule(PROFILES["wifi-drop"])  # 4 s every 30 s
    assert [time_s for time_s in range(100) if not schedule.up(time_s)] == [
        *range(30, 34),
        *range(60, 64),
        *range(90, 94),
    ]
    assert [schedule.back_at(time_s) for time_s in (0.0, 29.9, 30.0, 33.9, 34.0, 61.0)] == [
        0.0,
        29.9,
        34.0,
        34.0,
        34.0,
        64.0,
    ]
    assert LinkSchedule(PROFILES["lossy"]).up(1e9)


@given(time_s=st.floats(0, 1e7), name=st.sampled_from(list(PROFILES)))
def test_the_link_is_up_when_it_is_back(time_s: float, name: str) -> None:
    schedule = LinkSchedule(PROFILES[name])
    back_s = schedule.back_at(time_s)
    assert back_s >= time_s
    assert schedule.up(back_s)
    assert schedule.up(time_s) == (back_s == time_s)


def test_a_message_takes_its_delay_and_its_size() -> None:
    assert LinkSchedule(STEADY).arrivals(1, 10.0, 10_000) == (10.5,)
    slow = LinkProfile(name="slow", delay_s=0.5, jitter_s=0.0, bytes_per_s=1000.0)
    assert LinkSchedule(slow).arrivals(1, 10.0, 250) == (10.75,)


def test_what_meets_an_outage_is_lost() -> None:
    broken = LinkProfile(name="broken", delay_s=0.5, jitter_s=0.0, outage_every_s=10.0, outage_s=2.0)
    schedule = LinkSchedule(broken)
    assert schedule.arrivals(1, 9.0, 0) == (9.5,)
    assert schedule.arrivals(1, 9.6, 0) == (), "under way when it began"
    assert schedule.arrivals(1, 11.9, 0) == (), "sent in it"
    assert schedule.arrivals(1, 12.0, 0) == (12.5,)


@pytest.mark.parametrize("name", list(PROFILES))
def test_shares_and_delays_are_those_of_the_table(name: str) -> None:
    profile = PROFILES[name]
    found = [LinkSchedule(profile).arrivals(number, 0.0, 0) for number in range(20_000)]
    assert sum(not one for one in found) / 20_000 == pytest.approx(profile.loss, abs=0.01)
    arrived = [one for one in found if one]
    assert sum(len(one) == 2 for one in arrived) / len(arrived) == pytest.approx(profile.duplicate, abs=0.01)
    assert all(list(one) == sorted(one) for one in arrived)
    times = [one[0] for one in arrived if len(one) == 1]
    assert min(times) >= profile.delay_s
    assert max(times) <= profile.delay_s + MAX_JITTERS * profile.jitter_s
    assert sum(times) / len(times) == pytest.approx(profile.delay_s + profile.jitter_s, rel=0.05)


def test_a_number_has_one_fate_whatever_was_asked_before() -> None:
    """Pinned: another machine, another Python, the same bits."""
    schedule = LinkSchedule(PROFILES["lossy"], seed=7)
    first = [schedule.arrivals(number, 1.0, 100) for number in range(50)]
    assert [schedule.arrivals(number, 1.0, 100) for number in reversed(range(50))] == first[::-1]
    assert first != [LinkSchedule(PROFILES["lossy"], seed=8).arrivals(number, 1.0, 100) for number in range(50)]
    assert [[time_s.hex() for time_s in one] for one in first[:3]] == PINNED


PINNED = [["0x1.044b9e01910f8p+0"], ["0x1.0cb24a6094fd0p+0"], ["0x1.07eef65ad4118p+0"]]


def test_no_profile_reaches_back_in_time() -> None:
    for profile in PROFILES.values():
        assert 0 <= profile.loss < 1
        assert 0 <= profile.duplicate < 1
        assert profile.outage_s < profile.outage_every_s
        assert profile.bytes_per_s > 0
        assert math.isfinite(profile.delay_s + profile.jitter_s)
