"""Events that a device notices itself: the charger, and the link that stays away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import psutil

from ecc_device.clock import Clock
from ecc_model.errors import EccError

PERIOD_S = 5.0
PATIENCE_S = 30.0  # a link that comes back within it was never "offline"
_log = logging.getLogger("ecc_device")

Notify = Callable[[str], None]


def battery_plugged() -> bool | None:
    """Whether the charger is plugged in; None without a battery, or where the system cannot tell."""
    battery = _battery()
    return None if battery is None else battery.power_plugged


def battery_charge() -> float:
    """Charge of a battery that is in use, 0 to 1; 1 on the charger, without a battery, or where nobody can tell."""
    battery = _battery()
    return 1.0 if battery is None or battery.power_plugged is not False else battery.percent / 100


def _battery() -> Any:
    try:
        return psutil.sensors_battery()
    except OSError:  # a battery driver that fails must not end the watch
        return None


class PowerWatcher:
    """Says "charging" when the charger is plugged in and "undocked" when it is pulled.

    The first reading is only remembered, and readings of None change nothing.
    """

    def __init__(self, notify: Notify, *, read_plugged: Callable[[], bool | None] = battery_plugged) -> None:
        self._notify, self._read_plugged = notify, read_plugged
        self._plugged: bool | None = None

    def check(self) -> None:
        """Read the charger and say what changed. One thread calls this."""
        plugged = self._read_plugged()
        before = self._plugged
        if plugged is None or plugged == before:
            return
        self._plugged = plugged
        if before is not None:
            self._notify("charging" if plugged else "undocked")


class LinkWatcher:
    """Says "offline" once when there was no connection for `patience_s`, and "online" when it is back after that.

    Both are said by `tick`, so that one thread says them, in order, whatever the link does meanwhile.
    """

    def __init__(self, notify: Notify, clock: Clock, patience_s: float = PATIENCE_S) -> None:
        self._notify, self._clock, self._patience_s = notify, clock, patience_s
        self._lock = threading.Lock()
        self._down_since_s: float | None = clock.monotonic()
        self._said_offline = False

    def connection(self, connected: bool) -> None:
        """A connection came or went (`Link.on_connection`); any thread may call."""
        with self._lock:
            if connected:
                self._down_since_s = None
            elif self._down_since_s is None:
                self._down_since_s = self._clock.monotonic()

    def tick(self) -> None:
        """Say what is due. One thread calls this."""
        with self._lock:
            since_s = self._down_since_s
            offline = since_s is not None and (
                self._said_offline or self._clock.monotonic() - since_s >= self._patience_s
            )
            changed = offline != self._said_offline
            self._said_offline = offline
        if changed:
            self._notify("offline" if offline else "online")


class Watch:
    """One thread that calls every check at once and then each `period_s`; an `EccError` of one is logged."""

    def __init__(self, checks: Sequence[Callable[[], None]], *, period_s: float = PERIOD_S) -> None:
        self._checks, self._period_s = checks, period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ecc-watch", daemon=True)

    def start(self) -> None:
        """Begin; once."""
        self._thread.start()

    def close(self) -> None:
        """Stop at once, after the check that runs now; closing twice, or before the start, is fine."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            for check in self._checks:
                try:
                    check()
                except EccError as error:
                    _log.warning("%s", error)
            self._stop.wait(self._period_s)
