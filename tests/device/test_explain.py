"""Why a frame was answered as it was, in words and as facts."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from ecc_device.budget import Spending
from ecc_device.explain import Explanation
from ecc_device.results import WHY, Answer, Result, make_answer
from ecc_device.tickets import Forecast

EDGE = make_answer([1.0, 2.0, 0.5], ("a", "b", "c"), 1.0)
CLOUD = make_answer([0.0, 0.0, 0.0, 8.0], ("a", "b", "c", "d"), 1.0)
RESULT = Result(
    frame=17,
    time_s=1.7,
    edge=EDGE,
    cloud=CLOUD,
    stands="cloud",
    why="cloud answered",
    score=0.75,
    threshold=0.5,
    row=9,
    bytes_sent=29,
    bytes_received=48,
    model_no=2,
    latency_s=0.0132,
    camera="front",
    steps=2,
    budget=Spending("5%", True, 0.625, 12.0, 0.4, ()),
    forecast=Forecast(20, 3, 0.012),
)


def test_the_text_says_everything_that_was_decided() -> None:
    assert str(RESULT.explain()).splitlines() == [
        "frame   17, camera front: d (cloud)",
        "why     cloud answered: the frame was ambiguous and the cloud's answer came in time",
        f"edge    b, {EDGE.probability:.1%} sure, entropy {EDGE.entropy:.4f}",
        f"cloud   d, {CLOUD.probability:.1%} sure, entropy {CLOUD.entropy:.4f}",
        "score   entropy 0.7500, above the threshold 0.5000: ambiguous",
        "budget  5%: scores above 0.6250 go up; 12 requests in the last 1,000 frames, 40% of the reserve left",
        "link    an answer takes about 12.0 ms; of the last 20 questions 3 had none in time",
        "cost    29 bytes up, 48 down, 2 time steps, model 2, 13.2 ms",
    ]


def test_what_does_not_apply_is_left_out() -> None:
    alone = replace(
        RESULT, cloud=None, stands="edge", why="confident", score=0.2, camera="", budget=None, forecast=None
    )
    assert str(alone.explain()).splitlines() == [
        "frame   17: b (edge)",
        "why     confident: the edge was sure enough",
        f"edge    b, {EDGE.probability:.1%} sure, entropy {EDGE.entropy:.4f}",
        "cloud   no answer",
        "score   entropy 0.2000, not above the threshold 0.5000: sure",
        "cost    29 bytes up, 48 down, 2 time steps, model 2, 13.2 ms",
    ]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"budget": Spending("2MB/h", False, None, 2e6, 0.0, ())},
            "budget  2MB/h: used up; 2000000 bytes in the last hour",
        ),
        ({"forecast": Forecast(0, 0, None)}, "link    nothing was asked before"),
        ({"forecast": Forecast(4, 4, None)}, "link    of the last 4 questions 4 had none in time"),
        ({"edge": Answer("", (), (), 1.0), "stands": "edge"}, "frame   17, camera front: no label (edge)"),
        ({"edge": Answer("", (), (), 1.0)}, "edge    no answer"),
        ({"encoder": "64-bytes"}, "encoder 64-bytes"),
        ({"encoder": "32-bytes", "encoder_why": "late"}, "encoder 32-bytes: answers did not come in time"),
        ({"bytes_sent": 52, "bytes_later": 23}, "cost    52 bytes up (23 of them in a second request), 48 down"),
    ],
)
def test_the_text_in_other_cases(change: dict[str, object], line: str) -> None:
    lines = str(replace(RESULT, **change).explain()).splitlines()
    assert any(said.startswith(line) for said in lines), lines


def test_the_facts_are_json_and_give_the_text_again() -> None:
    told = RESULT.explain()
    facts = json.loads(json.dumps(told.facts))
    assert facts == told.facts
    assert str(Explanation(facts)) == str(told)
    assert facts == RESULT.to_record() | {
        "filter": "entropy",
        "row": 9,
        "bytes_sent": 29,
        "bytes_received": 48,
        "bytes_later": 0,
        "encoder": "",
        "encoder_why": "",
        "latency_s": 0.0132,
        "reason": WHY["cloud answered"],
        "forecast": {"asked": 20, "late": 3, "answer_s": 0.012},
    }
