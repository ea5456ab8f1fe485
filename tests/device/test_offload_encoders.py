"""A model with several encoders: which one a frame goes by, what the worker reads of it, and what is told."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import psutil
import pytest

from ecc_broker import codec
from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_broker.messages import FeaturesRequest, Leading, Reply
from ecc_broker.mqtt import MqttLink
from ecc_cloud.model import CloudModel
from ecc_cloud.worker import Worker
from ecc_device.clock import VirtualClock
from ecc_device.device import Device, DeviceConfig
from ecc_device.engines import NumpyEngine
from ecc_device.offload import Offload
from ecc_device.replay import Replay
from ecc_device.results import Result, make_answer
from ecc_model.errors import DeviceError
from ecc_model.modelfile import read_edge
from ecc_model.nets.cloud import CodeConfig
from ecc_model.rates import coded_id, plain_id
from support.models import CONFIG, DIGITS, TinyModels, write_tiny_models
from support.workers import PATIENCE_S, Request, World, answer, frames, refusal, row_of, silent, slow, sure

LONG, MIDDLE, SHORT = "64-bytes", "32-bytes", "16-bytes"
NAMES = (LONG, MIDDLE, SHORT)
STEPS = 4
FRAME = frames(1)[0]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Codes of 64, 32 and 16 bytes, without rate tables; every frame goes up."""
    config = msgspec.structs.replace(CONFIG, steps=STEPS, code_channels=8)
    others = [CodeConfig(4, 1), CodeConfig(8, 2)]
    return write_tiny_models(tmp_path_factory.mktemp("several"), threshold=0.0, config=config, others=others)


@pytest.fixture
def world(models: TinyModels, tmp_path: Path) -> Iterator[World]:
    """The worker reads all three codes."""
    world = World(models, tmp_path)
    world.worker.announce(ids(models))
    yield world
    world.close()


def ids(models: TinyModels) -> list[bytes]:
    return [plain_id(name) for name in models.program.features_ids]


def by(world: World) -> list[str]:
    """The encoders that the requests came by."""
    names = dict(zip(ids(world.models), NAMES, strict=True))
    return [names[request.features_id] for request in world.worker.received if isinstance(request, FeaturesRequest)]


def classify(device: Device, **circumstances: float) -> Result:
    """A frame that goes up in a moment such as this."""
    assert device.offload is not None
    for name, value in circumstances.items():
        setattr(device.offload, name, value)
    return device.runtime.classify(FRAME)


@pytest.mark.parametrize(
    ("charge", "encoder", "why"), [(1.0, LONG, ""), (0.5, LONG, ""), (0.35, MIDDLE, "battery"), (0.1, SHORT, "battery")]
)
def test_a_frame_goes_by_the_code_that_the_battery_allows(world: World, charge: float, encoder: str, why: str) -> None:
    device = world.device()
    result = classify(device, battery=charge)
    (request,) = world.worker.received
    index = NAMES.index(encoder)
    engine, program = device.runtime.engine, world.models.program
    split = engine.head(FRAME.pixels)
    sent = codec.decode_spikes(request.spikes, program.code_shapes[index])
    np.testing.assert_array_equal(sent, engine.encode(split, index))
    assert (by(world), result.encoder, result.encoder_why) == ([encoder], encoder, why)
    assert (result.stands, device.status()["encoders"]) == ("cloud", {encoder: 1})
    assert row_of(device, result.row).features_id.hex() == program.features_id, "rows are of the first encoder"
    assert ("encoder 16-bytes: the battery is low" in str(result.explain())) == (encoder == SHORT)


def test_the_battery_is_watched(models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    battery, read = SimpleNamespace(power_plugged=False, percent=10), queue.SimpleQueue[float]()
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery)
    monkeypatch.setattr(Offload, "battery", property(lambda _: 1.0, lambda _, charge: read.put(charge)))
    config = DeviceConfig(model=models.edge, state=tmp_path)
    with Device(config, link=MemoryLink(MemoryBroker(), "device")):
        assert read.get(timeout=PATIENCE_S) == 0.1


def test_unanswered_frames_lead_to_shorter_codes_and_answers_back_again(world: World) -> None:
    world.worker.script = silent
    device = world.device()
    found = [device.runtime.classify(frame, 0.0) for frame in frames(8)]
    assert [result.why for result in found] == ["deadline"] * 8
    expected = [*[LONG] * 4, *[MIDDLE] * 3, SHORT]
    assert [result.encoder for result in found] == expected
    world.settle(device)
    assert by(world) == expected
    world.worker.script = sure
    after = [device.runtime.classify(frame).encoder for frame in frames(20)]
    assert (after[0], after[-1]) == (SHORT, LONG)


