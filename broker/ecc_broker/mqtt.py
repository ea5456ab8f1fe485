"""`MqttLink`: the link over a real broker, MQTT 5 or 3.1.1, on paho-mqtt."""

from __future__ import annotations

import logging
import math
import random
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Literal

from ecc_broker import topics
from ecc_broker.address import parse_address, tls_context
from ecc_broker.happenings import Lost, Opened, Sent, Subscribed, TakenOver, Unreadable, WrongVersion
from ecc_broker.link import DEFAULT_WINDOW, ConnectionListener, Handler, Message, Subscribers, Will, check_outgoing
from ecc_broker.outbox import Outbox, Outgoing
from ecc_broker.session import PACKET_OVERHEAD, Options, Session
from ecc_broker.takeover import PAUSE_S, TakeoverGuard
from ecc_model.errors import LinkError

DEFAULT_MAX_PACKET_BYTES = topics.MAX_PAYLOAD_BYTES + 1024
FLUSH_S = 1.0
FIRST_RETRY_S = 0.1  # doubles with each failed attempt, and half of it is chance
LAST_RETRY_S = 10.0
STEADY_S = 1.0  # a connection that held this long starts the retries from the shortest again
MAX_MQTT_BYTES = 268_435_455  # MQTT's own limit on a packet

log = logging.getLogger("ecc.link")


