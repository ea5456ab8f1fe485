"""Starting a real broker."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from pathlib import Path

import pytest
from cells import Inbox, Watch

from ecc_broker import mosquitto as mosquitto_config
from ecc_broker import server
from ecc_broker.link import Message
from ecc_broker.mqtt import MqttLink
from ecc_broker.server import start_broker
from ecc_broker.topics import MAX_PAYLOAD_BYTES
from ecc_model.errors import LinkError
from support.brokers import BrokerProcess


def test_auto_takes_mosquitto_and_answers_at_its_url(tmp_path: Path) -> None:
    broker = start_broker(None, tmp_path / "a folder")
    try:
        assert broker.kind == "mosquitto"
        assert broker.url == f"mqtt://127.0.0.1:{broker.port}"
        link = MqttLink(broker.url, "robot-1")
        watch = Watch(link)
        link.start()
        watch.until(True)
        link.close()
    finally:
        broker.stop()
    assert broker.process.returncode == 0
    broker.stop()


def test_configuration_bounds_memory_and_stays_on_this_machine(tmp_path: Path) -> None:
    lines = mosquitto_config.config(1883, tmp_path).splitlines()
    for line in (
        "listener 1883 127.0.0.1",
        "set_tcp_nodelay true",
        "persistence true",
        f"persistence_location {tmp_path}/",
        "max_queued_messages 1000",
        f"message_size_limit {MAX_PAYLOAD_BYTES}",
        f"max_packet_size {MAX_PAYLOAD_BYTES + 1024}",
    ):
        assert line in lines
    settings = [line.split()[0] for line in lines if line and not line.startswith("#")]
    assert settings.count("listener") == 1
    assert {"memory_limit", "max_queued_bytes", "max_inflight_messages"} <= set(settings)


def test_broker_listens_on_loopback_only(mosquitto: BrokerProcess) -> None:
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1"}:
        with pytest.raises(OSError, match=r"refused|unreachable|timed out"):
            socket.create_connection((address, mosquitto.port), timeout=2).close()


def test_what_is_retained_survives_a_restart_in_order(mosquitto: BrokerProcess) -> None:
    def connected(client_id: str, inbox: Inbox) -> MqttLink:
        link = MqttLink(mosquitto.url, client_id)
        link.subscribe("kept", inbox)
        watch = Watch(link)
        link.start()
        watch.until(True)
        return link

    first = connected("first", before := Inbox())
    first.publish("kept", b"state", retain=True)
    before.next()
    first.close()

    mosquitto.stop()
    assert not mosquitto.running
    mosquitto.restart()

    second = connected("second", after := Inbox())
    assert after.next() == Message("kept", b"state", retained=True)
    second.close()


def test_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LinkError) as raised:
            start_broker(port, tmp_path)
    assert str(raised.value) == (
        f"port {port} is in use; stop the program that listens there, or choose another with --port"
    )


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LinkError, match=r"/file: File exists; choose another folder with --data"):
        start_broker(None, tmp_path / "file")
    with pytest.raises(LinkError, match=r"/file/x: Not a directory; choose another folder with --data"):
        start_broker(None, tmp_path / "file" / "x")


def test_no_broker_installed_names_both_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_installed(monkeypatch)
    for kind in ("auto", "amqtt"):
        with pytest.raises(LinkError) as raised:
            start_broker(None, tmp_path, kind)
        assert str(raised.value) == (
            "no broker is installed; install one with: sudo apt install mosquitto, or: pip install 'ecc-snn[broker]'"
        )
    with pytest.raises(LinkError, match="Mosquitto is not installed; install it with: sudo apt install mosquitto"):
        start_broker(None, tmp_path, "mosquitto")


def test_auto_takes_amqtt_where_mosquitto_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosquitto_config, "find_mosquitto", lambda: None)
    broker = start_broker(None, tmp_path)
    broker.stop()
    assert (broker.kind, broker.process.returncode) == ("amqtt", 0)
    assert broker.log.read_text() == ""


def test_mosquitto_is_found_outside_of_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "sbin" / "mosquitto"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mosquitto_config, "_SBIN", (str(program.parent),))
    assert mosquitto_config.find_mosquitto() == str(program)


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (
            "echo 'Error: bad line'; exit 3",
            r"mosquitto ended at once \(exit code 3\): Error: bad line; see ",
        ),
        ("exit 1", r"mosquitto ended at once \(exit code 1\): it said nothing; see .*broker\.log"),
        ("sleep 60", r"mosquitto does not answer at mqtt://127\.0\.0\.1:\d+; see .*broker\.log"),
    ],
)
def test_broker_that_does_not_come_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, text: str) -> None:
    program = tmp_path / "mosquitto"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(server, "READY_TIMEOUT_S", 0.3)
    assert shutil.which("mosquitto") == str(program)
    with pytest.raises(LinkError, match=text):
        start_broker(None, tmp_path / "data")


def test_broker_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = BrokerProcess(tmp_path, "mosquitto")
    monkeypatch.setattr(server, "STOP_TIMEOUT_S", 0.2)
    broker.pause()
    stopper = threading.Thread(target=broker._broker.stop)
    stopper.start()
    stopper.join(10)
    assert not broker.running


def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mosquitto_config, "find_mosquitto", lambda: None)

    def require(module: str, purpose: str) -> None:
        raise server.MissingPackage(module, purpose, "broker")

    monkeypatch.setattr(server, "require", require)
