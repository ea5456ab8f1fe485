"""Events by name, and what is wrong said once."""

from __future__ import annotations

import logging
import threading

import pytest

from ecc_broker import messages
from ecc_device.events import EVENTS, Health, check_event
from ecc_model.errors import DeviceError


def test_events_are_those_that_an_operator_can_send() -> None:
    assert list(EVENTS) == ["charging", "undocked", "offline", "online"]
    for event in EVENTS:
        assert check_event(event) == event
        command = messages.Command(event)  # type: ignore[arg-type]
        assert messages.decode(messages.Command, messages.encode(command)) == command


@pytest.mark.parametrize("name", ["", "Charging", "charging ", "docked"])
def test_another_event_lists_those_that_exist(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        check_event(name)
    assert str(caught.value) == f"'{name}' is not an event; a device knows: charging, undocked, offline, online"


def test_a_long_event_does_not_fill_the_error() -> None:
    with pytest.raises(DeviceError, match=r"^'x{40}' is not an event; "):
        check_event("x" * 1000)


def test_a_cause_is_said_once_until_it_is_cleared(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    heard: list[tuple[str, str]] = []
    health.on_event(lambda cause, detail: heard.append((cause, detail)))
    assert health.say("offline", "no broker")
    assert not health.say("offline", "no broker")
    health.clear("offline")
    assert health.say("offline", "gone again")
    assert heard == [("offline", "no broker"), ("offline", "gone again")]
    assert caplog.record_tuples == [
        ("ecc_device", logging.WARNING, "offline: no broker"),
        ("ecc_device", logging.WARNING, "offline: gone again"),
    ]


def test_current_is_what_stands_with_its_newest_detail() -> None:
    health = Health()
    health.say("disk", "full")
    health.say("offline", "no broker")
    health.say("disk", "I/O error")
    assert list(health.current().items()) == [("disk", "I/O error"), ("offline", "no broker")]
    health.clear("disk")
    health.clear("disk")
    assert health.current() == {"offline": "no broker"}


def test_current_is_a_copy() -> None:
    health = Health()
    health.current()["offline"] = "no"
    assert health.current() == {}


def test_a_listener_may_ask_and_clear() -> None:
    health = Health()
    seen: list[dict[str, str]] = []

    def listener(cause: str, detail: str) -> None:
        seen.append(health.current())
        health.clear(cause)

    health.on_event(listener)
    assert health.say("disk", "full")
    assert health.say("disk", "full")
    assert seen == [{"disk": "full"}, {"disk": "full"}]


def test_many_threads_say_it_once() -> None:
    health = Health()
    heard: list[str] = []
    health.on_event(lambda cause, _: heard.append(cause))
    together = threading.Barrier(8)

    def say() -> None:
        together.wait(10)
        health.say("disk", "full")

    threads = [threading.Thread(target=say) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert heard == ["disk"]