class MqttLink:
    """A `Link` to the broker at `url` as `client_id`.

    `version` 5 falls back to 3.1.1 where the broker knows no other. `insecure` allows unencrypted mqtt:// to another
    machine. `ca_file`: certificates to trust instead of the system's. `max_packet_bytes`: largest packet sent or
    received; MQTT 5 brokers are told, and payloads above it are dropped and counted. `LinkError`: `url` is unusable.
    """

    def __init__(
        self,
        url: str,
        client_id: str,
        *,
        version: Literal[4, 5] = 5,
        will: Will | None = None,
        insecure: bool = False,
        ca_file: Path | None = None,
        max_packet_bytes: int = DEFAULT_MAX_PACKET_BYTES,
    ) -> None:
        address = parse_address(url, insecure=insecure)
        tls = tls_context(ca_file) if address.tls else None
        self._options = Options(address, client_id, will, tls, max_packet_bytes)
        self.counts: Counter[str] = Counter()
        self._asked_version: int = version
        self._version: int = version
        self._subscribers = Subscribers(self.counts)
        self._listeners: list[ConnectionListener] = []
        self._takeovers = TakeoverGuard(client_id)
        self._thread: threading.Thread | None = None
        self._opened_at = math.inf
        self._stop = threading.Event()
        self._max_packet_bytes = max_packet_bytes
        self._outbox = Outbox(self.counts)
        self._lock = threading.Lock()  # guards what is below
        self._wake: socket.socket | None = None
        self._connected: bool | None = None  # None: not known yet
        self._problem: str | None = None
        self._new_filters: list[str] = []

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
        if self._thread is not None or self._stop.is_set():
            raise LinkError("a link is started once; make a new one")
        reader, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._thread = threading.Thread(
            target=self._run, args=(reader,), name=f"link-{self._options.client_id}", daemon=True
        )
        self._thread.start()

    def subscribe(self, filter_: str, handler: Handler) -> None:
        """Call `handler` with each message that matches, on the link's own thread; renewed after each reconnect.

        Where several filters of one link match, a broker may send a message once for each.
        """
        self._subscribers.add(filter_, handler)
        with self._lock:
            self._new_filters.append(filter_)
            self._wake_up()

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> bool:
        """Take a message for sending. False: not taken (not connected, or the window is full); the caller keeps it."""
        check_outgoing(topic, payload, self._max_packet_bytes - PACKET_OVERHEAD - len(topic.encode()))
        expires = None if expiry_s is None else time.monotonic() + expiry_s
        taken = self._outbox.put(Outgoing(topic, payload, qos, retain, expires))
        if taken:
            with self._lock:
                self._wake_up()
        return taken

    def on_connection(self, listener: ConnectionListener) -> None:
        """Call `listener` with True after each connect, and with False after each loss or a first failure."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Send what was taken, for at most a second, and say goodbye. A closed link cannot be started again."""
        self._stop.set()
        self._outbox.open = False
        with self._lock:
            self._wake_up()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(2 * FLUSH_S)

    def _wake_up(self) -> None:
        if self._wake is not None:
            try:
                self._wake.send(b"\0")
            except BlockingIOError:  # full: it is awake already
                return

    # ---- the link's own thread ----

    def _run(self, wake: socket.socket) -> None:
        delay = FIRST_RETRY_S
        try:
            while not self._stop.is_set():
                self._opened_at = math.inf
                pause = self._connect_once(wake)
                if time.monotonic() - self._opened_at >= STEADY_S:
                    delay = FIRST_RETRY_S
                self._stop.wait(delay * random.uniform(0.5, 1.0) if pause is None else pause)
                delay = min(LAST_RETRY_S, 2 * delay)
        finally:
            if not self._stop.is_set():
                self._trouble("the link stopped over a fault in a handler; see the traceback and report it")
            with self._lock:
                self._connected = False
                if self._wake is not None:
                    self._wake.close()
                    self._wake = None
            wake.close()
            self._outbox.give_up_all()

    def _connect_once(self, wake: socket.socket) -> float | None:
        """One connection, from its start to its end. Seconds to keep away afterwards, None for the usual delay."""
        session: Session | None = None
        pause: float | None = None
        next_version = self._asked_version
        try:
            session = Session(self._options, self._version, wake)
            self._serve(session)
        except WrongVersion as wrong_version:
            if self._version == 5:
                next_version, pause = 4, 0.0
            self._trouble(str(wrong_version))
        except TakenOver as taken_over:
            pause = PAUSE_S
            self._trouble(str(taken_over))
        except Lost as lost:
            self._trouble(str(lost))
        finally:
            if session is not None:
                session.abort()
            self._outbox.connection_lost()
            # a connection that stood keeps its version; one that failed as 3.1.1 tries the asked one again
            if self._opened_at == math.inf:
                self._version = next_version
            if pause != 0.0:
                self._tell(False)
        return pause

    def _serve(self, session: Session) -> None:
        """Carry messages both ways until the link is closed; `Lost` when the connection ends before that."""
        first_subscribe = 0
        stop_by = math.inf
        while True:
            if self._connected:
                self._send(session)
            for happened in session.wait():
                match happened:
                    case Opened():
                        first_subscribe = self._open(session, happened)
                    case Subscribed(mid, refused):
                        if refused:
                            log.warning("%s: the broker refused a subscription", self._options.address.url)
                        if mid == first_subscribe:
                            session.publish(Outgoing(self._takeovers.topic, self._takeovers.claim, 0, True, None))
                            self._tell(True)
                    case Sent(mid, refusal):
                        self._outbox.acknowledged(mid, refusal)
                    case Unreadable():
                        self.counts["bad-topic"] += 1
                    case Message():
                        self._receive(session, happened)
            if self._stop.is_set():
                stop_by = min(stop_by, time.monotonic() + FLUSH_S)
                if not (self._connected and self._outbox) or time.monotonic() >= stop_by:
                    self._leave(session, by=stop_by)
                    return

    def _open(self, session: Session, opened: Opened) -> int:
        """Take over the broker's limits and renew the subscriptions. The number of the subscription to wait for."""
        self._opened_at = time.monotonic()
        self._max_packet_bytes = min(self._options.max_packet_bytes, opened.max_packet_bytes or MAX_MQTT_BYTES)
        self._outbox.window = min(DEFAULT_WINDOW, opened.receive_maximum or DEFAULT_WINDOW)
        with self._lock:
            self._new_filters.clear()
        return session.subscribe([self._takeovers.topic, *self._subscribers.filters()])

    def _leave(self, session: Session, by: float) -> None:
        """Take our claim away and say goodbye."""
        session.publish(Outgoing(self._takeovers.topic, b"", 0, True, None))
        session.close(by)

    def _send(self, session: Session) -> None:
        """Hand the new subscriptions and all that was taken to the session."""
        with self._lock:
            filters, self._new_filters = self._new_filters, []
        if filters:
            session.subscribe(filters)
        while (outgoing := self._outbox.next()) is not None:
            self._outbox.sent(session.publish(outgoing), outgoing)

    def _receive(self, session: Session, message: Message) -> None:
        if len(message.payload) + len(message.topic.encode()) + PACKET_OVERHEAD > self._options.max_packet_bytes:
            self.counts["too-large"] += 1
            log.warning("message of %d bytes on %s dropped: too large", len(message.payload), message.topic)
        elif message.topic == self._takeovers.topic:
            problem = self._takeovers.heard(message, time.monotonic())
            if problem is not None:
                self._leave(session, by=time.monotonic() + FLUSH_S)
                raise TakenOver(problem)
        else:
            self._subscribers.dispatch(message)

    def _trouble(self, problem: str) -> None:
        if problem != self._problem:
            log.info("%s", problem)  # whoever owns the link tells people, from `problem`
        self._problem = problem

    def _tell(self, connected: bool) -> None:
        """Note a change of the connection and tell the listeners."""
        with self._lock:
            if connected == self._connected:
                return
            self._connected = connected
            self._outbox.open = connected and not self._stop.is_set()
        if connected:
            self._problem = None
        for listener in list(self._listeners):
            self._subscribers.call(listener, connected, "a connection listener")