def test_slow_answers_lead_to_shorter_codes(world: World) -> None:
    clock = VirtualClock()
    world.worker.script = slow(clock, 0.5)
    device = world.device(clock=clock)
    found = [device.runtime.classify(FRAME, deadline_s) for deadline_s in (9.0, 1.1, 0.7, 0.55)]
    assert [result.encoder for result in found] == [LONG, LONG, MIDDLE, SHORT]
    assert [result.encoder_why for result in found] == ["", "", "slow", "slow"]


@pytest.mark.parametrize(("budget", "expected"), [("30%", {LONG}), ("100MB/h", {MIDDLE}), ("2KB/h", {MIDDLE, SHORT})])
def test_a_budget_in_bytes_leads_to_shorter_codes(world: World, budget: str, expected: set[str]) -> None:
    device = world.device(budget=budget)
    found = [device.runtime.classify(frame) for frame in frames(12)]
    sent = [result for result in found if result.bytes_sent]
    assert {result.encoder for result in sent} == expected
    assert {result.encoder_why for result in sent} == ({""} if expected == {LONG} else {"budget"})


def test_what_waits_for_a_worker_has_no_deadline_and_the_link_no_say(world: World) -> None:
    world.worker.script = silent
    device = world.device()
    for frame in frames(20):
        device.runtime.classify(frame, 0.0)
    split = device.runtime.engine.head(FRAME.pixels)
    assert device.offload is not None
    ticket = device.offload.ask(1, split, FRAME.pixels, None)
    assert (ticket.encoder, ticket.encoder_why) == (LONG, "")


def test_rows_of_earlier_frames_go_by_what_the_battery_allows(world: World) -> None:
    world.worker.announce([b"none"])
    device = world.device(ready=False)
    world.settle(device)
    assert device.runtime.classify(FRAME).why == "incompatible"
    assert device.offload is not None
    device.offload.battery = 0.0
    world.worker.announce(ids(world.models))
    world.worker.wait_for(1)
    assert by(world) == [SHORT]


# ---- by name ----


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_is_taken_by_name_whatever_the_moment(world: World, name: str) -> None:
    device = world.device(encoder=name)
    found = [classify(device, battery=charge) for charge in (1.0, 0.0)]
    assert by(world) == [name, name]
    assert {(result.encoder, result.encoder_why) for result in found} == {(name, "asked for")}


