"""What became of the requests: each one received is answered, refused or dropped, and counted once as such."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any

ANSWERED = "answered"


class Stats:
    """Counters of one worker; all methods may be called from any thread.

    | dropped   | meaning                                                                       |
    |-----------|-------------------------------------------------------------------------------|
    | retained  | kept by the broker from some earlier day: nobody waits for the answer          |
    | bad-topic | from a device whose name cannot stand in a topic, so that no answer can go back |
    | unsent    | a reply that the link did not take before the worker closed, or had no room for |
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received = 0
        self._done: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._batches: Counter[int] = Counter()

    def received(self) -> None:
        """A message came on a request topic."""
        with self._lock:
            self._received += 1

    def done(self, outcome: str) -> None:
        """The link took a reply: `ANSWERED`, or the name of a refusal."""
        with self._lock:
            self._done[outcome] += 1

    def dropped(self, reason: str) -> None:
        """A request gets no reply."""
        with self._lock:
            self._dropped[reason] += 1

    def batch(self, size: int) -> None:
        """`size` requests run through the network together."""
        with self._lock:
            self._batches[size] += 1

    def to_record(self) -> dict[str, Any]:
        """All counters for JSON: `received = answered + sum(refused) + sum(dropped)` once the worker is closed."""
        with self._lock:
            return {
                "received": self._received,
                "answered": self._done[ANSWERED],
                "refused": {name: count for name, count in sorted(self._done.items()) if name != ANSWERED},
                "dropped": dict(sorted(self._dropped.items())),
                "batches": {str(size): count for size, count in sorted(self._batches.items())},
            }
