"""The conversation with the workers: late, double, shuffled, wrong and refused answers, over an in-memory link."""

from __future__ import annotations

import dataclasses
import logging
import queue
import random
import threading
from collections.abc import Callable
from contextlib import closing

import msgspec
import numpy as np
import psutil
import pytest

from ecc_broker import codec, topics
from ecc_broker.link import ConnectionListener
from ecc_broker.memory import MemoryLink
from ecc_broker.messages import FeaturesRequest, FrameRequest, Labels, Reply, encode
from ecc_device import offload
from ecc_device.clock import VirtualClock
from ecc_device.device import Device, DeviceConfig
from ecc_device.results import Result
from ecc_model import bits
from ecc_model.errors import StoreError, StoreFull
from ecc_model.frames import fit
from ecc_model.modelfile import labels_id
from support.models import DIGITS
from support.workers import (
    PATIENCE_S,
    Request,
    ScriptedWorker,
    World,
    answer,
    frames,
    logits,
    refusal,
    row_of,
    silent,
    sure,
)

FRAME = frames(1)[0]
NOW = 0.0  # a deadline that leaves no time: the frame's answer is late however fast it comes


def rows_asked(world: World) -> list[int]:
    return [request.id for request in world.worker.received]


def outcome(result: Result) -> tuple[str, str, str]:
    return result.stands, result.why, result.label


# ---- answers ----


def test_an_answer_in_time_stands_and_is_stored(world: World) -> None:
    device = world.device()
    result = device.runtime.classify(FRAME)
    request = world.worker.received[0]
    assert outcome(result) == ("cloud", "cloud answered", "7")
    assert result.bytes_sent == len(encode(request))
    assert result.bytes_received == len(encode(answer(result.row)))
    row = row_of(device, result.row)
    assert (row.state, row.logits, row.labels_id) == ("labelled", logits(7), labels_id(DIGITS))
    assert (row.edge_label, row.sent, row.features_id) == (result.edge.label, 1, world.features)
    assert device.store.labels(labels_id(DIGITS)) == DIGITS
    assert device.store.counts() == {"answered": 1, "sent": 1}


def test_the_request_carries_the_encoded_spikes_and_the_deadline(world: World) -> None:
    device = world.device(deadline_s=20.0)
    result = device.runtime.classify(FRAME)
    request = world.worker.received[0]
    assert isinstance(request, FeaturesRequest)
    engine = device.runtime.engine
    spikes = codec.decode_spikes(request.spikes, engine.program.code_shape)
    split = engine.head(FRAME.pixels)
    np.testing.assert_array_equal(spikes, engine.encode(split))
    assert bits.pack(split) == row_of(device, result.row).bits
    assert (request.id, request.features_id, request.steps) == (result.row, world.features[:4], 2)
    assert 19_000 < request.budget_ms <= 20_000


def test_a_less_sure_answer_is_stored_and_the_edge_stands(world: World) -> None:
    device = world.device()
    edge = device.runtime.classify(FRAME).edge
    world.worker.script = lambda request: [answer(request.id, int(edge.label), 1e-3)]
    result = device.runtime.classify(FRAME)
    assert outcome(result) == ("edge", "cloud less sure", edge.label)
    assert result.cloud is not None
    assert row_of(device, result.row).state == "labelled"


def test_a_late_answer_is_stored_and_corrects_the_result(world: World) -> None:
    world.worker.script = silent
    device = world.device()
    corrections: queue.Queue[Result] = queue.Queue()
    device.runtime.on_result(corrections.put)
    first = device.runtime.classify(FRAME, NOW)
    assert outcome(first) == ("edge", "deadline", first.edge.label)
    world.worker.wait_for(1)
    world.worker.reply(answer(first.row))
    corrected = corrections.get(timeout=PATIENCE_S)
    assert outcome(corrected) == ("cloud", "cloud answered", "7")
    received = len(encode(answer(first.row)))
    assert corrected == dataclasses.replace(
        first, stands="cloud", why="cloud answered", cloud=corrected.cloud, bytes_received=received
    )
    assert corrected.latency_s == first.latency_s
    assert row_of(device, first.row).state == "labelled"
    assert device.store.counts() == {"answered": 1, "late": 1, "sent": 1}