def test_a_name_that_the_model_lacks_is_refused(models: TinyModels, tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        Device(DeviceConfig(model=models.edge, state=tmp_path, encoder="8-bytes"))
    assert f"has no encoder '8-bytes'; choose one of: {LONG}, {MIDDLE}, {SHORT}" in str(caught.value)


# ---- what the workers read ----


@pytest.mark.parametrize("named", [None, LONG])
@pytest.mark.parametrize(
    ("read", "easy", "hard"), [([1, 2], MIDDLE, SHORT), ([0, 1], LONG, MIDDLE), ([2], SHORT, SHORT)]
)
def test_only_what_the_workers_read_is_chosen_from(
    world: World, read: list[int], easy: str, hard: str, named: str | None
) -> None:
    world.worker.announce([ids(world.models)[index] for index in read])
    device = world.device(encoder=named)
    assert classify(device, battery=1.0).encoder == easy
    assert classify(device, battery=0.0).encoder == (LONG if named and 0 in read else hard)


def test_a_worker_of_none_of_them_is_not_asked(world: World) -> None:
    world.worker.announce([b"none"])
    device = world.device(ready=False)
    world.settle(device)
    result = device.runtime.classify(FRAME)
    assert (result.why, result.encoder, world.worker.received) == ("incompatible", "", [])


def test_a_refusal_by_a_worker_that_is_gone_leaves_the_codes_that_are_read_now(world: World) -> None:
    def replaced(request: Request) -> list[Reply | bytes]:
        world.worker.script = sure
        world.worker.announce(ids(world.models)[:1])
        return [refusal(request.id, "unknown-features")]

    device = world.device()
    world.worker.script = replaced
    assert classify(device, battery=0.0).why == "incompatible"
    world.settle(device)
    result = classify(device, battery=0.0)
    assert (result.encoder, result.stands, device.health.current()) == (LONG, "cloud", {})


def test_each_code_goes_with_its_own_rate_table(tmp_path: Path) -> None:
    models = write_tiny_models(tmp_path, threshold=0.0, rates="channel", others=[CodeConfig(2, 1)])
    model = read_edge(models.edge)
    names = [coded_id(*pair) for pair in zip(model.program.features_ids, model.tables, strict=True)]
    world = World(models, tmp_path)
    try:
        world.worker.announce([*ids(models), *names])
        device = world.device()
        assert [classify(device, battery=charge).encoder for charge in (1.0, 0.0)] == ["16-bytes", "8-bytes"]
        assert [request.features_id for request in world.worker.received] == names
    finally:
        world.close()


# ---- a code in two messages ----


def test_the_rest_of_a_code_goes_by_the_encoder_that_began(world: World) -> None:
    world.worker.leading = (Leading(1, 30),) * 3
    world.worker.announce(ids(world.models))
    device = world.device()

    def drained(request: Request) -> list[Reply | bytes]:
        assert device.offload is not None
        device.offload.battery = 0.0
        return [answer(request.id) if request.known else refusal(request.id, "more-steps")]

    world.worker.script = drained
    result = device.runtime.classify(FRAME)
    assert [(request.known, request.steps) for request in world.worker.received] == [(0, 1), (1, STEPS - 1)]
    assert by(world) == [LONG, LONG]
    leading = codec.decode_spikes(world.worker.received[0].spikes, (1, *world.models.program.code_shape[1:]))
    shape, engine = world.models.program.code_shape, device.runtime.engine
    whole = codec.decode_spikes(world.worker.received[1].spikes, shape, known=leading)
    np.testing.assert_array_equal(whole, engine.encode(engine.head(FRAME.pixels)))
    assert (result.encoder, result.why) == (LONG, "cloud answered")


# ---- one encoder, recordings, a real worker ----


def test_a_model_with_one_encoder_is_told_nothing(tmp_path: Path) -> None:
    world = World(write_tiny_models(tmp_path, threshold=0.0), tmp_path)
    try:
        device = world.device(encoder="bottleneck")
        result = classify(device, battery=0.0)
        assert (result.stands, result.encoder, result.encoder_why) == ("cloud", "", "")
        assert device.status()["encoders"] == {}
        assert "encoder" not in str(result.explain())
    finally:
        world.close()


def test_whole_frames_go_by_no_encoder(world: World) -> None:
    result = classify(world.device(send="frames", encoder=SHORT), battery=0.0)
    assert (result.stands, result.encoder) == ("cloud", "")


def test_a_recording_keeps_the_encoder_and_its_replay_tells_it(world: World, tmp_path: Path) -> None:
    device = world.device(record=tmp_path / "out.mcap", encoder=None)
    results = [classify(device, battery=charge) for charge in (1.0, 0.35, 0.0)]
    device.close()
    with Replay(tmp_path / "out.mcap", expect=tmp_path / "out.mcap") as replay:
        again = list(replay)
    assert [result.encoder for result in again] == list(NAMES)
    told = [(one.encoder, one.encoder_why, one.bytes_sent) for one in results]
    assert [(one.encoder, one.encoder_why, one.bytes_sent) for one in again] == told


def test_a_recording_by_a_named_encoder_is_replayed_with_a_model_that_lacks_it(world: World, tmp_path: Path) -> None:
    device = world.device(record=tmp_path / "out.mcap", encoder=SHORT)
    classify(device)
    device.close()
    other = write_tiny_models(tmp_path / "other", threshold=0.0)
    with Replay(tmp_path / "out.mcap", model=other.edge) as replay:
        assert [(one.stands, one.encoder) for one in replay] == [("cloud", SHORT)]


def test_a_real_worker_answers_each_code_over_mosquitto(models: TinyModels, mosquitto, tmp_path: Path) -> None:
    config = DeviceConfig(model=models.edge, state=tmp_path / "state", broker=mosquitto.url, deadline_s=PATIENCE_S)
    model, engine = CloudModel(models.cloud), NumpyEngine(models.program)
    with (
        closing(Worker(model, MqttLink(mosquitto.url, "worker"))) as worker,
        closing(Device(config).start(watch=False)) as device,
    ):
        worker.start()
        assert device.offload is not None
        assert device.offload.wait_ready(PATIENCE_S)
        found = [classify(device, battery=charge) for charge in (1.0, 0.35, 0.0)]
    assert [result.encoder for result in found] == list(NAMES)
    sizes = [result.bytes_sent for result in found]
    assert sizes == sorted(sizes, reverse=True)
    split = engine.head(FRAME.pixels)
    for index, result in enumerate(found):
        logits = model.features([engine.encode(split, index)], index)[0]
        assert result.cloud == make_answer(logits.tolist(), DIGITS, 1.0)
