"""Replies on their way out: kept until the link takes them, so that a full window or a lost broker loses none."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from ecc_broker import topics
from ecc_broker.link import Link
from ecc_model.errors import LinkError

RETRY_S = 0.002  # the link tells nobody when its window has room again

log = logging.getLogger("ecc.cloud")


class _Options(TypedDict):
    qos: int
    retain: bool
    expiry_s: int | None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message for the link. `outcome` is what `on_done` gets once it is sent."""

    topic: str
    payload: bytes
    outcome: str


class Outbox:
    """Sends on its own thread, in order. `on_done(outgoing, sent)` hears of every message exactly once."""

    def __init__(self, link: Link, capacity: int, on_done: Callable[[Outgoing, bool], None]) -> None:
        self._link = link
        self._capacity = capacity
        self._on_done = on_done
        self._waiting: deque[Outgoing] = deque()
        self._changed = threading.Condition()
        self._give_up_at: float | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="ecc-cloud-outbox", daemon=True)

    def start(self) -> None:
        """Start sending."""
        self._thread.start()

    def send(self, outgoing: Outgoing, *, wait: bool) -> None:
        """Queue a message. A full outbox makes the caller wait, or drops the message; a closed one drops it."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: len(self._waiting) < self._capacity or self._give_up_at is not None)
            fits = len(self._waiting) < self._capacity and not self._ended
            if fits:
                self._waiting.append(outgoing)
                self._changed.notify_all()
        if not fits:
            self._on_done(outgoing, False)

    def send_first(self, outgoing: Outgoing) -> None:
        """Queue a message before all others, unless it is waiting already; the capacity does not count."""
        with self._changed:
            if outgoing not in self._waiting:
                self._waiting.appendleft(outgoing)
                self._changed.notify_all()

    def close(self, timeout_s: float) -> None:
        """Send what waits, for at most `timeout_s`; the rest is dropped and `on_done` hears it."""
        with self._changed:
            self._give_up_at = time.monotonic() + timeout_s
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while (outgoing := self._next()) is not None:
            self._on_done(outgoing, self._deliver(outgoing))

    def _next(self) -> Outgoing | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._give_up_at is not None)
            if not self._waiting:
                self._ended = True
                return None
            outgoing = self._waiting.popleft()
            self._changed.notify_all()
            return outgoing

    def _given_up(self) -> bool:
        return self._give_up_at is not None and time.monotonic() > self._give_up_at

    def _deliver(self, outgoing: Outgoing) -> bool:
        row = topics.BY_NAME[topics.parse(outgoing.topic).name]
        options: _Options = {"qos": row.qos, "retain": row.retain, "expiry_s": row.expiry_s}
        try:
            while not self._link.publish(outgoing.topic, outgoing.payload, **options):
                if self._given_up():
                    return False
                with self._changed:
                    self._changed.wait(RETRY_S)
        except LinkError as error:  # larger than this broker allows: no retry helps
            log.warning("a message cannot be sent: %s", error)
            return False
        return True
