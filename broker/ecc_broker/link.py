"""What a link is: the contract that the in-memory and the MQTT link keep.

Nothing is dropped in silence. `publish` says False when it did not take a message, and the caller keeps it. What it
took is sent again after a broken connection, at least once; what had to be given up is in `counts`:

| count       | meaning                                                                 |
|-------------|-------------------------------------------------------------------------|
| handler     | calls of a handler or listener that ended in an `EccError`              |
| too-large   | received messages above the link's limit                                |
| bad-topic   | received messages whose topic is not UTF-8                              |
| refused     | own messages that the broker refused with a reason code (MQTT 5)        |
| expired     | own messages past their `expiry_s` before a connection came back        |
| undelivered | own messages that no connection took: broken off each time, or at close |
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ecc_broker import topics
from ecc_model.errors import EccError, LinkError

DEFAULT_WINDOW = 20  # messages taken and not yet acknowledged: Mosquitto's own receive maximum

log = logging.getLogger("ecc.link")


@dataclass(frozen=True, slots=True)
class Message:
    """A message received. `retained`: the broker kept it from before the subscription."""

    topic: str
    payload: bytes
    retained: bool


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for a client that goes without saying goodbye (QoS 1)."""

    topic: str
    payload: bytes
    retain: bool = True


T = TypeVar("T")
Handler = Callable[[Message], None]
ConnectionListener = Callable[[bool], None]


class Link(Protocol):
    """One client's connection to a broker, kept up in the background."""

    counts: Counter[str]
    """What had to be given up, by reason: the table above."""

    @property
    def connected(self) -> bool:
        """Whether the broker accepted the connection and it still stands."""

    @property
    def problem(self) -> str | None:
        """Why there is no connection, in one line for people; None while all is well."""

    def start(self) -> None:
        """Connect and stay connected, in the background; returns at once, even with no broker there."""

    def subscribe(self, filter_: str, handler: Handler) -> None:
        """Call `handler` with each message that matches, on the link's own thread.

        Remembered and renewed after each reconnect; before or after `start`. `LinkError`: not a filter.
        """

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> bool:
        """Take a message for sending. False: not taken (not connected, or the window is full); the caller keeps it.

        `LinkError`: not a topic, or a payload above the link's limit.
        """

    def on_connection(self, listener: ConnectionListener) -> None:
        """Call `listener` with True after each connect, and with False after each loss or a first failure.

        On the link's own thread; `problem` says why before the call.
        """

    def close(self) -> None:
        """Send what was taken, for at most a second, and say goodbye. A closed link cannot be started again."""


class Subscribers:
    """The handlers of one link. An `EccError` in a handler is counted and logged; the others still get the message."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._handlers: list[tuple[str, Handler]] = []

    def add(self, filter_: str, handler: Handler) -> None:
        """Remember `handler`; `LinkError` if `filter_` is none."""
        topics.check_filter(filter_)
        self._handlers = [*self._handlers, (filter_, handler)]

    def filters(self) -> list[str]:
        """Each filter once, in the order of subscription."""
        return list(dict.fromkeys(filter_ for filter_, _ in self._handlers))

    def dispatch(self, message: Message) -> None:
        """Call every handler whose filter matches."""
        for filter_, handler in self._handlers:
            if topics.matches(filter_, message.topic):
                self.call(handler, message, f"message on {message.topic} dropped")

    def call(self, listener: Callable[[T], None], value: T, what: str) -> None:
        """Call one of the owner's functions, and live through its `EccError`."""
        try:
            listener(value)
        except EccError as error:
            self._counts["handler"] += 1
            log.warning("%s: %s", what, error)


def check_outgoing(topic: str, payload: bytes, max_bytes: int) -> None:
    """`LinkError` for what no broker may get: a topic with wildcards, or a payload above `max_bytes`."""
    topics.check_topic(topic)
    if len(payload) > max_bytes:
        raise LinkError(
            f"a message of {len(payload)} bytes for {topic[:80]} is too large; this link carries at most {max_bytes}"
        )