def test_an_answer_that_comes_twice_counts_once(world: World) -> None:
    world.worker.script = lambda request: [answer(request.id), answer(request.id), answer(request.id, 8)]
    device = world.device()
    corrections: list[Result] = []
    device.runtime.on_result(corrections.append)
    result = device.runtime.classify(FRAME)
    world.settle(device)
    assert outcome(result) == ("cloud", "cloud answered", "7")
    assert row_of(device, result.row).logits == logits(7), "the first answer stays"
    assert device.store.counts() == {"answered": 1, "answers-duplicate": 2, "sent": 1}
    assert corrections == []


def test_fifty_answers_out_of_order_find_their_frames(world: World) -> None:
    world.worker.script = silent
    device = world.device()
    corrections: queue.Queue[Result] = queue.Queue()
    device.runtime.on_result(corrections.put)
    results = []
    for count, frame in enumerate(frames(50), 1):
        results.append(device.runtime.classify(frame, NOW))
        world.worker.wait_for(count)
    labels = {result.row: result.frame % 10 for result in results}
    shuffled = list(labels)
    random.Random(1).shuffle(shuffled)
    assert shuffled != sorted(shuffled)
    world.worker.reply(*(answer(row, labels[row], 30.0) for row in shuffled))
    corrected = [corrections.get(timeout=PATIENCE_S) for _ in shuffled]
    assert [result.row for result in corrected] == shuffled
    for result in corrected:
        assert result.cloud is not None
        assert result.cloud.label == str(result.frame % 10)
        assert row_of(device, result.row).logits == logits(labels[result.row], 30.0)
    assert len(set(rows_asked(world))) == 50
    assert device.store.counts() == {"answered": 50, "late": 50, "sent": 50}


def test_an_answer_that_the_broker_kept_from_some_earlier_day_is_not_used(world: World) -> None:
    world.worker.script = silent
    device = world.device()
    result = device.runtime.classify(FRAME, NOW)
    world.worker.wait_for(1)  # else the broker may take the request with it, and only the second one arrives
    world.broker.stop()
    world.broker.start()
    world.worker.wait_for(2)
    device.close()
    world.worker.publish("reply", encode(answer(result.row)), retain=True)
    again = world.device()
    assert row_of(again, result.row).state == "waiting"
    assert again.store.counts()["bad-reply"] == 1


def test_an_answer_to_a_row_that_nobody_was_asked_about_is_not_used(world: World) -> None:
    device = world.device()
    world.worker.announce([OTHERS])
    world.settle(device)
    result = device.runtime.classify(FRAME)
    assert result.why == "incompatible"
    world.worker.reply(answer(result.row))
    world.settle(device)
    assert row_of(device, result.row).state == "waiting"
    assert device.store.counts() == {"answers-unknown": 1}


def test_an_answer_to_nobody_is_counted_and_changes_nothing(world: World) -> None:
    device = world.device()
    result = device.runtime.classify(FRAME)
    world.worker.reply(answer(10**6), answer(2**63 - 1))
    world.settle(device)
    assert device.store.counts() == {"answered": 1, "answers-unknown": 2, "sent": 1}
    assert device.store.summary().rows == {"waiting": 0, "labelled": 1, "learnt": 0}
    assert row_of(device, result.row).logits == logits(7)


def flood(world: World, device: Device, first: int, count: int) -> int:
    """Answers to ids that were never given out; this process's memory in bytes after them."""
    for start in range(first, first + count, 500):
        world.worker.reply(*(encode(answer(10**9 + k)) for k in range(start, start + 500)))
        world.settle(device)
    return psutil.Process().memory_info().rss


