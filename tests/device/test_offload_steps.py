"""Leading time steps first, the rest where the worker needs more: the device's side, whatever happens on the way."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ecc_broker import codec
from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_broker.messages import FeaturesRequest, Labels, Leading, Reply, encode
from ecc_broker.mqtt import MqttLink
from ecc_cloud.model import CloudModel
from ecc_cloud.worker import Worker
from ecc_device.clock import VirtualClock
from ecc_device.device import Device, DeviceConfig
from ecc_device.engines import NumpyEngine
from ecc_device.questions import FIRST, REST, WHOLE, make_question
from ecc_device.replay import Replay
from ecc_device.results import Result, make_answer
from ecc_model.modelfile import LeadingInfo, read_edge
from ecc_model.numerics import margin, softmax
from support.models import CONFIG, DIGITS, TinyModels, write_tiny_models
from support.workers import (
    PATIENCE_S,
    Request,
    ScriptedWorker,
    World,
    answer,
    frames,
    refusal,
    row_of,
    silent,
    slow,
    sure,
)

STEPS, LEADING = 4, 1
FRAME = frames(1)[0]
Script = Callable[[Request], list[Reply | bytes]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """A network of four steps with codes of 64 bytes; every frame goes up."""
    return write(tmp_path_factory.mktemp("steps"), 0.5)


def write(folder: Path, limit: float) -> TinyModels:
    config = msgspec.structs.replace(CONFIG, steps=STEPS, code_channels=8)
    leading = LeadingInfo(steps=LEADING, margin=limit, temperature=1.0, more=0.3)
    return write_tiny_models(folder, threshold=0.0, config=config, leading=leading)


@pytest.fixture
def world(models: TinyModels, tmp_path: Path) -> Iterator[World]:
    """The worker takes one leading step, and needs the rest of 30 % of them; its script asks for it each time."""
    world = World(models, tmp_path)
    announce(world, Leading(LEADING, 30))
    world.worker.script = careful
    yield world
    world.close()


def announce(world: World, leading: Leading | None) -> None:
    world.worker.leading = () if leading is None else (leading,)
    world.worker.announce()


def careful(request: Request) -> list[Reply | bytes]:
    """Needs all steps."""
    return [refusal(request.id, "more-steps") if part(request) == FIRST else answer(request.id)]


def part(request: Request) -> str:
    assert isinstance(request, FeaturesRequest)
    return {(0, STEPS): WHOLE, (0, LEADING): FIRST, (LEADING, STEPS - LEADING): REST}[request.known, request.steps]


def parts(world: World) -> list[tuple[int, str]]:
    return [(request.id, part(request)) for request in world.worker.received]


def sizes(world: World) -> list[int]:
    return [len(encode(request)) for request in world.worker.received]


def code(device: Device) -> np.ndarray:
    engine = device.runtime.engine
    return engine.encode(engine.head(FRAME.pixels))


def test_the_rest_follows_and_both_messages_are_counted(world: World) -> None:
    device = world.device()
    result = device.runtime.classify(FRAME)
    assert parts(world) == [(result.row, FIRST), (result.row, REST)]
    first, rest = world.worker.received
    leading = codec.decode_spikes(first.spikes, (LEADING, *code(device).shape[1:]))
    whole = codec.decode_spikes(rest.spikes, code(device).shape, known=leading)
    np.testing.assert_array_equal(whole, code(device))
    assert (result.stands, result.why) == ("cloud", "cloud answered")
    assert result.bytes_sent == sum(sizes(world))
    assert result.bytes_later == sizes(world)[1]
    row = result.row or 0
    assert result.bytes_received == len(encode(refusal(row, "more-steps"))) + len(encode(answer(row)))
    assert 0 < rest.budget_ms <= first.budget_ms
    stored = row_of(device, result.row)
    assert (stored.state, stored.sent) == ("labelled", 1)
    assert device.store.counts() == {"answered": 1, "sent": 1, "refused-more-steps": 1}


def test_leading_steps_that_do_are_all_that_goes_up(world: World) -> None:
    world.worker.script = sure
    device = world.device()
    result = device.runtime.classify(FRAME)
    assert parts(world) == [(result.row, FIRST)]
    assert (result.bytes_sent, result.bytes_later) == (sizes(world)[0], 0)
    program = device.runtime.model.program
    assert len(row_of(device, result.row).bits) * 8 == np.prod(program.split_shape), "the row holds all steps"


@pytest.mark.parametrize(
    ("leading", "expected"),
    [
        (Leading(LEADING, 0), FIRST),
        (Leading(LEADING, 30), FIRST),
        (Leading(LEADING, 100), WHOLE),  # two messages would be longer than one
        (Leading(0, 0), WHOLE),
        (Leading(STEPS, 0), WHOLE),
        (Leading(9, 0), WHOLE),
        (None, WHOLE),
    ],
)
def test_leading_steps_go_first_only_where_that_pays(world: World, leading: Leading | None, expected: str) -> None:
    announce(world, leading)
    world.worker.script = sure
    result = world.device().runtime.classify(FRAME)
    assert parts(world) == [(result.row, expected)]


def test_expected_bytes_decide(models: TinyModels) -> None:
    model = read_edge(models.edge)
    shape, features_id = model.program.code_shape, model.program.features_id
    spikes = np.random.default_rng(0).random(shape) < 0.5
    name = bytes.fromhex(features_id)[:4]
    chosen = []
    for more in range(0, 101, 5):
        said = Labels(b"abcd", ("x",), (b"wxyz", name), (Leading(0, 0), Leading(LEADING, more)))
        question = make_question(1, spikes, features_id, None, said)
        chosen.append(question.opening(0)[0])
        first, rest, whole = (len(question.message(part, 0)) for part in (FIRST, REST, WHOLE))
        assert (chosen[-1] == FIRST) == (first + more / 100 * rest < whole)
    assert {FIRST, WHOLE} == set(chosen)
    others = Labels(b"abcd", ("x",), (b"wxyz",), (Leading(LEADING, 0),))
    assert {make_question(1, spikes, features_id, None, said).opening(0)[0] for said in (None, others)} == {WHOLE}


def test_there_must_be_time_for_a_second_round_trip(world: World) -> None:
    clock = VirtualClock()
    world.worker.script = slow(clock, 0.5)
    device = world.device(clock=clock)
    device.runtime.classify(FRAME, 10.0)
    for deadline_s in (0.9, 1.1):  # an answer takes 0.5 s
        device.runtime.classify(FRAME, deadline_s)
    assert [one for _, one in parts(world)] == [FIRST, WHOLE, FIRST]


# ---- what happens on the way ----


def test_a_reply_that_comes_twice_sends_the_rest_once(world: World) -> None:
    world.worker.script = lambda request: careful(request) * 3
    device = world.device()
    result = device.runtime.classify(FRAME)
    world.settle(device)
    assert parts(world) == [(result.row, FIRST), (result.row, REST)]
    assert device.store.counts() == {"answered": 1, "answers-duplicate": 2, "sent": 1, "refused-more-steps": 3}
    assert result.bytes_sent == sum(sizes(world))


@pytest.mark.parametrize("reason", ["unknown-steps", "bad-request"])
def test_a_worker_that_has_not_the_leading_steps_gets_all(world: World, reason: str) -> None:
    """Restarted, evicted, or another worker of the site took the rest."""

    def forgetful(request: Request) -> list[Reply | bytes]:
        return [refusal(request.id, reason)] if part(request) == REST else careful(request)

    world.worker.script = forgetful
    device = world.device()
    result = device.runtime.classify(FRAME)
    world.settle(device)
    assert [one for _, one in parts(world)] == [FIRST, REST, WHOLE]
    assert result.why == "cloud answered"
    assert result.bytes_sent == sum(sizes(world))
    assert row_of(device, result.row).state == "labelled"
    device.offload.drain()
    world.settle(device)
    assert len(world.worker.received) == 3


def test_unknown_steps_that_come_twice_send_all_once(world: World) -> None:
    world.worker.script = lambda request: (
        [refusal(request.id, "unknown-steps")] * 2 if part(request) == REST else careful(request)
    )
    device = world.device()
    result = device.runtime.classify(FRAME)
    world.settle(device)
    assert [one for _, one in parts(world)] == [FIRST, REST, WHOLE]
    assert result.why == "cloud answered"


def test_a_worker_that_takes_no_parts_gets_all(world: World) -> None:
    """An old one beside a new one: the new one's announcement came last."""
    world.worker.script = lambda request: [
        answer(request.id) if part(request) == WHOLE else refusal(request.id, "bad-request", "1 steps of spikes")
    ]
    device = world.device()
    result = device.runtime.classify(FRAME)
    assert [one for _, one in parts(world)] == [FIRST, WHOLE]
    assert result.why == "cloud answered"


