"""Two clocks: the machine's and a recording's."""

from __future__ import annotations

import threading
import time

from ecc_device.clock import Clock, SimulatedClock, SystemClock, VirtualClock


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


def test_a_simulated_clock_runs_what_is_due_in_order() -> None:
    clock = SimulatedClock()
    ran: list[tuple[str, float]] = []

    def note(name: str) -> None:
        ran.append((name, clock.now()))

    clock.after(2.0, lambda: note("b"))
    clock.after(1.0, lambda: (note("a"), clock.after(0.5, lambda: note("of a"))))
    clock.after(2.0, lambda: note("c"))
    clock.after(9.0, lambda: note("later"))
    clock.after(-1.0, lambda: note("at once"))
    clock.advance_to(5.0)
    assert ran == [("at once", 0.0), ("a", 1.0), ("of a", 1.5), ("b", 2.0), ("c", 2.0)]
    assert clock.monotonic() == 5.0
    clock.advance_to(float("nan"))
    assert clock.now() == 5.0


def test_waiting_moves_a_simulated_clock_and_no_further_than_needed() -> None:
    clock, done = SimulatedClock(), threading.Event()
    clock.after(0.3, done.set)
    clock.after(0.4, lambda: None)
    assert clock.wait(done, 0.2) is False
    assert clock.now() == 0.2
    assert clock.wait(done, 10.0) is True
    assert clock.now() == 0.3
    assert clock.wait(done, 10.0) is True
    assert clock.now() == 0.3
