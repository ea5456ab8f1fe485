"""What only the MQTT link has: sockets, versions, real deaths, brokers that are none."""

from __future__ import annotations

import gc
import os
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cells import TIMEOUT_S, Inbox, Watch

from ecc_broker.address import parse_address
from ecc_broker.happenings import Lost
from ecc_broker.link import Message, Will
from ecc_broker.mqtt import MqttLink
from ecc_broker.session import Options, Session
from ecc_broker.topics import MAX_PAYLOAD_BYTES
from ecc_model.errors import LinkError
from support.brokers import BrokerProcess


@pytest.fixture
def links() -> Iterator[list[MqttLink]]:
    made: list[MqttLink] = []
    yield made
    for link in made:
        link.close()


def start(link: MqttLink, links: list[MqttLink]) -> MqttLink:
    links.append(link)
    watch = Watch(link)
    link.start()
    watch.until(True)
    return link


def sockets_to(port: int) -> list[socket.socket]:
    """Every open TCP socket of this process whose other end is `port`."""
    found = []
    for thing in gc.get_objects():
        if issubclass(type(thing), socket.socket) and thing.fileno() >= 0 and thing.family == socket.AF_INET:
            try:
                peer = thing.getpeername()
            except OSError:
                continue
            if peer[1] == port:
                found.append(thing)
    return found


def wait_for_its_end(session: Session) -> None:
    try:
        while True:
            session.wait()
    except Lost:
        session.abort()


@pytest.mark.parametrize("version", [4, 5])
def test_small_packets_leave_at_once(mosquitto: BrokerProcess, links: list[MqttLink], version: int) -> None:
    """With TCP's default a request and its reply wait 88 ms for each other, without it 0.3 ms."""
    start(MqttLink(mosquitto.url, "robot-1", version=version), links)  # type: ignore[arg-type]

    (connection,) = sockets_to(mosquitto.port)

    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.parametrize("version", [4, 5])
def test_goodbye_is_heard_while_messages_pour_in(mosquitto: BrokerProcess, links: list[MqttLink], version: int) -> None:
    """Closing a socket with unread bytes resets the connection: the broker would publish the will."""
    wills = Inbox()
    reader = MqttLink(mosquitto.url, "reader")
    reader.subscribe("will", wills)
    start(reader, links)
    writer = start(MqttLink(mosquitto.url, "writer"), links)
    for _ in range(20):
        link = MqttLink(mosquitto.url, "polite", version=version, will=Will("will", b"dead"))  # type: ignore[arg-type]
        link.subscribe("flood", Inbox())
        start(link, [])
        while writer.publish("flood", bytes(1000)):
            pass
        link.close()
    while not writer.publish("will", b"end"):
        pass
    assert wills.until(b"end") == []


def test_falls_back_where_the_broker_knows_only_an_older_version(tmp_path: Path, links: list[MqttLink]) -> None:
    broker = BrokerProcess(tmp_path, "amqtt")
    try:
        link = MqttLink(broker.url, "robot-1", version=5)
        watch = Watch(link)
        inbox = Inbox()
        link.subscribe("$share/ecc/a/+", inbox)
        links.append(link)
        link.start()
        assert watch.until(True) is None
        assert link.publish("a/b", b"x", expiry_s=5)
        assert inbox.next() == Message("a/b", b"x", retained=False)
    finally:
        broker.stop()


def test_many_deaths_of_the_broker_are_no_other_client(mosquitto: BrokerProcess, links: list[MqttLink]) -> None:
    inbox = Inbox()
    link = MqttLink(mosquitto.url, "robot-1", version=4)
    link.subscribe("a", inbox)
    watch = Watch(link)
    start(link, links)
    watch.until(True)
    for number in range(4):
        mosquitto.restart()
        problem = watch.until(False)
        assert problem is not None
        assert "another client" not in problem
        watch.until(True)
        assert link.publish("a", bytes([number]))
        # QoS 1 is at least once: what the last broker had not acknowledged comes again
        repeated = set(inbox.until(bytes([number])))
        assert repeated <= {bytes([number - 1])} if number else not repeated
    assert link.counts == {}


