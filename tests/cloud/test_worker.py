"""The worker over an in-memory link: real networks, real messages."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ecc_broker import codec
from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_broker.messages import FeaturesRequest, FrameRequest, Reply, encode
from ecc_broker.mqtt import MqttLink
from ecc_cloud import requests
from ecc_cloud.model import CloudModel
from ecc_cloud.worker import Worker
from ecc_model.bits import Spikes
from ecc_model.frames import fit
from ecc_model.modelfile import EncoderInfo, labels_id, read_edge
from ecc_model.nets.checkpoint import load_cloud, save_cloud
from ecc_model.nets.cloud import CloudConfig, CloudNet, CodeConfig
from ecc_model.nets.neuron import Lif
from ecc_model.nets.vgg import to_unit
from ecc_model.rates import coded_id, plain_id
from support.asker import PATIENCE_S, Asker, StartWorker, features_request, frame_request
from support.models import DIGITS, TinyModels, write_tiny_models
from support.rate_tables import sample

TWO = CloudConfig(
    steps=2,
    channels=1,
    classes=len(DIGITS),
    code_channels=4,
    code_stride=1,
    split_channels=8,
    tail_channels=8,
    teacher=None,
    others=(CodeConfig(4, 1),),
)


@pytest.fixture
def spikes(models: TinyModels) -> Spikes:
    return np.random.default_rng(1).random(models.program.code_shape) < 0.3


class GatedModel(CloudModel):
    """The real model, which waits at a gate before each batch and says when it got there."""

    def __init__(self, path: Path) -> None:
        self.gate, self.at_gate = threading.Event(), threading.Event()
        self.gate.set()
        super().__init__(path)
        self.gate.clear()
        self.at_gate.clear()

    def features(self, batch, decoder=0):
        self.at_gate.set()
        assert self.gate.wait(PATIENCE_S)
        return super().features(batch, decoder)


@pytest.fixture
def gated(models: TinyModels) -> GatedModel:
    return GatedModel(models.cloud)


def refused(reply: Reply) -> tuple[int, str, str]:
    return reply.id, reply.reason, reply.detail


# ---- answers ----


def test_features_are_answered_with_decoder_and_tail_over_temperature(
    models: TinyModels, tmp_path: Path, start_worker: StartWorker, asker: Asker, spikes: Spikes
) -> None:
    net, manifest = load_cloud(models.cloud, Lif)
    with torch.inference_mode():
        expected = net.features(torch.from_numpy(spikes)[:, None].float())[0].numpy()
    model = CloudModel(models.cloud)
    model._temperature = 2.0
    start_worker(model)
    reply = asker.ask("features", features_request(7, spikes, models.program.features_id))
    assert (reply.id, reply.refusal, reply.labels_id) == (7, 0, labels_id(DIGITS))
    np.testing.assert_array_equal(reply.values(), expected / np.float32(2.0))
    assert np.ptp(expected) > 0
    assert manifest.temperature == 1.0


@pytest.mark.parametrize("shape", [(16, 16, 1), (40, 30, 3), (2, 16, 16, 1), (2, 9, 33, 3)])
def test_frames_are_resized_and_answered_by_the_teacher(
    models: TinyModels, cloud_model: CloudModel, start_worker: StartWorker, asker: Asker, shape: tuple[int, ...]
) -> None:
    frame = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    net, _ = load_cloud(models.cloud, Lif)
    with torch.inference_mode():
        expected = net.frames(to_unit(torch.from_numpy(np.stack([fit(frame, cloud_model.frame)]))))[0].numpy()
    start_worker()
    reply = asker.ask("frame", frame_request(8, frame))
    assert (reply.id, reply.refusal, reply.labels_id) == (8, 0, labels_id(DIGITS))
    np.testing.assert_array_equal(reply.values(), expected)


def test_a_worker_without_a_teacher_refuses_frames_and_answers_features(
    models: TinyModels, tmp_path: Path, start_worker: StartWorker, asker: Asker, spikes: Spikes
) -> None:
    net, manifest = load_cloud(models.cloud, Lif)
    blind = CloudNet(msgspec.structs.replace(net.config, teacher=None), Lif)
    blind.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("teacher.")})
    save_cloud(
        tmp_path / "blind.pt",
        blind,
        labels=DIGITS,
        temperature=1.0,
        encoders=manifest.encoders,
        frame=manifest.frame,
        provenance={},
    )
    start_worker(CloudModel(tmp_path / "blind.pt"))
    reply = asker.ask("frame", frame_request(9, np.zeros((16, 16, 1), np.uint8)))
    assert refused(reply) == (9, "unknown-features", "frames; this worker has no teacher for them, send features")
    assert asker.ask("features", features_request(10, spikes, models.program.features_id)).refusal == 0


def test_spikes_in_the_rate_table_are_answered_under_its_name_alone(
    tmp_path: Path, broker: MemoryBroker, start_worker: StartWorker, asker: Asker
) -> None:
    rated = write_tiny_models(tmp_path, rates="channel")
    model = read_edge(rated.edge)
    plain, coded = plain_id(model.program.features_id), coded_id(model.program.features_id, model.rates)
    spikes = sample(model.rates, seed=3)[0]
    start_worker(CloudModel(rated.cloud))
    with closing(Asker(MemoryLink(broker, "robot-2"), "robot-2")) as late:
        assert late.await_labels().features == (plain, coded)
    packed = bytes([codec.RATES]) + model.rates.encode(spikes)
    expected = asker.ask("features", features_request(1, spikes, model.program.features_id)).logits
    assert asker.ask("features", FeaturesRequest(2, coded, 2, 0, packed)).logits == expected
    assert asker.ask("features", FeaturesRequest(3, coded, 2, 0, codec.encode_spikes(spikes))).logits == expected
    text = "codec 3 needs the rate table of the sender's model; use the cloud.pt and vgg9.pt made together"
    assert refused(asker.ask("features", FeaturesRequest(4, plain, 2, 0, packed))) == (4, "bad-request", text)


def test_each_code_is_read_by_its_own_decoder(tmp_path: Path, start_worker: StartWorker, asker: Asker) -> None:
    several = write_tiny_models(tmp_path, others=[CodeConfig(2, 1), CodeConfig(4, 2)])
    program, (net, _) = several.program, load_cloud(several.cloud, Lif)
    start_worker(CloudModel(several.cloud))
    answers = []
    for index, (features_id, shape) in enumerate(zip(program.features_ids, program.code_shapes, strict=True)):
        code = np.random.default_rng(index).random(shape) < 0.3
        with torch.inference_mode():
            decoded = net.decoders[index](torch.from_numpy(code)[:, None].float())
            expected = net.tail(decoded)[0].numpy()
        assert 0 < decoded.mean() < 1
        answers.append(asker.ask("features", features_request(index + 1, code, features_id)))
        np.testing.assert_array_equal(answers[-1].values(), expected)
    assert len({answer.logits for answer in answers}) == 3


def test_codes_of_one_shape_and_two_decoders_are_no_batch(
    tmp_path: Path, broker: MemoryBroker, start_worker: StartWorker, asker: Asker
) -> None:
    torch.manual_seed(0)
    net = CloudNet(TWO, Lif).eval()
    for decoder in net.decoders:
        torch.nn.init.constant_(decoder.norm.weight, 8.0)
    ids, shape = ("01" * 32, "02" * 32), (2, 4, 4, 4)
    infos = [EncoderInfo(id_[:2], id_, list(shape), decoder=index) for index, id_ in enumerate(ids)]
    path = tmp_path / "two.pt"
    save_cloud(path, net, labels=DIGITS, temperature=1.0, encoders=infos, frame=[2, 1, 16, 16], provenance={})
    model = GatedModel(path)
    worker = start_worker(model)
    code = np.random.default_rng(1).random(shape) < 0.3
    for row, id_ in enumerate((ids[0], *ids * 2), 1):
        asker.send("features", encode(features_request(row, code, id_)))
        if row == 1:
            assert model.at_gate.wait(PATIENCE_S)
    with closing(Asker(MemoryLink(broker, "robot-2"), "robot-2")) as other:  # all that came before is queued then
        other.send("features", b"")
        assert other.reply().reason == "bad-request"
    model.gate.set()
    found = {reply.id: reply.values() for reply in (asker.reply() for _ in range(5))}
    assert worker.stats.to_record()["batches"] == {"1": 1, "2": 2}
    np.testing.assert_allclose([found[2], found[4]], [found[1]] * 2, rtol=1e-5, atol=1e-6)
    assert np.array_equal(found[3], found[5])
    assert not np.allclose(found[1], found[3])


def test_the_same_request_gets_the_same_bits_every_time(
    models: TinyModels, start_worker: StartWorker, asker: Asker, spikes: Spikes
) -> None:
    start_worker()
    answers = {
        asker.ask("features", features_request(i, spikes, models.program.features_id)).logits for i in range(1, 21)
    }
    assert len(answers) == 1


def test_labels_are_announced_at_start_and_after_each_reconnect(
    broker: MemoryBroker, start_worker: StartWorker, asker: Asker, models: TinyModels
) -> None:
    start_worker()
    late = Asker(MemoryLink(broker, "robot-2"), "robot-2")
    labels = late.await_labels()  # retained: also for who comes later
    late.close()
    assert labels.names == DIGITS
    assert labels.labels_id == labels_id(DIGITS)
    assert labels.features == (bytes.fromhex(models.program.features_id)[:4],)
    broker.stop()
    broker.start()
    assert asker.await_labels() == labels


# ---- refusals ----


def test_unknown_features_are_refused_by_name(
    models: TinyModels, start_worker: StartWorker, asker: Asker, spikes: Spikes
) -> None:
    worker = start_worker()
    reply = asker.ask("features", features_request(1, spikes, "00c0ffee" * 8))
    known = models.program.features_id[:8]
    assert refused(reply) == (1, "unknown-features", f"features 00c0ffee; this worker reads {known}")
    assert reply.labels_id == labels_id(DIGITS)
    worker.close()
    assert worker.stats.to_record()["refused"] == {"unknown-features": 1}


def test_spikes_that_do_not_fit_are_refused_with_the_reason(
    models: TinyModels, start_worker: StartWorker, asker: Asker, spikes: Spikes
) -> None:
    start_worker()
    id_ = models.program.features_id
    prefix = bytes.fromhex(id_)[:4]
    steps, *_ = shape = models.program.code_shape
    raw = spikes.size // 8
    table = [
        (features_request(1, spikes, id_, steps=steps + 1), f"{steps + 1} steps of spikes; this encoder has {steps}"),
        (FeaturesRequest(2, prefix, steps, 0, b"\0short"), f"5 raw bytes where {raw} belong"),
        (
            FeaturesRequest(3, prefix, steps, 0, b"\7" + bytes(raw)),
            "codec 7 is unknown; this version reads 0 (raw), 1 (zstd), 2 (bare zstd) and 3 (rate table)",
        ),
        (FeaturesRequest(4, prefix, steps, 0, b"\1" + bytes(9)), "a damaged zstd frame"),
        (features_request(5, np.zeros((*shape, 2), np.bool_), id_, steps=steps), f"bytes where {raw} bytes belong"),
    ]
    for message, text in table:
        reply = asker.ask("features", message)
        assert (reply.id, reply.reason) == (message.id, "bad-request")
        assert text in reply.detail


def test_pixels_that_do_not_fit_are_refused_with_the_reason(start_worker: StartWorker, asker: Asker) -> None:
    start_worker()
    table = [
        (frame_request(1, np.zeros((16, 16, 2), np.uint8)), "this network takes 1 channels, the frame has 2"),
        (
            frame_request(2, np.zeros((3, 16, 16, 1), np.uint8)),
            "a frame with time steps needs 2 of them, this one has 3",
        ),
        (FrameRequest(3, 0, 0, 16, 16, 1, b"\0" + bytes(255)), "255 raw bytes where 256 belong"),
    ]
    for message, text in table:
        reply = asker.ask("frame", message)
        assert (reply.id, reply.reason) == (message.id, "bad-request")
        assert text in reply.detail


def test_an_undecodable_request_is_refused_with_its_id_where_that_can_be_read(
    start_worker: StartWorker, asker: Asker
) -> None:
    start_worker()
    for payload, id_, text in [
        (b"", 0, "not a valid FeaturesRequest: Input data was truncated"),
        (b"\x91\x05", 5, "not a valid FeaturesRequest: "),
        (b"\x92\x05\xc0", 5, "not a valid FeaturesRequest: "),
        (b"\x95\x00\xc4\x04abcd\x02\x00\xc4\x02ab", 0, "Expected `int` >= 1"),
        (b"\xff" * 9, 0, "not a valid FeaturesRequest: "),
        (bytes(300_000), 0, "a FeaturesRequest of 300000 bytes; at most 262144 are allowed"),
    ]:
        asker.send("features", payload)
        reply = asker.reply()
        assert (reply.id, reply.reason, reply.logits) == (id_, "bad-request", b"")
        assert text in reply.detail


def test_a_full_queue_refuses_as_busy_and_what_queued_up_runs_as_one_batch(
    gated: GatedModel, models: TinyModels, start_worker: StartWorker, asker: Asker, spikes: Spikes
) -> None:
    worker = start_worker(gated, queue=5)
    asker.send("features", encode(features_request(1, spikes, models.program.features_id)))
    assert gated.at_gate.wait(PATIENCE_S)  # the first is with the network: the queue is empty again
    for id_ in range(2, 8):
        asker.send("features", encode(features_request(id_, spikes, models.program.features_id)))
    assert refused(asker.reply()) == (7, "busy", "requests waiting: 5")
    gated.gate.set()
    assert [asker.reply().id for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    worker.close()
    assert worker.stats.to_record() == {
        "received": 7,
        "answered": 6,
        "refused": {"busy": 1},
        "dropped": {},
        "batches": {"1": 1, "5": 1},
    }


def test_requests_of_other_kinds_and_shapes_do_not_share_a_batch(
    gated: GatedModel, models: TinyModels, start_worker: StartWorker, asker: Asker, spikes: Spikes
) -> None:
    worker = start_worker(gated, queue=6, max_batch=2)
    features = features_request(1, spikes, models.program.features_id)
    asker.send("features", encode(features))
    assert gated.at_gate.wait(PATIENCE_S)
    still, moving = np.zeros((8, 8, 1), np.uint8), np.zeros((2, 16, 16, 1), np.uint8)
    for name, message in [
        ("frame", frame_request(2, still)),
        ("features", features),
        ("frame", frame_request(3, moving)),
        ("frame", frame_request(4, np.zeros((16, 16, 3), np.uint8))),  # fits the network's size as 2 does
        ("features", features),
        ("features", features),
        ("features", features),  # one too many
    ]:
        asker.send(name, encode(message))
    assert asker.reply().reason == "busy"
    gated.gate.set()
    assert [asker.reply().id for _ in range(7)] == [1, 2, 4, 1, 1, 3, 1]
    worker.close()
    assert worker.stats.to_record()["batches"] == {"1": 3, "2": 2}


def test_bytes_in_the_queue_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "MAX_QUEUED_BYTES", 10)
    queue = requests.RequestQueue(100)
    request = requests.Request(1, "frame", "t", b"123456", (6,), (6,), 0.0, 0.0)
    assert queue.put(request) is None
    assert queue.put(request) == "requests waiting: 1"
    assert queue.take(4) == [request]
    assert queue.put(request) is None


def test_a_request_that_waited_beyond_its_budget_is_expired(
    gated: GatedModel, models: TinyModels, start_worker: StartWorker, asker: Asker, spikes: Spikes
) -> None:
    now = [100.0]
    start_worker(gated, clock=lambda: now[0], queue=3)
    id_ = models.program.features_id
    asker.send("features", encode(features_request(1, spikes, id_, budget_ms=1)))
    assert gated.at_gate.wait(PATIENCE_S)
    for message in (
        features_request(2, spikes, id_, budget_ms=250),
        features_request(3, spikes, id_, budget_ms=251),
        features_request(4, spikes, id_),
        features_request(5, spikes, id_),
    ):
        asker.send("features", encode(message))
    assert asker.reply().reason == "busy"  # number 5: all others are queued
    now[0] = 100.2508
    gated.gate.set()
    replies = {reply.id: reply for reply in (asker.reply() for _ in range(4))}
    assert {id_: reply.reason for id_, reply in replies.items()} == {1: "", 2: "expired", 3: "", 4: ""}
    assert replies[2].detail == "waited 251 ms of 250 ms"


def test_a_stopping_worker_answers_what_is_queued_and_refuses_the_rest(
    gated: GatedModel,
    models: TinyModels,
    start_worker: StartWorker,
    asker: Asker,
    spikes: Spikes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ecc_cloud.worker.DRAIN_S", PATIENCE_S)
    worker = start_worker(gated, queue=2)
    request = encode(features_request(1, spikes, models.program.features_id))
    asker.send("features", request)
    assert gated.at_gate.wait(PATIENCE_S)
    asker.send("features", request)
    asker.send("features", request)
    asker.send("features", request)
    assert asker.reply().reason == "busy"
    closing = threading.Thread(target=worker.close)
    closing.start()
    while True:  # until the worker has noticed that it closes
        asker.send("features", request)
        reply = asker.reply()
        if reply.detail == "the worker is stopping":
            break
    assert reply.reason == "busy"
    gated.gate.set()
    assert [asker.reply().reason for _ in range(3)] == ["", "", ""]
    closing.join(PATIENCE_S)
    assert not worker.alive
    record = worker.stats.to_record()
    assert (record["answered"], record["dropped"]) == (3, {})
    assert record["received"] == record["answered"] + record["refused"]["busy"]


def test_a_worker_that_cannot_finish_in_time_refuses_what_is_queued_and_counts_the_rest(
    gated: GatedModel,
    models: TinyModels,
    start_worker: StartWorker,
    asker: Asker,
    spikes: Spikes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ecc_cloud.worker.DRAIN_S", 0.0)
    worker = start_worker(gated, queue=1)
    request = encode(features_request(1, spikes, models.program.features_id))
    asker.send("features", request)
    assert gated.at_gate.wait(PATIENCE_S)
    asker.send("features", request)
    asker.send("features", request)
    assert refused(asker.reply()) == (1, "busy", "requests waiting: 1")
    worker.close()
    assert refused(asker.reply()) == (1, "busy", "the worker is stopping")
    assert worker.alive  # torch still computes: nothing can stop it
    gated.gate.set()
    worker._thread.join(PATIENCE_S)
    assert worker.stats.to_record() == {
        "received": 3,
        "answered": 0,
        "refused": {"busy": 2},
        "dropped": {"unsent": 1},
        "batches": {"1": 1},
    }


def test_torch_running_out_of_memory_is_refused_and_survived(
    models: TinyModels, start_worker: StartWorker, asker: Asker, spikes: Spikes, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = CloudModel(models.cloud)
    worker = start_worker(model)
    request = features_request(1, spikes, models.program.features_id)

    def fail(_: object, decoder: int) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory\n at line 1")

    with monkeypatch.context() as patch:
        patch.setattr(model._net, "features", fail)
        reply = asker.ask("features", request)
    detail = "torch could not run: DefaultCPUAllocator: can't allocate memory  at line 1"
    assert refused(reply) == (1, "busy", detail)
    assert asker.ask("features", request).refusal == 0
    assert worker.alive


# ---- hostile and broken surroundings ----


def test_requests_of_impossible_devices_are_counted_not_answered(start_worker: StartWorker, asker: Asker) -> None:
    worker = start_worker()
    asker.send("features", b"x", device="Robot_1")
    asker.send("frame", b"x", device="cloud")
    asker.send("frame", b"x")
    assert refused(asker.reply())[:2] == (0, "bad-request")
    worker.close()
    assert worker.stats.to_record()["dropped"] == {"bad-topic": 2}
    assert worker.stats.to_record()["received"] == 3


def test_a_request_that_the_broker_kept_is_counted_not_answered(
    mosquitto, cloud_model: CloudModel, models: TinyModels, spikes: Spikes
) -> None:
    # MQTT 3.1.1 has no shared subscriptions: there, retained messages reach the worker
    asker = Asker(MqttLink(mosquitto.url, "robot-1"), "robot-1")
    asker.send("features", encode(features_request(1, spikes, models.program.features_id)), retain=True)
    worker = Worker(cloud_model, MqttLink(mosquitto.url, "ecc-cloud", version=4))
    worker.start()
    asker.await_labels()
    assert asker.ask("features", features_request(2, spikes, models.program.features_id)).id == 2
    worker.close()
    asker.close()
    record = worker.stats.to_record()
    assert (record["received"], record["answered"], record["dropped"]) == (2, 1, {"retained": 1})


class FullLink(MemoryLink):
    """A link whose window can be full; it says when it did not take a message."""

    full = False

    def __init__(self, broker: MemoryBroker, client_id: str) -> None:
        super().__init__(broker, client_id)
        self.refused = threading.Event()

    def publish(self, topic: str, payload: bytes, **options) -> bool:
        if self.full:
            self.refused.set()
            return False
        return super().publish(topic, payload, **options)


def test_replies_wait_while_the_link_takes_none(
    broker: MemoryBroker, gated: GatedModel, models: TinyModels, asker: Asker, spikes: Spikes
) -> None:
    link = FullLink(broker, "ecc-cloud")
    worker = Worker(gated, link)
    worker.start()
    asker.await_labels()
    asker.send("features", encode(features_request(9, spikes, models.program.features_id)))
    assert gated.at_gate.wait(PATIENCE_S)
    link.full = True
    gated.gate.set()
    assert link.refused.wait(PATIENCE_S)
    link.full = False
    assert asker.reply().id == 9
    worker.close()
    assert worker.stats.to_record()["answered"] == 1


def test_replies_that_no_broker_took_before_the_end_are_counted(
    broker: MemoryBroker, gated: GatedModel, models: TinyModels, asker: Asker, spikes: Spikes
) -> None:
    worker = Worker(gated, MemoryLink(broker, "ecc-cloud"))
    worker.start()
    asker.await_labels()
    asker.send("features", encode(features_request(9, spikes, models.program.features_id)))
    assert gated.at_gate.wait(PATIENCE_S)
    broker.stop()
    gated.gate.set()
    worker.close()
    record = worker.stats.to_record()
    assert (record["received"], record["answered"], record["dropped"]) == (1, 0, {"unsent": 1})


def test_a_worker_that_never_connects_closes_and_accounts_for_nothing(
    broker: MemoryBroker, cloud_model: CloudModel
) -> None:
    broker.stop()
    worker = Worker(cloud_model, MemoryLink(broker, "ecc-cloud"))
    worker.start()
    worker.close()
    assert worker.stats.to_record()["received"] == 0
    assert not worker.alive


@given(st.lists(st.tuples(st.sampled_from(["features", "frame"]), st.binary(max_size=80)), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_all_answered_and_never_kill_the_worker(
    hostile_worker: tuple[Asker, FeaturesRequest], payloads: list[tuple[str, bytes]]
) -> None:
    asker, good = hostile_worker
    for name, payload in payloads:
        asker.send(name, payload)
    assert all(asker.reply().reason in ("bad-request", "unknown-features") for _ in payloads)
    assert asker.ask("features", good).refusal == 0


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_altered_requests_are_all_answered(hostile_worker: tuple[Asker, FeaturesRequest], data: st.DataObject) -> None:
    asker, good = hostile_worker
    name, message = data.draw(
        st.sampled_from([("features", good), ("frame", frame_request(3, np.zeros((16, 16, 1), np.uint8)))])
    )
    payload = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 3))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    asker.send(name, bytes(payload[: data.draw(st.integers(0, len(payload)))] if data.draw(st.booleans()) else payload))
    assert asker.reply().reason in ("", "bad-request", "unknown-features")
    assert asker.ask("features", good).refusal == 0


@pytest.fixture
def hostile_worker(
    models: TinyModels, start_worker: StartWorker, asker: Asker, spikes: Spikes
) -> tuple[Asker, FeaturesRequest]:
    start_worker()
    return asker, features_request(1, spikes, models.program.features_id)


def test_a_zstd_bomb_is_refused_before_it_grows(models: TinyModels, start_worker: StartWorker, asker: Asker) -> None:
    start_worker()
    bomb = b"\1" + zstandard.ZstdCompressor().compress(bytes(1 << 28))
    prefix = bytes.fromhex(models.program.features_id)[:4]
    reply = asker.ask("features", FeaturesRequest(1, prefix, models.program.steps, 0, bomb))
    assert "declares 268435456 bytes" in reply.detail
    assert codec.MAX_SPIKES < 1 << 28
