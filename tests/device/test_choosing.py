"""Which encoder a question goes by: the rules, each at its limits, and what holds whatever the moment is like."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecc_device.choosing import WHY, Choice, Circumstances, choose

EASY = Circumstances()
SHARES = st.floats(0.0, 1.0)
MOMENTS = st.builds(Circumstances, SHARES, SHARES, SHARES, SHARES)
COUNTS = st.integers(1, 8)
BETTER = {"late": -1, "slow": -1, "battery": 1, "budget": 1}  # which way it gets better


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("late", [0.0, 0.15, 0.2, 0.3, 0.35, 0.5, 1.0]),
        ("slow", [0.5, 0.66, 0.67, 0.83, 0.84, 1.0, 1.0]),
        ("battery", [0.5, 0.41, 0.39, 0.31, 0.29, 0.2, 0.0]),
        ("budget", [0.75, 0.6, 0.57, 0.43, 0.4, 0.25, 0.0]),
    ],
)
def test_each_circumstance_asks_for_shorter_codes_by_itself(name: str, values: list[float]) -> None:
    found = [choose(3, replace(EASY, **{name: value})) for value in values]
    assert found == [Choice(0, ""), Choice(0, ""), *[Choice(1, name)] * 2, *[Choice(2, name)] * 3]


def test_the_one_that_asks_for_most_decides() -> None:
    assert choose(3, replace(EASY, late=0.25, battery=0.1)) == Choice(2, "battery")
    assert choose(3, replace(EASY, late=0.25, battery=0.45)) == Choice(1, "late")


@given(COUNTS)
def test_an_easy_moment_takes_the_longest_code_and_a_hard_one_the_shortest(count: int) -> None:
    assert choose(count, EASY) == Choice(0, "")
    for name, way in BETTER.items():
        hard = replace(EASY, **{name: 1.0 if way < 0 else 0.0})
        assert choose(count, hard) == Choice(count - 1, name if count > 1 else "")


@given(MOMENTS)
def test_one_encoder_is_no_choice(now: Circumstances) -> None:
    assert choose(1, now) == Choice(0, "")


@given(COUNTS, MOMENTS, MOMENTS)
def test_a_moment_that_is_worse_in_all_never_takes_more_bytes(
    count: int, now: Circumstances, other: Circumstances
) -> None:
    pairs = {name: sorted((getattr(now, name), getattr(other, name)), reverse=way > 0) for name, way in BETTER.items()}
    better = Circumstances(**{name: pair[0] for name, pair in pairs.items()})
    worse = Circumstances(**{name: pair[1] for name, pair in pairs.items()})
    assert choose(count, better).encoder <= choose(count, worse).encoder


@given(COUNTS, MOMENTS)
def test_a_choice_is_one_of_the_encoders_and_says_why(count: int, now: Circumstances) -> None:
    encoder, why = choose(count, now)
    assert 0 <= encoder < count
    assert (why in WHY) == (encoder > 0)
    assert {field.name for field in fields(Circumstances)} == WHY.keys() - {"asked for"}
