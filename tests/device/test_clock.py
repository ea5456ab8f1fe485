"""Two clocks: the machine's and a recording's."""

from __future__ import annotations

import time

from ecc_device.clock import Clock, SystemClock, VirtualClock


def test_the_system_clock_is_the_machines() -> None:
    clock: Clock = SystemClock()
    assert abs(clock.now() - time.time()) < 60
    first = clock.monotonic()
    assert clock.monotonic() >= first


def test_a_virtual_clock_stands_still_until_it_is_moved() -> None:
    clock = VirtualClock()
    reading: Clock = clock
    assert (reading.now(), reading.monotonic()) == (0.0, 0.0)
    clock.advance_to(12.5)
    assert (reading.now(), reading.monotonic()) == (12.5, 12.5)


def test_a_virtual_clock_never_goes_back() -> None:
    clock = VirtualClock(100.0)
    for earlier in (99.0, -1.0, float("nan")):
        clock.advance_to(earlier)
        assert clock.now() == 100.0
