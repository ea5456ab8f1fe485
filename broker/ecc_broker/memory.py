"""A broker and its links inside one process: the same contract, no sockets, for tests and for all on one machine."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

from ecc_broker import topics
from ecc_broker.link import DEFAULT_WINDOW, ConnectionListener, Handler, Message, Subscribers, Will, check_outgoing
from ecc_broker.takeover import PAUSE_S, TakeoverGuard
from ecc_model.errors import LinkError

FLUSH_S = 1.0


class MemoryBroker:
    """What a broker does, by method calls: retained messages, wildcards, shared subscriptions, last wills.

    `stop`, `start`, `pause` and `resume` are for tests of what a real broker may do.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.running = True
        self.paused = False
        self._links: dict[str, MemoryLink] = {}
        self._retained: dict[str, bytes] = {}
        self._turns: Counter[str] = Counter()

    def stop(self) -> None:
        """Die: connections break off, no will is published, what was retained is forgotten."""
        with self.changed:
            self.running = False
            self._retained.clear()
            for link in list(self._links.values()):
                self._remove(link)
                link.lost("the broker stopped")

    def start(self) -> None:
        """Come back after `stop`."""
        with self.changed:
            self.running = True
            self.paused = False
            self.changed.notify_all()

    def pause(self) -> None:
        """Take no more messages; connections stand."""
        with self.changed:
            self.paused = True

    def resume(self) -> None:
        """Take what waits and go on."""
        with self.changed:
            self.paused = False
            self.changed.notify_all()

    def attach(self, link: MemoryLink) -> bool:
        """Accept a link; another one with its id is thrown out. False: not running."""
        if not self.running:
            return False
        other = self._links.get(link.client_id)
        if other is not None:
            self.drop(other)
            other.lost(None)
        self._links[link.client_id] = link
        return True

    def detach(self, link: MemoryLink) -> None:
        """A link says goodbye: its will is not published."""
        self._remove(link)

    def drop(self, link: MemoryLink) -> None:
        """A link's connection broke off: its will is published."""
        with self.changed:
            if self._remove(link) and link.will is not None:
                self.route(link.will.topic, link.will.payload, link.will.retain)

    def subscribed(self, link: MemoryLink, filter_: str) -> None:
        """Hand over what is retained; a shared subscription gets nothing, as MQTT has it."""
        group, plain = topics.split_share(filter_)
        if group is None:
            for topic, payload in self._retained.items():
                if topics.matches(plain, topic):
                    link.deliver(Message(topic, payload, retained=True))

    def route(self, topic: str, payload: bytes, retain: bool) -> None:
        """Keep a retained message (an empty one clears it) and pass it on."""
        if retain:
            self._retained.pop(topic, None)
            if payload:
                self._retained[topic] = payload
        message = Message(topic, payload, retained=False)
        shared: dict[str, list[MemoryLink]] = {}
        for link in self._links.values():
            matching = [filter_ for filter_ in link.filters() if topics.matches(filter_, topic)]
            if any(topics.split_share(filter_)[0] is None for filter_ in matching):
                link.deliver(message)
            for filter_ in matching:
                if topics.split_share(filter_)[0] is not None:
                    shared.setdefault(filter_, []).append(link)
        for filter_, group in shared.items():
            group[self._turns[filter_] % len(group)].deliver(message)
            self._turns[filter_] += 1

    def _remove(self, link: MemoryLink) -> bool:
        if self._links.get(link.client_id) is not link:
            return False
        del self._links[link.client_id]
        return True


