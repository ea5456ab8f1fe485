"""One connection of an `MqttLink`: a paho client, made for it and thrown away with it.

A client that outlives its connection resends on its own what it held, in packets that may no longer be valid; so
the link keeps what it took itself, and each connection starts from nothing. What happens on the connection comes
out of `wait` as values, in order, on the caller's thread: no code of ours runs inside paho's callbacks.
"""

from __future__ import annotations

import math
import os
import select
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import Any

from paho.mqtt import MQTTException
from paho.mqtt.client import Client, MQTTMessage, MQTTv5, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ecc_broker import topics
from ecc_broker.address import PASSWORD_VARIABLE, Address
from ecc_broker.happenings import Happening, Lost, Opened, Sent, Subscribed, Unreadable, WrongVersion
from ecc_broker.link import Message, Will
from ecc_broker.outbox import Outgoing

KEEPALIVE_S = 15
CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 3.0  # for each of the broker's first answers
PACKET_OVERHEAD = 19  # bytes of a QoS 1 PUBLISH with an expiry and an alias, beside topic and payload

_TICK_MS = 1000  # how often paho looks at its keepalive when nothing happens
# what paho's readers raise on bytes that are not MQTT
_NOT_MQTT = (MQTTException, ValueError, LookupError, TypeError, AssertionError, struct.error)
_REMEDIES = {
    "Bad user name or password": f"check the user in the address and {PASSWORD_VARIABLE}",
    "Not authorized": f"check the user in the address and {PASSWORD_VARIABLE}",
    "Client identifier not valid": "choose another device name",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What is the same for every connection of a link."""

    address: Address
    client_id: str
    will: Will | None
    tls: ssl.SSLContext | None
    max_packet_bytes: int


class Session:
    """A connection from CONNECT to its end; every method belongs to one thread and raises `Lost` at that end.

    `wake`: a socket; a byte in it makes `wait` return.
    """

    def __init__(self, options: Options, version: int, wake: socket.socket) -> None:
        self.version = version
        self._url = options.address.url
        self._wake = wake
        self._happened: list[Happening] = []
        self._aliases: dict[str, int] = {}  # of topics that this connection has named
        self._alias_room = 0  # until the broker has said how many it keeps
        self._end: Lost | None = None
        self._answers_due: dict[int, float] = {0: time.monotonic() + ANSWER_TIMEOUT_S}  # by mid; 0 is CONNACK
        self._client = self._new_client(options)
        try:
            self._connect(options)
        except Lost:
            self.abort()
            raise

    def publish(self, outgoing: Outgoing) -> int:
        """Hand one message to paho; its number, which comes back in `Sent`.

        On MQTT 5 a topic travels once for each connection where the broker has room for an alias; after that two
        bytes name it. What is retained is seldom sent, and takes no room.
        """
        topic, properties = outgoing.topic, None
        if self.version == MQTTv5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if (left := outgoing.seconds_left) is not None:
                properties.MessageExpiryInterval = max(1, math.ceil(left))
            if topic in self._aliases:
                topic, properties.TopicAlias = "", self._aliases[topic]
            elif not outgoing.retain and len(self._aliases) < self._alias_room:
                self._aliases[topic] = properties.TopicAlias = len(self._aliases) + 1
        return self._client.publish(
            topic, outgoing.payload, qos=outgoing.qos, retain=outgoing.retain, properties=properties
        ).mid

    def subscribe(self, filters: list[str]) -> int:
        """Ask for `filters` (QoS 1); the number that comes back in `Subscribed`. MQTT 3.1.1 cannot share a load."""
        if self.version == MQTTv5:
            _, mid = self._client.subscribe([(filter_, SubscribeOptions(qos=1)) for filter_ in filters])
        else:
            _, mid = self._client.subscribe([(topics.split_share(filter_)[1], 1) for filter_ in filters])
        if mid is None:
            raise self._ended()
        self._answers_due[mid] = time.monotonic() + ANSWER_TIMEOUT_S
        return mid

    def wait(self) -> list[Happening]:
        """Send what is due, then wait for something to happen: at most a second, or until `wake`."""
        try:
            self._pump()
        except _NOT_MQTT as exc:
            self.abort()
            raise Lost(f"{self._url}: bytes that are not MQTT ({exc}); is there a broker on this port?") from exc
        happened, self._happened = self._happened, []
        if not happened:
            if self._client.socket() is None:
                raise self._ended()
            if min(self._answers_due.values(), default=math.inf) < time.monotonic():
                kind = WrongVersion if 0 in self._answers_due else Lost
                self.abort()
                raise kind(f"{self._url}: no answer within {ANSWER_TIMEOUT_S:.0f} s; is there a broker on this port?")
        return happened

    def close(self, by: float) -> None:
        """Say goodbye, so that the broker does not publish the will; done `by` then (monotonic seconds)."""
        sock = self._client.socket()
        if sock is None:
            return
        # paho closes its socket right behind the goodbye; a message that comes in then makes the broker see a
        # reset instead of it, so the connection stays until the broker has closed it too
        with socket.socket(fileno=os.dup(sock.fileno())) as connection:
            self._client.disconnect()
            while self._client.want_write() and self._client.socket() is not None and time.monotonic() < by:
                _wait_for(connection, select.POLLOUT, by)
                self._client.loop_write()
            self.abort()
            try:
                connection.shutdown(socket.SHUT_WR)
                while _wait_for(connection, select.POLLIN, by) and connection.recv(65_536):
                    pass
            except OSError:
                return  # the broker was faster

    def abort(self) -> None:
        """Drop the connection without a word."""
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _new_client(self, options: Options) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            clean_session=None if self.version == MQTTv5 else True,
            protocol=MQTTv5 if self.version == MQTTv5 else MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(0)  # the link's window is the limit
        client.on_socket_open = _without_delay
        client.on_socket_register_write = _ignore  # or paho would write from within publish()
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        if options.address.user is not None:
            client.username_pw_set(options.address.user, options.address.password)
        if options.will is not None:
            client.will_set(options.will.topic, options.will.payload, qos=1, retain=options.will.retain)
        return client

    def _connect(self, options: Options) -> None:
        address = options.address
        properties = None
        if self.version == MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = options.max_packet_bytes
        try:
            if options.tls is not None:
                self._client.tls_set_context(options.tls)
            self._client.connect(address.host, address.port, keepalive=KEEPALIVE_S, properties=properties)
        except ssl.SSLError as exc:
            reason = getattr(exc, "verify_message", None) or exc.reason or exc
            raise Lost(f"{address.url}: TLS failed ({reason}); check the broker's certificate and the CA file") from exc
        except OSError as exc:
            reason = exc.strerror or exc
            raise Lost(f"no broker at {address.url} ({reason}); start one with: ecc-broker start") from exc

    def _pump(self) -> None:
        client = self._client
        if client.want_write():
            client.loop_write()
        sock = client.socket()
        if sock is None:
            return
        poller = select.poll()
        poller.register(sock, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
        poller.register(self._wake, select.POLLIN)
        # bytes that TLS has already decrypted do not show on the socket
        pending = isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
        ready = [fd for fd, _ in poller.poll(0 if pending else _TICK_MS)]
        if self._wake.fileno() in ready:
            self._wake.recv(4096)
        if pending or sock.fileno() in ready:
            client.loop_read()
        client.loop_misc()

    def _ended(self) -> Lost:
        return self._end or Lost(f"{self._url}: the connection broke off")

    def _on_connect(self, _client: Client, _data: Any, _flags: Any, reason: ReasonCode, properties: Any) -> None:
        del self._answers_due[0]
        if not reason.is_failure:
            self._alias_room = getattr(properties, "TopicAliasMaximum", 0)
            limits = (getattr(properties, name, None) for name in ("MaximumPacketSize", "ReceiveMaximum"))
            self._happened.append(Opened(*limits))
            return
        name = reason.getName()
        kind = WrongVersion if name == "Unsupported protocol version" else Lost
        self._end = kind(
            f"{self._url}: the broker refused the connection ({name}); {_REMEDIES.get(name, 'see its log')}"
        )

    def _on_disconnect(self, _client: Client, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        told = flags.is_disconnect_packet_from_server or reason.getName() == "Keep alive timeout"
        why = f" ({reason.getName()})" if told else ""
        self._end = self._end or Lost(f"{self._url}: the connection broke off{why}")

    def _on_subscribe(self, _client: Client, _data: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        self._answers_due.pop(mid, None)
        self._happened.append(Subscribed(mid, any(reason.is_failure for reason in reasons)))

    def _on_publish(self, _client: Client, _data: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._happened.append(Sent(mid, reason.getName() if reason.is_failure else ""))

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        try:
            self._happened.append(Message(message.topic, bytes(message.payload), message.retain))
        except UnicodeDecodeError:
            self._happened.append(Unreadable())


def _wait_for(sock: socket.socket, event: int, by: float) -> bool:
    """Whether `event` came in time."""
    poller = select.poll()
    poller.register(sock, event)
    return bool(poller.poll(max(0.0, by - time.monotonic()) * 1000))


def _without_delay(_client: Client, _data: Any, sock: Any) -> None:
    """Small packets leave at once: with the default, request and reply wait 40 ms each for an acknowledgement."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _ignore(_client: Client, _data: Any, _sock: Any) -> None:
    pass