@pytest.mark.parametrize("count", [2_000, pytest.param(90_000, marks=pytest.mark.slow)])
def test_a_flood_of_unknown_ids_leaves_memory_flat(world: World, count: int) -> None:
    device = world.device()
    before = flood(world, device, 0, count // 9 // 500 * 500 + 500)
    after = flood(world, device, 10**6, count)
    assert after - before < 2 * 2**20
    assert device.store.counts()["answers-unknown"] >= count
    assert device.runtime.classify(FRAME).why == "cloud answered"


# ---- answers that cannot be believed ----


def raw(values: list[float] | bytes, names: bytes = labels_id(DIGITS)) -> Callable[[int], bytes]:
    """A reply with these logits, which our own encoder might refuse to make."""
    data = values if isinstance(values, bytes) else np.array(values, "<f4").tobytes()
    return lambda row: msgspec.msgpack.encode([row, names, data])


BAD = {
    "NaN": (raw([float("nan")] + [0.0] * 9), "logits hold NaN or infinity"),
    "infinity": (raw([float("inf")] + [0.0] * 9), "logits hold NaN or infinity"),
    "nine of ten": (raw([0.0] * 9), "a reply of 9 logits for 10 labels"),
    "eleven of ten": (raw([0.0] * 11), "a reply of 11 logits for 10 labels"),
    "none": (raw([]), "0 bytes of logits"),
    "torn": (raw(bytes(39)), "39 bytes of logits"),
    "above 1e4": (raw([10_001.0] + [0.0] * 9), "or beyond 10000"),
    "below -1e4": (raw([-1e30] + [0.0] * 9), "or beyond 10000"),
    "unannounced labels": (raw([0.0] * 10, b"????"), "a reply whose labels nobody has announced"),
    "not a message": (lambda row: b"\xc1\xff", "not a valid Reply"),
    "depth bomb": (lambda row: b"\x91" * 10_000, "not a valid Reply"),
    "too many bytes": (lambda row: bytes(5 * 2**20), "a Reply of 5242880 bytes; at most 20480 are allowed"),
}


@pytest.mark.parametrize(("bad", "text"), BAD.values(), ids=BAD)
def test_a_bad_answer_is_as_none_and_is_said_once(
    world: World, caplog: pytest.LogCaptureFixture, bad: Callable[[int], bytes], text: str
) -> None:
    device = world.device()
    world.worker.script = lambda request: [bad(request.id), bad(request.id)]
    result = device.runtime.classify(FRAME, 0.2)
    world.settle(device)
    assert outcome(result) == ("edge", "deadline", result.edge.label)
    assert device.store.counts() == {"bad-reply": 2, "sent": 1}
    row = row_of(device, result.row)
    assert (row.state, row.logits) == ("waiting", None)
    assert text in device.health.current()["worker"]
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].exc_info is None
    world.worker.reply(answer(result.row))
    world.settle(device)
    assert row_of(device, result.row).state == "labelled", "a good answer after it is taken"


def test_logits_up_to_the_limit_are_taken(world: World) -> None:
    device = world.device()
    world.worker.script = lambda request: [answer(request.id, 9, 1e4)]
    assert outcome(device.runtime.classify(FRAME)) == ("cloud", "cloud answered", "9")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (encode(Labels(b"abcd", DIGITS, (b"wxyz",))), "a label list whose labels_id is not that of its names"),
        (encode(Labels(labels_id(("a", "a")), ("a", "a"), (b"wxyz",))), "or with a name twice"),
        (b"", "not a valid Labels"),
        (b"\xc1", "not a valid Labels"),
        (bytes(2**20), "a Labels of 1048576 bytes; at most 262144 are allowed"),
    ],
)
def test_a_false_announcement_is_said_once_and_the_last_good_one_holds(
    world: World, caplog: pytest.LogCaptureFixture, payload: bytes, text: str
) -> None:
    device = world.device()
    for _ in range(3):
        world.worker.publish("labels", payload, device=None)
    world.settle(device)
    assert text in device.health.current()["worker"]
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]
    assert device.store.counts() == {"bad-labels": 3}
    assert device.runtime.classify(FRAME).why == "cloud answered"
    world.worker.announce()
    world.settle(device)
    assert device.health.current() == {}


def test_label_lists_of_earlier_workers_are_known_for_a_while(world: World) -> None:
    device = world.device()
    lists = [(str(k), "other") for k in range(6)]
    for names in lists:
        world.worker.announce(names=names)
    world.settle(device)
    seen = []
    for names in lists:
        world.worker.script = lambda request, names=names: [answer(request.id, 0, names=names)]
        seen.append(device.runtime.classify(FRAME, 0.2).why)
    world.settle(device)
    assert [why == "deadline" for why in seen] == [True] * 2 + [False] * 4
    assert device.store.counts()["bad-reply"] == 2


# ---- refusals ----


