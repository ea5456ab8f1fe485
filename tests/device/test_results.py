"""What a result says, and which of the two answers stands."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ecc_device
from ecc_device.results import WHY, Answer, Result, choose, make_answer

EDGE_LABELS = ("a", "b", "c")
CLOUD_LABELS = ("a", "b", "c", "d")


def result(cloud: Answer | None = None, stands: str = "edge") -> Result:
    return Result(
        frame=3,
        time_s=0.3,
        edge=make_answer([1.0, 2.0, 0.5], EDGE_LABELS, 1.0),
        cloud=cloud,
        stands=stands,
        why="cloud answered" if cloud else "confident",
        score=0.7,
        threshold=0.5,
        row=9,
        bytes_sent=20,
        bytes_received=30,
        model_no=2,
        latency_s=0.01,
    )


def test_an_answer_is_the_softmax_of_its_logits_at_a_temperature() -> None:
    answer = make_answer([2.0, 0.0, 0.0], EDGE_LABELS, 2.0)
    expected = np.exp([1.0, 0.0, 0.0]) / np.exp([1.0, 0.0, 0.0]).sum()
    assert answer.label == "a"
    assert answer.probabilities == pytest.approx(expected, rel=1e-12)
    assert answer.probability == answer.probabilities[0]
    assert answer.entropy == pytest.approx(-(expected * np.log(expected)).sum() / np.log(3), rel=1e-12)


def test_the_first_of_equal_probabilities_is_named() -> None:
    answer = make_answer([0.0, 5.0, 5.0], EDGE_LABELS, 1.0)
    assert (answer.label, answer.probability) == ("b", answer.probabilities[2])


def test_a_class_that_only_the_cloud_has_stands_however_unsure_the_cloud_is() -> None:
    edge = make_answer([50.0, 0.0, 0.0], EDGE_LABELS, 1.0)
    cloud = make_answer([0.0, 0.0, 0.0, 0.1], CLOUD_LABELS, 1.0)
    assert cloud.entropy > edge.entropy
    assert choose(edge, cloud) == ("cloud", "cloud answered")


@pytest.mark.parametrize(
    ("sharpness", "expected"),
    [(3.0, ("cloud", "cloud answered")), (0.5, ("edge", "cloud less sure"))],
)
def test_a_class_of_both_stands_as_the_surer_side_says(sharpness: float, expected: tuple[str, str]) -> None:
    edge = make_answer([0.0, 1.5, 0.0], EDGE_LABELS, 1.0)
    cloud = make_answer([sharpness, 0.0, 0.0, 0.0], CLOUD_LABELS, 1.0)
    assert choose(edge, cloud) == expected


def test_equally_sure_sides_leave_the_clouds_answer() -> None:
    edge = make_answer([0.0, 1.5, 0.0], EDGE_LABELS, 1.0)
    assert choose(edge, replace(edge, label="a")) == ("cloud", "cloud answered")


LOGITS = st.floats(-30, 30)


@given(st.lists(LOGITS, min_size=3, max_size=3), st.lists(LOGITS, min_size=4, max_size=4))
def test_the_rule_holds_for_any_two_answers(edge_logits: list[float], cloud_logits: list[float]) -> None:
    edge, cloud = make_answer(edge_logits, EDGE_LABELS, 1.0), make_answer(cloud_logits, CLOUD_LABELS, 1.0)
    side, why = choose(edge, cloud)
    assert (side == "edge") == (cloud.label in EDGE_LABELS and cloud.entropy > edge.entropy)
    assert why in WHY


def test_a_result_speaks_for_the_answer_that_stands() -> None:
    cloud = make_answer([0.0, 0.0, 0.0, 4.0], CLOUD_LABELS, 1.0)
    edge_stands, cloud_stands = result(cloud), result(cloud, "cloud")
    assert (edge_stands.label, edge_stands.answer, len(edge_stands.probabilities)) == ("b", edge_stands.edge, 3)
    assert (cloud_stands.label, cloud_stands.answer, cloud_stands.entropy) == ("d", cloud, cloud.entropy)
    assert cloud_stands.probabilities == cloud.probabilities
    assert edge_stands.ambiguous
    assert not replace(edge_stands, threshold=0.7).ambiguous, "a score at the threshold is sure enough"


def test_measured_time_is_neither_compared_nor_recorded() -> None:
    one, other = result(), replace(result(), latency_s=9.0)
    assert one == other
    assert one.to_record() == other.to_record()


def test_a_record_does_not_depend_on_what_the_buffer_held_before() -> None:
    """Row numbers go on from run to run, and a larger number takes more bytes on the wire."""
    other = replace(result(), row=70_000, bytes_sent=24, bytes_received=34)
    assert other.to_record() == result().to_record()
    assert replace(result(), bytes_sent=0).to_record()["uploaded"] is False


def test_a_record_survives_json_to_the_last_bit() -> None:
    cloud = make_answer([0.1, 0.2, 0.3, 0.7], CLOUD_LABELS, 1.0)
    record = result(cloud, "cloud").to_record()
    assert json.loads(json.dumps(record)) == record
    assert record["cloud"] == {"label": "d", "entropy": cloud.entropy, "probabilities": list(cloud.probabilities)}
    assert (record["stands"], record["label"], record["uploaded"], record["model_no"]) == ("cloud", "d", True, 2)
    assert result().to_record()["cloud"] is None


def test_every_reason_in_the_code_is_in_the_table() -> None:
    found = set()
    for name in ("runtime.py", "offload.py"):
        tree = ast.parse((Path(ecc_device.__file__).parent / name).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "why":
                found |= {part.value for part in ast.walk(node.value) if isinstance(part, ast.Constant)}
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "_not_stored":
                found.add(node.args[1].value)
    assert {"offline", "buffer-too-small", "deadline", "disk-full", "disk-error"} <= found
    assert found - {""} <= set(WHY)
