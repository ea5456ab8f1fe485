"""What a link took and has not delivered: each message leaves acknowledged or counted."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from ecc_broker.link import DEFAULT_WINDOW
from ecc_broker.outbox import MAX_ATTEMPTS, Outbox, Outgoing


def message(payload: bytes, expires: float | None = None) -> Outgoing:
    return Outgoing("a/b", payload, 1, False, expires)


@pytest.fixture
def outbox() -> Outbox:
    box = Outbox(Counter())
    box.open = True
    return box


def send(outbox: Outbox) -> list[bytes]:
    """Send all that waits, numbered by its payload."""
    sent = []
    while (outgoing := outbox.next()) is not None:
        outbox.sent(outgoing.payload[0], outgoing)
        sent.append(outgoing.payload)
    return sent


def test_closed_or_full_takes_nothing(outbox: Outbox) -> None:
    outbox.open = False
    assert not outbox.put(message(b"x"))
    outbox.open = True
    assert [outbox.put(message(bytes([i]))) for i in range(DEFAULT_WINDOW + 1)] == [True] * DEFAULT_WINDOW + [False]
    assert len(send(outbox)) == DEFAULT_WINDOW
    assert not outbox.put(message(b"x")), "sent but not acknowledged still fills the window"
    outbox.acknowledged(0, "")
    assert outbox.put(message(b"x"))


def test_lost_connection_brings_everything_back_in_order(outbox: Outbox) -> None:
    for payload in (b"1", b"2", b"3"):
        outbox.put(message(payload))
    assert send(outbox) == [b"1", b"2", b"3"]
    outbox.acknowledged(b"2"[0], "")
    outbox.put(message(b"4"))

    outbox.connection_lost()

    assert send(outbox) == [b"1", b"3", b"4"]


def test_message_that_breaks_every_connection_is_given_up(outbox: Outbox) -> None:
    counts: Counter[str] = Counter()
    outbox = Outbox(counts)
    outbox.open = True
    outbox.put(message(b"poison"))

    for _ in range(MAX_ATTEMPTS):
        assert send(outbox) == [b"poison"]
        outbox.connection_lost()

    assert send(outbox) == []
    assert counts == {"undelivered": 1}
    assert len(outbox) == 0


def test_message_past_its_expiry_is_given_up() -> None:
    counts: Counter[str] = Counter()
    outbox = Outbox(counts)
    outbox.open = True
    outbox.put(message(b"old", expires=time.monotonic() - 1))
    outbox.put(message(b"new", expires=time.monotonic() + 60))

    assert send(outbox) == [b"new"]
    assert counts == {"expired": 1}


def test_refusal_of_the_broker_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    counts: Counter[str] = Counter()
    outbox = Outbox(counts)
    outbox.open = True
    outbox.put(message(b"1"))
    send(outbox)

    outbox.acknowledged(b"1"[0], "Not authorized")

    assert counts == {"refused": 1}
    assert "message on a/b given up: refused by the broker (Not authorized)" in caplog.messages
    assert len(outbox) == 0


def test_acknowledgement_of_nothing_is_ignored(outbox: Outbox) -> None:
    outbox.acknowledged(99, "Not authorized")
    assert len(outbox) == 0


def test_what_is_left_at_the_end_is_counted() -> None:
    counts: Counter[str] = Counter()
    outbox = Outbox(counts)
    outbox.open = True
    outbox.put(message(b"1"))
    send(outbox)
    outbox.put(message(b"2"))

    outbox.give_up_all()

    assert counts == {"undelivered": 2}
    assert not outbox.put(message(b"3"))
