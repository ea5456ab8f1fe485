"""Addresses of brokers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecc_broker.address import parse_address
from ecc_broker.mqtt import MqttLink
from ecc_model.errors import LinkError


@pytest.mark.parametrize(
    ("url", "shown", "user"),
    [
        ("mqtt://localhost", "mqtt://localhost:1883", None),
        ("mqtt://127.0.0.1:2000", "mqtt://127.0.0.1:2000", None),
        ("mqtt://[::1]:2000/", "mqtt://[::1]:2000", None),
        ("mqtts://broker.example", "mqtts://broker.example:8883", None),
        ("mqtts://robot%401@broker.example:1234", "mqtts://broker.example:1234", "robot@1"),
    ],
)
def test_address(url: str, shown: str, user: str | None) -> None:
    address = parse_address(url)
    assert (address.url, address.user) == (shown, user)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:1883",
        "http://localhost",
        "mqtt://",
        "mqtt://:1883",
        "mqtt://localhost:0",
        "mqtt://localhost:99999",
        "mqtt://localhost:port",
        "mqtt://localhost/topic",
        "mqtt://localhost?x=1",
        "mqtt://[::1",
        "mqtt://" + "a" * 300,
    ],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(
        LinkError, match=r"broker address .* cannot be (used|read \(.*\)); write it as mqtt://host:port"
    ):
        parse_address(url)


def test_password_does_not_belong_into_an_address() -> None:
    with pytest.raises(LinkError) as raised:
        parse_address("mqtts://robot:secret@broker.example")
    assert str(raised.value) == (
        "a broker address with a password in it; put the password into ECC_MQTT_PASSWORD instead"
    )


def test_password_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    address = parse_address("mqtts://robot@broker.example")
    monkeypatch.delenv("ECC_MQTT_PASSWORD", raising=False)
    assert address.password is None
    monkeypatch.setenv("ECC_MQTT_PASSWORD", "secret")
    assert address.password == "secret"
    assert "secret" not in repr(address)


def test_plain_text_to_another_machine_needs_a_word() -> None:
    with pytest.raises(LinkError) as raised:
        MqttLink("mqtt://broker.example", "robot-1")
    assert str(raised.value) == (
        "mqtt://broker.example:1883 is another machine and mqtt:// is not encrypted; "
        "use mqtts://, or allow it with --insecure"
    )
    MqttLink("mqtt://broker.example", "robot-1", insecure=True)


def test_ca_file_that_is_none(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    with pytest.raises(LinkError, match=r"ca\.pem: not a file of certificates \(No such file or directory\)"):
        MqttLink("mqtts://broker.example", "robot-1", ca_file=missing)
    missing.write_text("nothing")
    with pytest.raises(LinkError, match=r"ca\.pem: not a file of certificates \(.*\); check --ca"):
        MqttLink("mqtts://broker.example", "robot-1", ca_file=missing)


@pytest.mark.parametrize("client_id", ["a/+", "#", "a\0"])
def test_client_id_that_could_change_a_topic(client_id: str) -> None:
    with pytest.raises(LinkError, match="cannot publish on topic"):
        MqttLink("mqtt://localhost", client_id)
