"""Noticing another client with our id."""

from __future__ import annotations

import pytest

from ecc_broker.link import Message
from ecc_broker.takeover import LIMIT, WITHIN_S, TakeoverGuard


@pytest.fixture
def guard() -> TakeoverGuard:
    return TakeoverGuard("robot-1")


def heard(guard: TakeoverGuard, payload: bytes, now: float, retained: bool = True) -> str | None:
    return guard.heard(Message(guard.topic, payload, retained), now)


def test_claim_of_an_earlier_life_means_nothing(guard: TakeoverGuard) -> None:
    assert guard.topic == "ecc/1/clients/robot-1"
    assert [heard(guard, b"earlier!", now=float(i)) for i in range(10)] == [None] * 10


def test_three_foreign_claims_within_a_minute_are_a_problem(guard: TakeoverGuard) -> None:
    heard(guard, guard.claim, 0.0, retained=False)
    assert [heard(guard, b"another!", now) for now in (1.0, 2.0)] == [None, None]
    assert heard(guard, b"another!", 3.0) == (
        "another client with the id 'robot-1' took over the connection 3 times within a minute; "
        "give each device its own name (next try in 60 s)"
    )
    assert heard(guard, b"another!", 4.0) is None, "the count starts again after the pause"


def test_foreign_claims_now_and_then_are_no_problem(guard: TakeoverGuard) -> None:
    heard(guard, guard.claim, 0.0, retained=False)
    step = WITHIN_S / (LIMIT - 1) + 1
    assert [heard(guard, b"another!", i * step) for i in range(20)] == [None] * 20


def test_own_and_empty_claims_are_no_problem(guard: TakeoverGuard) -> None:
    heard(guard, guard.claim, 0.0, retained=False)
    for i in range(10):
        assert heard(guard, guard.claim, float(i)) is None
        assert heard(guard, b"", float(i)) is None


def test_claims_differ_from_link_to_link() -> None:
    assert TakeoverGuard("robot-1").claim != TakeoverGuard("robot-1").claim
