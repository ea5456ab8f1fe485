"""What an `MqttLink` took for sending and no broker has acknowledged yet."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass

from ecc_broker.link import DEFAULT_WINDOW

MAX_ATTEMPTS = 5  # connections that broke off over one message before it is given up

log = logging.getLogger("ecc.link")


@dataclass(slots=True)
class Outgoing:
    """A message on its way. `expires`: monotonic seconds, None for never."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    expires: float | None
    attempts: int = 0

    @property
    def seconds_left(self) -> float | None:
        """Until it expires; None: it never does."""
        return None if self.expires is None else self.expires - time.monotonic()


class Outbox:
    """A bounded, ordered box between the callers' threads and the link's own; each message leaves it acknowledged
    or counted in `counts`.

    `window`: how many messages may be in it; `open`: whether it takes any.
    """

    def __init__(self, counts: Counter[str]) -> None:
        self.window = DEFAULT_WINDOW
        self.open = False
        self._counts = counts
        self._lock = threading.Lock()
        self._waiting: deque[Outgoing] = deque()
        self._sent: dict[int, Outgoing] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    def put(self, outgoing: Outgoing) -> bool:
        """Take a message, from any thread. False: closed or full."""
        with self._lock:
            if not self.open or len(self) >= self.window:
                return False
            self._waiting.append(outgoing)
            return True

    def next(self) -> Outgoing | None:
        """The message to send now; those that expired or broke too many connections are counted and left out."""
        while True:
            with self._lock:
                if not self._waiting:
                    return None
                outgoing = self._waiting.popleft()
            left = outgoing.seconds_left
            if left is not None and left <= 0:
                self._give_up(outgoing, "expired")
            elif outgoing.attempts >= MAX_ATTEMPTS:
                self._give_up(outgoing, "undelivered")
            else:
                outgoing.attempts += 1
                return outgoing

    def sent(self, mid: int, outgoing: Outgoing) -> None:
        """Note that `outgoing` went out as packet `mid` and waits for its acknowledgement."""
        with self._lock:
            self._sent[mid] = outgoing

    def acknowledged(self, mid: int, refusal: str) -> None:
        """The broker answered for packet `mid`; `refusal` is its reason where it did not take the message."""
        with self._lock:
            outgoing = self._sent.pop(mid, None)
        if refusal and outgoing is not None:
            self._give_up(outgoing, "refused", f" by the broker ({refusal})")

    def connection_lost(self) -> None:
        """What was not acknowledged goes to the front again, in its order."""
        with self._lock:
            self._waiting.extendleft(reversed(self._sent.values()))
            self._sent.clear()

    def give_up_all(self) -> None:
        """Close the box and count what is still in it."""
        self.open = False
        self.connection_lost()
        while self._waiting:
            self._give_up(self._waiting.popleft(), "undelivered")

    def _give_up(self, outgoing: Outgoing, reason: str, detail: str = "") -> None:
        self._counts[reason] += 1
        log.warning("message on %s given up: %s%s", outgoing.topic, reason, detail)