@pytest.mark.parametrize("version", [4, 5])
def test_receiver_refuses_what_is_above_its_own_limit(
    mosquitto: BrokerProcess, links: list[MqttLink], version: int
) -> None:
    inbox = Inbox()
    reader = MqttLink(mosquitto.url, "reader", version=version, max_packet_bytes=1000)  # type: ignore[arg-type]
    reader.subscribe("a", inbox)
    start(reader, links)
    writer = start(MqttLink(mosquitto.url, "writer"), links)

    writer.publish("a", bytes(1000))
    writer.publish("a", b"small")

    assert inbox.next().payload == b"small"
    assert reader.connected
    assert reader.counts == ({"too-large": 1} if version == 4 else {})  # an MQTT 5 broker does not even send it
    with pytest.raises(LinkError, match="a message of 981 bytes for a is too large; this link carries at most 980"):
        reader.publish("a", bytes(981))


def test_broker_refuses_what_is_above_its_limit(mosquitto: BrokerProcess, links: list[MqttLink]) -> None:
    generous = MqttLink(mosquitto.url, "writer", max_packet_bytes=10 * MAX_PAYLOAD_BYTES)
    start(generous, links)
    with pytest.raises(LinkError, match="is too large; this link carries at most"):
        generous.publish("a", bytes(2 * MAX_PAYLOAD_BYTES))
    assert generous.connected


def test_connection_by_wrong_protocol_is_one_clear_problem(links: list[MqttLink]) -> None:
    with FakeBroker(b"HTTP/1.1 400 Bad Request\r\n\r\n") as broker:
        link = MqttLink(f"mqtt://127.0.0.1:{broker.port}", "robot-1")
        watch = Watch(link)
        links.append(link)
        link.start()
        problem = watch.until(False)
    assert problem is not None
    assert problem.startswith(f"mqtt://127.0.0.1:{broker.port}: ")
    assert "\n" not in problem


@pytest.mark.parametrize(
    ("connack", "problem"),
    [
        (b"\x20\x03\x00\x87\x00", "the broker refused the connection (Not authorized); check the user in the address"),
        (b"\x20\x03\x00\x86\x00", "the broker refused the connection (Bad user name or password); check the user in"),
        (b"\x20\x03\x00\x85\x00", "the broker refused the connection (Client identifier not valid); choose another"),
        (b"\x20\x03\x00\x88\x00", "the broker refused the connection (Server unavailable); see its log"),
    ],
)
def test_refusal_is_told_with_its_remedy(links: list[MqttLink], connack: bytes, problem: str) -> None:
    with FakeBroker(connack) as broker:
        link = MqttLink(f"mqtt://127.0.0.1:{broker.port}", "robot-1")
        watch = Watch(link)
        links.append(link)
        link.start()
        assert problem in (watch.until(False) or "")


def test_nobody_there_names_the_command_that_starts_one(links: list[MqttLink]) -> None:
    with FakeBroker(b"") as broker:
        port = broker.port
    link = MqttLink(f"mqtt://127.0.0.1:{port}", "robot-1")
    watch = Watch(link)
    links.append(link)
    link.start()
    assert watch.until(False) == (
        f"no broker at mqtt://127.0.0.1:{port} (Connection refused); start one with: ecc-broker start"
    )


def test_random_bytes_from_a_broker_end_the_connection_and_nothing_else() -> None:
    chance = random.Random(5)
    wake, other = socket.socketpair()
    openings = [b"", b"\x20\x03\x00\x00\x00", b"\x20\x02\x00\x00"]
    with FakeBroker(b"") as broker, wake, other:
        options = Options(parse_address(f"mqtt://127.0.0.1:{broker.port}"), "robot-1", None, None, 10_000)
        for attempt in range(300):
            broker.answer = openings[attempt % 3] + chance.randbytes(chance.randrange(1, 60))
            session = Session(options, 4 if attempt % 3 == 2 else 5, wake)
            wait_for_its_end(session)


def test_connections_leave_no_sockets_behind() -> None:
    wake, other = socket.socketpair()
    gc.collect()
    gc.disable()
    try:
        with FakeBroker(b"\x20\x02\x00\x00") as broker, wake, other:
            options = Options(parse_address(f"mqtt://127.0.0.1:{broker.port}"), "robot-1", None, None, 10_000)
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(20):
                session = Session(options, 4, wake)
                wait_for_its_end(session)
                del session
            # the broker's own thread may hold the last connection
            assert len(os.listdir("/proc/self/fd")) <= before + 2
    finally:
        gc.enable()


class FakeBroker:
    """Listens, reads the CONNECT, sends `answer` and hangs up."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> FakeBroker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT_S)
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(self.answer)