@pytest.mark.parametrize("reason", ["busy", "expired"])
def test_a_refused_row_is_asked_again_after_a_while_and_not_before(world: World, reason: str) -> None:
    clock = VirtualClock()
    world.worker.script = lambda request: [refusal(request.id, reason)]
    device = world.device(clock=clock)
    result = device.runtime.classify(FRAME)
    assert outcome(result) == ("edge", "refused", result.edge.label)
    for _ in range(50):
        device.offload.drain()
    world.settle(device)
    assert rows_asked(world) == [result.row], "a busy worker is left alone"
    clock.advance_to(29.9)
    device.offload.drain()
    world.settle(device)
    assert rows_asked(world) == [result.row]
    world.worker.script = sure
    clock.advance_to(30.0)
    device.offload.drain()
    world.worker.wait_for(2)
    world.settle(device)
    assert rows_asked(world) == [result.row] * 2
    assert row_of(device, result.row).state == "labelled"
    assert row_of(device, result.row).sent == 2
    assert device.store.counts() == {f"refused-{reason}": 1, "sent": 2, "answered": 1, "late": 1}


def test_a_busy_worker_gets_no_more_than_a_window_of_the_backlog(world: World) -> None:
    world.worker.script = lambda request: [refusal(request.id, "busy")]
    world.broker.stop()
    device = world.device(clock=VirtualClock(), ready=False)
    rows = [device.runtime.classify(frame).row for frame in frames(40)]
    world.broker.start()
    world.worker.wait_for(8)
    world.settle(device)
    world.settle(device)
    assert rows_asked(world) == rows[:8]


def test_a_bad_request_waits_for_another_worker(world: World) -> None:
    clock = VirtualClock()
    world.worker.script = lambda request: [refusal(request.id, "bad-request", "spikes that do not fit")]
    device = world.device(clock=clock)
    results = [device.runtime.classify(frame) for frame in frames(3)]
    assert [result.why for result in results] == ["refused"] * 3
    clock.advance_to(1000.0)
    device.offload.drain()
    world.settle(device)
    assert rows_asked(world) == [result.row for result in results], "the same worker would refuse them again"
    assert device.store.counts() == {"refused-bad-request": 3, "sent": 3}
    assert device.store.drops() == {}
    world.worker.script = sure
    world.worker.announce()
    world.worker.wait_for(6)
    world.settle(device)
    assert device.store.summary().rows == {"waiting": 0, "labelled": 3, "learnt": 0}


def test_a_worker_that_calls_everything_a_bad_request_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(offload, "MAX_REJECTED", 5)
    world.worker.script = lambda request: [refusal(request.id, "bad-request")]
    device = world.device()
    results = [device.runtime.classify(frame) for frame in frames(20)]
    world.settle(device)
    assert [result.why for result in results] == ["refused"] * 5 + ["offline"] * 15
    assert len(world.worker.received) == 5
    said = "worker: 5 requests refused as bad; check ecc-cloud and restart it"
    assert [record.getMessage() for record in caplog.records] == [said]
    world.worker.script = sure
    world.worker.announce()
    world.worker.wait_for(25)
    world.settle(device)
    assert device.health.current() == {}
    assert device.store.summary().rows == {"waiting": 0, "labelled": 20, "learnt": 0}


def test_a_refusal_of_a_newer_worker_keeps_its_number(world: World) -> None:
    world.worker.script = lambda request: [Reply(request.id, labels_id(DIGITS), b"", 77, "new")]
    device = world.device()
    result = device.runtime.classify(FRAME)
    assert result.why == "refused"
    assert row_of(device, result.row).state == "waiting"
    assert device.store.counts() == {"refused-refusal-77": 1, "sent": 1}


def test_refusals_of_what_nobody_asked_change_nothing(world: World) -> None:
    device = world.device()
    answered = device.runtime.classify(FRAME)
    world.worker.reply(
        refusal(answered.row, "bad-request"), refusal(answered.row, "unknown-features"), refusal(10**6, "busy")
    )
    world.settle(device)
    assert row_of(device, answered.row).state == "labelled", "an answered row is not dropped by a late refusal"
    assert device.store.drops() == {}
    assert device.health.current() == {}
    assert device.store.counts() == {"answered": 1, "answers-unknown": 3, "sent": 1}


def test_a_refusal_after_the_answer_does_not_drop_the_row(world: World) -> None:
    world.worker.script = lambda request: [answer(request.id), refusal(request.id, "bad-request")]
    device = world.device()
    result = device.runtime.classify(FRAME)
    world.settle(device)
    assert row_of(device, result.row).state == "labelled"
    assert device.store.drops() == {}