def test_two_workers_that_both_get_everything_disturb_nothing(world: World) -> None:
    """Without shared subscriptions: one knows leading steps, the other does not."""

    def both(request: Request) -> list[Reply | bytes]:
        old = answer(request.id) if part(request) == WHOLE else refusal(request.id, "bad-request")
        return [*careful(request), old]

    world.worker.script = both
    device = world.device()
    for frame in frames(3):
        assert device.runtime.classify(frame).why == "cloud answered"
        world.settle(device)
    assert device.store.summary().rows == {"waiting": 0, "labelled": 3, "learnt": 0}


@pytest.mark.parametrize("reason", ["busy", "expired"])
def test_a_rest_that_is_refused_waits_as_any_other_row(world: World, reason: str) -> None:
    clock = VirtualClock()
    world.worker.script = lambda request: [
        refusal(request.id, reason) if part(request) == REST else refusal(request.id, "more-steps")
    ]
    device = world.device(clock=clock)
    result = device.runtime.classify(FRAME)
    assert result.why == "refused"
    world.worker.script = careful
    clock.advance_to(30.0)
    device.offload.drain()
    world.worker.wait_for(4)
    world.settle(device)
    assert [one for _, one in parts(world)] == [FIRST, REST, FIRST, REST]
    assert row_of(device, result.row).state == "labelled"


