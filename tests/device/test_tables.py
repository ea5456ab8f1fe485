"""What `ecc-device` prints for people."""

from __future__ import annotations

from typing import Any

import pytest

from ecc_device import tables

NOW_S = 1_795_335_294.0
LAST = {
    "accepted": True,
    "reason": "held-out rows 22% -> 73%",
    "no": 3,
    "seconds": 9.0,
    "figures": {"candidates": [{"learner": "analytic", "reason": "better"}], "threshold": [0.1, 0.2]},
    "shadow": 100,
}


def printed(facts: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[str]:
    tables.print_status(facts, NOW_S)
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_status_is_told_in_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    facts = {
        "connected": True,
        "budget": None,
        "link": {},
        "update": {"running": False, "progress_percent": None, "shadow": None, "last": LAST},
        "counts": {"sent": 3},
    }
    assert printed(facts, capsys) == [
        "connected yes",
        "budget none",
        "link errors none",
        "update running no",
        "update progress_percent none",
        "update shadow none",
        "update last model 3 takes over after 100 frames in the shadow:",
        "held-out rows 22% -> 73%",
        "counts sent 3",
    ]


@pytest.mark.parametrize(
    ("stamp_s", "text"),
    [
        (NOW_S - 59.4, "59 s ago"),
        (NOW_S - 60.0, "1 min ago"),
        (NOW_S - 3599.0, "59 min ago"),
        (NOW_S - 7300.0, "2 h ago"),
        (NOW_S - 3 * 86400.0, "3 d ago"),
        (NOW_S + 5.0, "0 s ago"),
        (0.4, "at 0.4 s of a recording"),
        (None, "none"),
    ],
)
def test_the_oldest_row_is_told_by_its_age(
    stamp_s: float | None, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed({"oldest_s": stamp_s}, capsys) == [f"oldest row {text}"]


def test_a_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    models = [
        {"no": 1, "state": "previous", "parent": None, "reason": "factory model"},
        {"no": 2, "state": "candidate", "parent": 1, "reason": "better"},
    ]
    assert printed({"models": models}, capsys) == [
        "model 1 was active: factory model",
        "model 2 in its shadow run, from model 1: better",
    ]


def test_long_values_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert "".join(printed({"features_id": "ab" * 60}, capsys)).removeprefix("features_id ") == "ab" * 60