def test_a_worker_that_cannot_read_a_request_at_all_is_counted(world: World) -> None:
    device = world.device()
    world.worker.reply(refusal(0, "bad-request"))
    world.settle(device)
    assert device.store.counts() == {"refused-bad-request": 1}


# ---- features that nobody reads ----

OTHERS = b"\x01\x02\x03\x04"


def test_features_that_no_worker_reads_are_kept_at_home_until_one_does(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    device = world.device()
    world.worker.announce([OTHERS])
    world.settle(device)
    results = [device.runtime.classify(frame) for frame in frames(20)]
    assert {outcome(result)[:2] for result in results} == {("edge", "incompatible")}
    for _ in range(10):
        device.offload.drain()
        world.worker.announce([OTHERS])
    world.settle(device)
    assert world.worker.received == [], "nothing is sent to a worker that cannot read it"
    expected = (
        f"the cloud cannot read features {world.features[:4].hex()} (it reads: 01020304); "
        "start ecc-cloud with the cloud.pt made together with this device's model"
    )
    assert device.health.current() == {"incompatible": expected}
    assert [record.getMessage() for record in caplog.records] == [f"incompatible: {expected}"]
    world.worker.announce([OTHERS, world.features[:4]])
    world.worker.wait_for(20)
    world.settle(device)
    assert rows_asked(world) == [result.row for result in results], "oldest first"
    assert device.health.current() == {}
    assert device.store.summary().rows == {"waiting": 0, "labelled": 20, "learnt": 0}
    assert device.runtime.classify(FRAME).why == "cloud answered"


def test_a_worker_that_refuses_the_features_is_not_asked_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.worker.script = lambda request: [refusal(request.id, "unknown-features")]
    device = world.device(clock=VirtualClock())
    whys = [device.runtime.classify(frame).why for frame in frames(10)]
    world.settle(device)
    assert whys == ["incompatible"] * 10
    assert len(world.worker.received) == 1
    assert len(caplog.records) == 1
    assert device.store.counts() == {"refused-unknown-features": 1, "sent": 1}
    assert device.store.summary().rows["waiting"] == 10
    world.worker.script = sure
    world.worker.announce()
    world.worker.wait_for(11)
    world.settle(device)
    assert device.store.summary().rows == {"waiting": 0, "labelled": 10, "learnt": 0}


# ---- links and workers that come and go ----


def test_rows_of_an_outage_are_asked_for_oldest_first_a_few_at_a_time(world: World) -> None:
    device = world.device(clock=VirtualClock())
    world.broker.stop()
    rows = [device.runtime.classify(frame).row for frame in frames(30)]
    assert world.worker.received == []
    world.worker.script = silent
    world.broker.start()
    world.worker.wait_for(8)
    world.settle(device)
    assert rows_asked(world) == rows[:8]
    world.worker.script = sure
    world.worker.reply(*(answer(row) for row in rows[:8]))
    world.worker.wait_for(30)
    world.settle(device)
    assert rows_asked(world) == rows
    assert device.store.summary().rows == {"waiting": 0, "labelled": 30, "learnt": 0}
    assert device.store.counts() == {"answered": 30, "late": 30, "sent": 30}


def test_without_a_link_frames_are_answered_and_it_is_said_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.broker.stop()
    device = world.device(ready=False)
    whys = {device.runtime.classify(frame).why for frame in frames(5)}
    assert whys == {"offline"}
    world.broker.start()
    assert device.offload.wait_ready(PATIENCE_S)
    world.worker.wait_for(5)
    world.settle(device)
    assert [record.getMessage() for record in caplog.records] == ["offline: the broker is not running; working alone"]
    assert device.health.current() == {}


def test_without_a_worker_frames_are_answered_and_kept(world: World) -> None:
    world.worker.close()
    world.broker.stop()  # forgets what was retained
    world.broker.start()
    device = world.device(ready=False)
    world.settle(device)
    result = device.runtime.classify(FRAME)
    assert outcome(result) == ("edge", "offline", result.edge.label)
    assert row_of(device, result.row).sent == 0
    world.worker = late = ScriptedWorker(MemoryLink(world.broker, "late"), [world.features[:4]]).start()
    late.wait_for(1)
    world.settle(device)
    assert row_of(device, result.row).state == "labelled"


def test_a_frame_and_the_backlog_never_ask_for_the_same_row(world: World) -> None:
    device = world.device(clock=VirtualClock())
    stop = threading.Event()

    def drain() -> None:
        while not stop.is_set():
            device.offload.drain()

    threads = [threading.Thread(target=drain) for _ in range(2)]
    for thread in threads:
        thread.start()
    results = [device.runtime.classify(frame) for frame in frames(200)]
    stop.set()
    for thread in threads:
        thread.join()
    world.settle(device)
    assert {result.why for result in results} <= {"cloud answered", "cloud less sure"}
    assert rows_asked(world) == [result.row for result in results]
    assert device.store.counts() == {"answered": 200, "sent": 200}


class EarlyLink(MemoryLink):
    """Hands out what the broker retained before it says that it is connected, as real brokers may."""

    def on_connection(self, listener: ConnectionListener) -> None:
        self.told = getattr(self, "told", [])
        self.told.append(listener)

    @property
    def connected(self) -> bool:
        return super().connected and self.said

    said = False

    def say(self) -> None:
        """Tell the listeners now."""
        self.said = True
        for listener in self.told:
            listener(True)


def test_a_worker_that_is_announced_before_the_connection_is_told_gets_the_backlog(world: World) -> None:
    world.broker.stop()
    config = DeviceConfig(model=world.models.edge, state=world.folder / "early")
    with closing(Device(config, link=MemoryLink(world.broker, "device")).start(watch=False)) as device:
        row = device.runtime.classify(FRAME).row
    world.broker.start()
    link = EarlyLink(world.broker, "device")
    with closing(Device(config, link=link).start(watch=False)) as device:
        assert device.offload is not None
        assert device.offload.wait_ready(PATIENCE_S)
        assert world.worker.received == []
        link.say()
        assert [request.id for request in world.worker.wait_for(1)] == [row]


def test_a_full_window_keeps_the_row_for_later(world: World) -> None:
    world.worker.script = silent
    device = world.device(clock=VirtualClock())
    world.broker.pause()
    whys = [device.runtime.classify(frame, NOW).why for frame in frames(25)]
    assert whys == ["deadline"] * 20 + ["not sent"] * 5
    assert device.store.counts() == {"sent": 20}
    world.broker.resume()
    asked = world.worker.wait_for(20)
    world.worker.script = sure
    world.worker.reply(*(answer(request.id) for request in asked))
    world.worker.wait_for(25)
    world.settle(device)
    assert device.store.summary().rows == {"waiting": 0, "labelled": 25, "learnt": 0}


# ---- replays: they wait ----


def test_a_replay_asks_a_busy_worker_again(world: World) -> None:
    left = iter([refusal, refusal])
    world.worker.script = lambda request: [
        refused(request.id, "busy") if (refused := next(left, None)) else answer(request.id)
    ]
    device = world.device(clock=VirtualClock(), patience_s=PATIENCE_S)
    result = device.runtime.classify(FRAME)
    assert outcome(result) == ("cloud", "cloud answered", "7")
    assert rows_asked(world) == [result.row] * 3
    assert device.runtime.status()["uploads"] == 1


def test_a_replay_waits_for_a_broker_that_died_and_came_back(world: World) -> None:
    device = world.device(clock=VirtualClock(), patience_s=PATIENCE_S)
    died = threading.Event()

    def die(request: Request) -> list[Reply | bytes]:
        world.worker.script = sure
        died.set()
        return []

    world.worker.script = die
    results: queue.Queue[Result] = queue.Queue()
    thread = threading.Thread(target=lambda: results.put(device.runtime.classify(FRAME)))
    thread.start()
    assert died.wait(PATIENCE_S)
    world.broker.stop()
    world.broker.start()
    result = results.get(timeout=PATIENCE_S)
    thread.join()
    world.settle(device)
    assert outcome(result) == ("cloud", "cloud answered", "7")
    assert result.bytes_sent == len(encode(world.worker.received[0]))
    assert set(rows_asked(world)) == {result.row}
    assert row_of(device, result.row).state == "labelled"


def test_a_replay_asks_a_worker_that_came_instead_of_a_dead_one(world: World) -> None:
    world.worker.script = silent
    device = world.device(clock=VirtualClock(), patience_s=PATIENCE_S)
    results: queue.Queue[Result] = queue.Queue()
    thread = threading.Thread(target=lambda: results.put(device.runtime.classify(FRAME)))
    thread.start()
    world.worker.wait_for(1)
    world.worker.close()
    new = ScriptedWorker(MemoryLink(world.broker, "new"), [world.features[:4]]).start()
    assert results.get(timeout=PATIENCE_S).why == "cloud answered"
    thread.join()
    new.close()


# ---- whole frames ----


@pytest.mark.parametrize("shape", [(16, 16, 1), (20, 30), (2160, 3840, 3), (2, 16, 16, 1)])
def test_frames_go_up_in_the_networks_size(world: World, shape: tuple[int, ...]) -> None:
    device = world.device(send="frames")
    frame = frames(1, shape=shape)[0]
    result = device.runtime.classify(frame)
    assert result.why in ("cloud answered", "cloud less sure")
    request = world.worker.received[0]
    assert isinstance(request, FrameRequest)
    expected = fit(frame.pixels, device.runtime.model.program.input)
    assert (request.id, request.steps, request.shape) == (result.row, 2 if len(shape) == 4 else 0, expected.shape)
    np.testing.assert_array_equal(codec.decode_pixels(request.pixels, request.shape), expected)
    assert row_of(device, result.row).state == "labelled"


def test_frames_are_answered_by_workers_that_read_other_features(world: World) -> None:
    world.worker.announce([OTHERS])
    device = world.device(send="frames")
    result = device.runtime.classify(FRAME)
    assert result.why == "cloud answered"
    assert row_of(device, result.row).state == "labelled"


def test_rows_kept_in_frames_mode_are_asked_for_as_features_later(world: World) -> None:
    device = world.device(send="frames")
    world.broker.stop()
    rows = [device.runtime.classify(frame).row for frame in frames(3)]
    world.broker.start()
    world.worker.wait_for(3)
    assert rows_asked(world) == rows
    assert {type(request) for request in world.worker.received} == {FeaturesRequest}


def test_a_request_above_the_links_limit_is_answered_by_the_edge(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = world.device()
    with monkeypatch.context() as patch:
        patch.setattr(topics, "MAX_PAYLOAD_BYTES", 10)
        results = [device.runtime.classify(frame) for frame in frames(2)]
    assert [(result.why, result.bytes_sent) for result in results] == [("too-large", 0)] * 2
    expected = "bytes for ecc/1/default/device/features is too large; this link carries at most 10"
    assert expected in device.health.current()["too-large"]
    assert len(caplog.records) == 1
    assert row_of(device, results[0].row).state == "waiting"


# ---- a disk that fails while answers come ----

FULL = StoreFull("store.sqlite: the disk is full; free some space")


def fails(error: StoreError) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("broken", ["answer", "put_labels", "mark_sent"])
def test_a_frame_gets_its_answer_though_the_disk_does_not(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    clock = VirtualClock()
    device = world.device(clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr(device.store, broken, fails(FULL))
        result = device.runtime.classify(FRAME)
        world.settle(device)
    assert outcome(result) == ("cloud", "cloud answered", "7")
    if broken == "mark_sent":
        assert row_of(device, result.row).state == "labelled"
        return
    assert [record.getMessage() for record in caplog.records] == [f"disk: {FULL}"]
    assert row_of(device, result.row).state == "waiting"
    clock.advance_to(30.0)
    device.offload.drain()
    world.worker.wait_for(2)
    world.settle(device)
    assert row_of(device, result.row).state == "labelled", "asked again once the disk is back"


def test_a_backlog_that_cannot_be_read_is_said_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = world.device()
    monkeypatch.setattr(device.store, "waiting", fails(FULL))
    for _ in range(5):
        device.offload.drain()
    assert [record.getMessage() for record in caplog.records] == [f"disk: {FULL}"]


# ---- the end ----


def test_a_device_that_stops_does_not_wait_for_the_cloud(world: World) -> None:
    world.worker.script = silent
    device = world.device()
    results: queue.Queue[Result] = queue.Queue()
    thread = threading.Thread(target=lambda: results.put(device.runtime.classify(FRAME)))
    thread.start()
    world.worker.wait_for(1)
    device.stop()
    result = results.get(timeout=PATIENCE_S / 2)
    thread.join()
    assert outcome(result) == ("edge", "deadline", result.edge.label)
    assert device.runtime.classify(FRAME).why == "offline"
    assert row_of(device, result.row).state == "waiting"