def test_a_question_that_nobody_answers_is_asked_again_from_the_start(world: World) -> None:
    clock = VirtualClock()
    world.worker.script = silent
    device = world.device(clock=clock)
    result = device.runtime.classify(FRAME, 0.0)
    assert result.why == "deadline"
    world.worker.wait_for(1)
    world.worker.script = careful
    clock.advance_to(30.0)
    device.offload.drain()
    world.worker.wait_for(3)
    world.settle(device)
    assert [one for _, one in parts(world)] == [FIRST, FIRST, REST]
    assert row_of(device, result.row).state == "labelled"


def test_after_the_deadline_the_rest_still_goes_up_and_the_answer_corrects(world: World) -> None:
    world.worker.script = silent
    device = world.device()
    corrections: queue.Queue[Result] = queue.Queue()
    device.runtime.on_result(corrections.put)
    result = device.runtime.classify(FRAME, 0.0)
    world.worker.wait_for(1)
    world.worker.script = careful
    world.worker.reply(refusal(result.row or 0, "more-steps"))
    corrected = corrections.get(timeout=PATIENCE_S)
    assert [one for _, one in parts(world)] == [FIRST, REST]
    assert world.worker.received[1].budget_ms == 0, "nobody waits for it any more"
    assert (result.why, corrected.why) == ("deadline", "cloud answered")
    assert (corrected.bytes_sent, corrected.bytes_later) == (result.bytes_sent, 0), "what goes later is backlog"
    assert row_of(device, result.row).state == "labelled"


def test_a_frame_whose_rest_finds_no_room_is_answered_by_the_edge_and_asked_again(world: World) -> None:
    clock = VirtualClock()
    device = world.device(clock=clock)
    publish = device.link.publish

    def full(topic: str, payload: bytes, **options: object) -> bool:
        rest = topic.endswith("features") and msgspec.msgpack.decode(payload)[5:] == [LEADING]
        return not rest and publish(topic, payload, **options)

    device.link.publish = full
    result = device.runtime.classify(FRAME)
    assert (result.why, result.bytes_later) == ("deadline", 0)
    device.link.publish = publish
    device.offload.drain()
    world.worker.wait_for(3)
    world.settle(device)
    assert [one for _, one in parts(world)] == [FIRST, FIRST, REST]
    assert row_of(device, result.row).state == "labelled"


def test_a_worker_that_asks_for_more_of_a_whole_code_is_not_obeyed(world: World) -> None:
    announce(world, None)
    world.worker.script = lambda request: [refusal(request.id, "more-steps"), answer(request.id)]
    device = world.device()
    result = device.runtime.classify(FRAME)
    assert [one for _, one in parts(world)] == [WHOLE]
    assert result.why == "cloud answered"


def test_rows_kept_while_offline_go_up_in_parts_too(world: World) -> None:
    world.broker.stop()
    device = world.device(ready=False)
    rows = [device.runtime.classify(frame).row for frame in frames(5)]
    world.broker.start()
    world.worker.wait_for(10)
    world.settle(device)
    # Each part goes up; on a slow machine once more, where its answer took too long.
    assert set(parts(world)) == {(row, one) for row in rows for one in (FIRST, REST)}
    assert device.store.summary().rows == {"waiting": 0, "labelled": 5, "learnt": 0}


@pytest.mark.parametrize(("limit", "used"), [("1MB/h", None), ("50%", 1)])
def test_a_budget_counts_all_bytes_and_one_request(world: World, limit: str, used: int | None) -> None:
    device = world.device(budget=limit)
    device.runtime.classify(FRAME)
    assert len(world.worker.received) == 2
    assert device.runtime.budget is not None
    assert device.runtime.budget.used == (sum(sizes(world)) if used is None else used)