class MemoryLink:
    """A `Link` to a `MemoryBroker` as `client_id`."""

    def __init__(self, broker: MemoryBroker, client_id: str, will: Will | None = None) -> None:
        self.client_id = client_id
        self.will = will
        self.counts: Counter[str] = Counter()
        self._broker = broker
        self._changed = broker.changed  # guards all below
        self._subscribers = Subscribers(self.counts)
        self._listeners: list[ConnectionListener] = []
        self._takeovers = TakeoverGuard(client_id)
        self._thread: threading.Thread | None = None
        self._attached = False
        self._connected: bool | None = None
        self._problem: str | None = None
        self._closing = False
        self._stop_by = 0.0
        self._not_before = 0.0
        self._due: deque[Callable[[], None]] = deque()
        self._outbox: deque[tuple[str, bytes, bool, float | None]] = deque()

    @property
    def connected(self) -> bool:
        """Whether the broker accepted the connection and it still stands."""
        return self._connected is True

    @property
    def problem(self) -> str | None:
        """Why there is no connection, in one line for people; None while all is well."""
        return self._problem

    def start(self) -> None:
        """Connect and stay connected, in the background; returns at once, even with no broker there."""
        if self._thread is not None or self._closing:
            raise LinkError("a link is started once; make a new one")
        self._thread = threading.Thread(target=self._run, name=f"link-{self.client_id}", daemon=True)
        self._thread.start()

    def subscribe(self, filter_: str, handler: Handler) -> None:
        """Call `handler` with each message that matches, on the link's own thread; renewed after each reconnect."""
        with self._changed:
            self._subscribers.add(filter_, handler)
            if self._attached:
                self._broker.subscribed(self, filter_)

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> bool:
        """Take a message for sending. False: not taken (not connected, or the window is full); the caller keeps it."""
        check_outgoing(topic, payload, topics.MAX_PAYLOAD_BYTES)
        expires = None if expiry_s is None else time.monotonic() + expiry_s
        with self._changed:
            if not self._connected or self._closing or len(self._outbox) >= DEFAULT_WINDOW:
                return False
            self._outbox.append((topic, payload, retain, expires))
            self._changed.notify_all()
        return True

    def on_connection(self, listener: ConnectionListener) -> None:
        """Call `listener` with True after each connect, and with False after each loss or a first failure."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Send what was taken, for at most a second, and say goodbye. A closed link cannot be started again."""
        with self._changed:
            self._closing = True
            self._stop_by = time.monotonic() + FLUSH_S
            self._changed.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(2 * FLUSH_S)

    # ---- called by the broker, which holds the lock ----

    def filters(self) -> list[str]:
        """What this link is subscribed to."""
        return self._subscribers.filters()

    def deliver(self, message: Message) -> None:
        """Put a message in line for the handlers."""
        self._due.append(partial(self._subscribers.dispatch, message))
        self._changed.notify_all()

    def lost(self, problem: str | None) -> None:
        """The connection ended; None: because another link has the same id."""
        self._attached = False
        if problem is None:
            now = time.monotonic()
            problem = self._takeovers.record(now)
            if problem is not None:
                self._not_before = now + PAUSE_S
        self._problem = problem or "the connection broke off"
        self._set_connected(False)

    # ---- the link's own thread ----

    def _run(self) -> None:
        try:
            while (work := self._next()) is not None:
                work()
        finally:
            with self._changed:
                self._broker.detach(self)
                self._attached = self._connected = False
                if self._outbox:
                    self.counts["undelivered"] += len(self._outbox)

    def _next(self) -> Callable[[], None] | None:
        """The next call to make, waiting for it; None at the end."""
        with self._changed:
            while not self._due:
                now = time.monotonic()
                if self._closing and (not self._outbox or not self._attached or now >= self._stop_by):
                    return None
                if self._attached and self._outbox and not self._broker.paused:
                    self._send(now)
                elif self._attached or self._closing or now < self._not_before:
                    self._changed.wait(FLUSH_S)
                elif not self._attach() and not self._due:
                    self._changed.wait()
            return self._due.popleft()

    def _attach(self) -> bool:
        if not self._broker.attach(self):
            self._problem = "the broker is not running"
            self._set_connected(False)
            return False
        self._attached = True
        self._problem = None
        self._set_connected(True)
        for filter_ in self._subscribers.filters():
            self._broker.subscribed(self, filter_)
        return True

    def _send(self, now: float) -> None:
        topic, payload, retain, expires = self._outbox.popleft()
        if expires is not None and expires <= now:
            self.counts["expired"] += 1
        else:
            self._broker.route(topic, payload, retain)

    def _set_connected(self, connected: bool) -> None:
        if connected != self._connected:
            self._connected = connected
            for listener in self._listeners:
                self._due.append(partial(self._subscribers.call, listener, connected, "a connection listener"))
        self._changed.notify_all()
