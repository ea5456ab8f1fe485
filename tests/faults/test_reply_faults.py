"""Answers that come late, twice, in any order, as refusals or as nonsense: cases 7, 8, 9, 15, 24 and 29.

The worker is a scripted one over a real Mosquitto, the device a real process.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from commands import Robot, assert_invariants, eventually

from ecc_broker import topics
from ecc_broker.codec import decode_logits
from ecc_broker.messages import Reply, encode
from ecc_model.modelfile import labels_id
from support.brokers import BrokerProcess
from support.models import DIGITS
from support.workers import Request, ScriptedWorker, answer, refusal, silent, sure

Recording = Callable[..., Path]
StartWorker = Callable[..., ScriptedWorker]


def labels_of(robot: Robot) -> dict[int, str]:
    """Row -> what the cloud called it, of all rows with an answer."""
    found = {}
    with robot.store() as store:
        for row in robot.rows("labelled"):
            kept = store.row(row)
            assert kept is not None
            assert kept.logits is not None
            found[row] = DIGITS[int(decode_logits(kept.logits).argmax())]
    return found


def test_answers_after_the_deadline_are_stored_and_change_no_result(
    mosquitto: BrokerProcess, recording: Recording, robot: Robot, worker: StartWorker
) -> None:
    slow = worker(silent)
    robot.start(recording(10), "--broker", mosquitto.url, "--deadline-ms", "20")
    asked = slow.wait_for(10)
    robot.run.wait_output(10)
    printed = list(robot.run.output)
    assert {(result["why"], result["stands"], result["cloud"]) for result in robot.results} == {
        ("deadline", "edge", None)
    }
    assert robot.count("late") == 0
    slow.reply(*[answer(request.id) for request in asked])
    robot.wait_count("late", 10)
    assert robot.run.end() == 0
    assert robot.run.output == printed
    assert labels_of(robot) == dict.fromkeys(range(1, 11), "7")
    assert_invariants(robot, {})


def test_fifty_answers_in_any_order_find_their_rows(
    mosquitto: BrokerProcess, recording: Recording, robot: Robot, worker: StartWorker
) -> None:
    shuffled = worker(silent)
    robot.start(recording(50), "--broker", mosquitto.url, "--deadline-ms", "0")
    asked = [request.id for request in shuffled.wait_for(50)]
    assert sorted(asked) == list(range(1, 51))
    random.Random(8).shuffle(asked)
    shuffled.reply(*[answer(row, label=row % 10) for row in asked])
    robot.wait_count("answered", 50)
    assert robot.run.end() == 0
    assert labels_of(robot) == {row: DIGITS[row % 10] for row in range(1, 51)}
    assert_invariants(robot, {})


def test_an_answer_counts_once_however_often_it_comes(
    mosquitto: BrokerProcess, recording: Recording, robot: Robot, worker: StartWorker
) -> None:
    """Three times at once, with another content again after a restart, and to rows that never were."""
    tripled = worker(lambda request: 3 * [answer(request.id)])
    robot.start(recording(10), "--broker", mosquitto.url)
    robot.wait_count("answers-duplicate", 20)
    assert robot.run.end() == 0
    robot.start(recording(1), "--broker", mosquitto.url)
    robot.wait_count("answers-duplicate", 22)
    tripled.reply(*[answer(row, label=3) for row in (*range(1, 12), 500, 2**62)])
    robot.wait_count("answers-unknown", 2)
    counts = robot.status()["counts"]
    assert robot.run.end() == 0
    wanted = {"answered": 11, "answers-duplicate": 33, "answers-unknown": 2, "sent": 11}
    assert {name: counts[name] for name in wanted} == wanted
    assert labels_of(robot) == dict.fromkeys(range(1, 12), "7")
    assert_invariants(robot, {})


def test_a_refusal_is_told_from_silence_by_its_reason(
    mosquitto: BrokerProcess, recording: Recording, robot: Robot, worker: StartWorker
) -> None:
    reasons = {2: "busy", 3: "expired", 4: "bad-request"}

    def script(request: Request) -> Iterable[Reply | bytes]:
        if request.id in reasons:
            return [refusal(request.id, reasons[request.id], "for a test")]
        return [] if request.id == 5 else sure(request)

    worker(script)
    robot.start(recording(6), "--broker", mosquitto.url, "--deadline-ms", "1500")
    robot.run.wait_output(6)
    status = robot.status()
    assert robot.run.end() == 0
    whys = [result["why"] for result in robot.results]
    assert whys == ["cloud answered", "refused", "refused", "refused", "deadline", "cloud answered"]
    refused = {name: n for name, n in status["counts"].items() if name.startswith("refused-")}
    assert refused == {"refused-busy": 1, "refused-expired": 1, "refused-bad-request": 1}
    assert robot.rows() == {1: "labelled", **dict.fromkeys(range(2, 6), "waiting"), 6: "labelled"}
    assert_invariants(robot, {})


def raw(row: int, values: list[float] | bytes, names: bytes = labels_id(DIGITS)) -> bytes:
    """A reply as a careless program would pack it: nothing is checked."""
    logits = values if isinstance(values, bytes) else np.array(values, "<f4").tobytes()
    head = b"\x93" + b"\xcf" + row.to_bytes(8, "big") + b"\xc4\x04" + names
    return head + b"\xc5" + len(logits).to_bytes(2, "big") + logits


NONSENSE: dict[str, Callable[[int], bytes]] = {
    "NaN": lambda row: raw(row, [*9 * [0.0], np.nan]),
    "all NaN": lambda row: raw(row, 10 * [np.nan]),
    "infinite": lambda row: raw(row, [np.inf, *9 * [0.0]]),
    "minus infinite": lambda row: raw(row, [-np.inf, *9 * [0.0]]),
    "1e30": lambda row: raw(row, 10 * [1e30]),
    "nine for ten labels": lambda row: raw(row, 9 * [1.0]),
    "eleven for ten labels": lambda row: raw(row, 11 * [1.0]),
    "none": lambda row: raw(row, b""),
    "half a number": lambda row: raw(row, bytes(39)),
    "names that nobody announced": lambda row: raw(row, 10 * [1.0], names=b"none"),
    "nothing": lambda _: b"",
    "text": lambda _: b"sorry, out of order",
    "half a reply": lambda row: encode(answer(row))[:-7],
    "too long": lambda row: encode(answer(row)) + bytes(20_000),
}


def test_nonsense_is_counted_said_once_and_never_used(
    mosquitto: BrokerProcess, recording: Recording, robot: Robot, worker: StartWorker
) -> None:
    kinds = list(NONSENSE.values())
    broken = worker(lambda request: [kinds[request.id - 1](request.id)])
    robot.start(recording(len(kinds)), "--broker", mosquitto.url, "--deadline-ms", "20")
    robot.wait_count("bad-reply", len(kinds))
    robot.run.wait_output(len(kinds))
    assert list(robot.status()["health"]) == ["worker"]
    assert {result["why"] for result in robot.results} == {"deadline"}
    assert robot.rows("waiting") == robot.rows()
    assert robot.run.end() == 0

    broken.script = sure  # it is mended: every row gets its answer
    robot.start(recording(1), "--broker", mosquitto.url)
    robot.wait_count("answered", len(kinds) + 1)
    assert robot.status()["health"] == {}
    assert robot.run.end() == 0
    assert robot.count_kept("bad-reply") == len(kinds)
    assert_invariants(robot, {r"worker: not a valid Reply: .*; check the worker, its answers are not used": 1})


@pytest.mark.parametrize("name", ["reply", "labels", "command"])
def test_damaged_messages_to_the_device_are_said_once_and_it_goes_on(
    mosquitto: BrokerProcess, stream: Path, robot: Robot, worker: StartWorker, name: str
) -> None:
    """Cut at every byte, one byte flipped, too long: each is taken for valid or refused, and nothing else happens."""
    hostile = worker(sure)
    good = {"reply": encode(answer(2**62)), "labels": b"", "command": b"\x91\xa8charging"}[name]
    robot.start(stream, "--broker", mosquitto.url)
    robot.wait_count("answered", 5)
    chance = random.Random(24)
    payloads = [good[:length] for length in range(len(good))]
    payloads += [chance.randbytes(chance.randrange(1, 60)) for _ in range(200)]
    payloads += [chance.randbytes(topics.BY_NAME[name].max_bytes + 1)]
    for payload in payloads:
        hostile.publish(name, payload, device=None if name == "labels" else "device")
    hostile.announce()
    hostile.publish("reply", encode(answer(2**62)))
    eventually(lambda: robot.count("answers-unknown") == 1, "all of them")
    robot.wait_results(5)
    answered = robot.count("answered")
    robot.wait_count("answered", answered + 5)
    if name != "command":
        assert robot.count("bad-" + name) == len(payloads)
    assert robot.run.end() == 0
    ends = {
        "reply": "check the worker, its answers are not used",
        "labels": "check who publishes on ecc/1/default/cloud/labels",
        "command": "check who publishes on ecc/1/default/device/command",
    }
    kind = name.capitalize()
    line = rf"{'command' if name == 'command' else 'worker'}: not a valid {kind}: .*; {re.escape(ends[name])}"
    assert_invariants(robot, {line: 1})
