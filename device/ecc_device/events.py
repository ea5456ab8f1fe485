"""What happens to a device, and what is wrong with it now."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ecc_model.errors import DeviceError

EVENTS = {
    "charging": "the robot stands on its dock and charges: time to learn",
    "undocked": "the robot left its dock: an update that runs is stopped",
    "offline": "the link has been down for a while: time to learn",
    "online": "the link is back",
}

HealthListener = Callable[[str, str], None]
_log = logging.getLogger("ecc_device")


def check_event(name: str) -> str:
    """`name`, if it is a key of `EVENTS`; else `DeviceError`."""
    if not isinstance(name, str) or name not in EVENTS:
        raise DeviceError(f"'{name!s:.40}' is not an event; a device knows: {', '.join(EVENTS)}")
    return name


class Health:
    """The causes that stand against the device now; each is said once, until it is cleared. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._causes: dict[str, str] = {}
        self._listeners: list[HealthListener] = []

    def say(self, cause: str, detail: str) -> bool:
        """Log a new cause as a warning and tell the listeners; True then.

        A cause that stands already only gets its newest detail, for `current`.
        """
        with self._lock:
            new = cause not in self._causes
            self._causes[cause] = detail
            listeners = list(self._listeners)
        if new:
            _log.warning("%s: %s", cause, detail)
            for listener in listeners:
                listener(cause, detail)
        return new

    def clear(self, cause: str) -> None:
        """The cause is gone; clearing one that does not stand is fine."""
        with self._lock:
            self._causes.pop(cause, None)

    def current(self) -> dict[str, str]:
        """Cause -> detail of all that stands now, oldest first."""
        with self._lock:
            return dict(self._causes)

    def on_event(self, listener: HealthListener) -> None:
        """Call `listener(cause, detail)` with each new cause, on the thread that said it."""
        with self._lock:
            self._listeners.append(listener)