def test_a_replay_waits_for_both_messages_and_for_another_worker(world: World) -> None:
    """The worker dies when it has the leading steps; another one comes."""
    world.worker.script = silent
    device = world.device(clock=VirtualClock(), patience_s=PATIENCE_S)
    results: queue.Queue[Result] = queue.Queue()
    thread = threading.Thread(target=lambda: results.put(device.runtime.classify(FRAME)))
    thread.start()
    world.worker.wait_for(1)
    world.worker.close()
    new = ScriptedWorker(MemoryLink(world.broker, "new"), [world.features[:4]], careful)
    new.leading = (Leading(LEADING, 30),)
    new.start()
    result = results.get(timeout=PATIENCE_S)
    thread.join()
    new.close()
    assert result.why == "cloud answered"
    assert [part(request) for request in new.received] == [FIRST, REST]
    assert result.bytes_sent == sum(len(encode(request)) for request in new.received)


def test_a_recording_of_both_messages_is_replayed_to_the_last_bit(world: World, tmp_path: Path) -> None:
    turns = iter([careful, sure] * 10)
    scripts: dict[int, Script] = {}

    def by_turns(request: Request) -> list[Reply | bytes]:
        if request.id not in scripts:
            scripts[request.id] = next(turns)
        return scripts[request.id](request)

    world.worker.script = by_turns
    device = world.device(record=tmp_path / "out.mcap", budget="40KB/h")
    results = [device.runtime.classify(frame) for frame in frames(20)]
    device.close()
    later = [result.bytes_later for result in results]
    assert any(later)
    assert any(result.bytes_sent and not result.bytes_later for result in results)
    with Replay(tmp_path / "out.mcap", expect=tmp_path / "out.mcap") as replay:
        again = list(replay)
    assert [one.to_record() for one in again] == [one.to_record() for one in results]
    assert [one.bytes_later for one in again] == later
    assert [one.bytes_sent for one in again] == [one.bytes_sent for one in results]


# ---- device and worker, both our own ----


def test_workers_that_share_a_site_send_for_all_steps_where_the_rest_meets_another(mosquitto, tmp_path: Path) -> None:
    """Over Mosquitto, which deals the messages out by turns; nobody is ever sure by leading steps."""
    models = write(tmp_path, 1.0)
    config = DeviceConfig(model=models.edge, state=tmp_path / "state", broker=mosquitto.url, deadline_s=PATIENCE_S)
    workers = [Worker(CloudModel(models.cloud), MqttLink(mosquitto.url, f"worker-{k}")) for k in range(2)]
    with (
        closing(workers[0]),
        closing(workers[1]),
        closing(Device(config).start(watch=False)) as device,
    ):
        for worker in workers:
            worker.start()
        assert device.offload is not None
        assert device.offload.wait_ready(PATIENCE_S)
        results: list[Result] = []
        for frame in frames(1000):
            results.append(device.runtime.classify(frame))
            if len(results) >= 12 and "refused-unknown-steps" in device.store.counts():
                break
        counts = device.store.counts()
    assert {result.why for result in results} <= {"cloud answered", "cloud less sure"}
    assert all(result.bytes_later > 0 for result in results)
    assert counts["refused-more-steps"] == counts["answered"] == counts["sent"] == len(results)
    assert counts["refused-unknown-steps"] > 0


def test_device_and_worker_agree_and_answer_as_for_whole_codes(models: TinyModels, tmp_path: Path) -> None:
    """Frames whose leading steps do are answered by these; all others to the bit as if all steps had gone up."""
    shown, engine = frames(16), NumpyEngine(read_edge(models.edge).program)
    codes = [engine.encode(engine.head(frame.pixels)) for frame in shown]
    model = CloudModel(models.cloud)
    alone = [model.features([one[:LEADING]])[0] for one in codes]
    margins = [margin(softmax(row.tolist())) for row in alone]
    limit = float(np.median(margins))
    models = write(tmp_path, limit)
    answers: dict[bool, list[Result]] = {}
    for leading in (False, True):
        own = CloudModel(models.cloud)
        own.encoders = {
            name: encoder if leading else encoder._replace(leading=None) for name, encoder in own.encoders.items()
        }
        broker = MemoryBroker()
        config = DeviceConfig(model=models.edge, state=tmp_path / str(leading), deadline_s=PATIENCE_S)
        with (
            closing(Worker(own, MemoryLink(broker, "worker"))) as worker,
            closing(Device(config, link=MemoryLink(broker, "device")).start(watch=False)) as device,
        ):
            worker.start()
            assert device.offload is not None
            assert device.offload.wait_ready(PATIENCE_S)
            answers[leading] = [device.runtime.classify(frame) for frame in shown]
    assert min(margins) < limit <= max(margins)
    for found, logits, whole, result in zip(margins, alone, answers[False], answers[True], strict=True):
        assert (result.bytes_later > 0) == (found < limit)
        expected = whole.cloud if found < limit else make_answer(logits.tolist(), DIGITS, 1.0)
        assert result.cloud == expected
    assert sum(result.bytes_sent for result in answers[True]) != sum(result.bytes_sent for result in answers[False])
