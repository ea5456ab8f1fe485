"""Leading time steps first, the rest where they leave too much open: the worker's side."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from ecc_broker import codec
from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_broker.messages import FeaturesRequest, Leading, Reply
from ecc_cloud.model import CloudModel
from ecc_cloud.requests import Request
from ecc_cloud.started import StartedCodes
from ecc_cloud.worker import Worker, announcement
from ecc_model.errors import ModelCorrupt
from ecc_model.modelfile import LeadingInfo, read_edge
from ecc_model.numerics import margin, softmax
from ecc_model.rates import coded_id, plain_id
from support.asker import Asker, StartWorker
from support.models import CONFIG, TinyModels, write_tiny_models
from support.rate_tables import sample

STEPS, LEADING = 3, 1
INFO = LeadingInfo(steps=LEADING, margin=0.5, temperature=1.0, more=0.27)
UNSURE, SURE = 1.0, 0.0  # margins that no answer has, and that every answer has


def write(folder: Path, **changes: float) -> TinyModels:
    config = msgspec.structs.replace(CONFIG, steps=STEPS)
    return write_tiny_models(folder, config=config, rates="channel", leading=msgspec.structs.replace(INFO, **changes))


@pytest.fixture(scope="module")
def unsure(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return write(tmp_path_factory.mktemp("unsure"), margin=UNSURE)


@pytest.fixture(scope="module")
def sure(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return write(tmp_path_factory.mktemp("sure"), margin=SURE, temperature=2.0)


class Asking:
    """The messages about one code under its coded name."""

    def __init__(self, models: TinyModels, seed: int = 3) -> None:
        model = read_edge(models.edge)
        assert model.rates is not None
        self.table, self.code = model.rates, sample(model.rates, seed)[0]
        self.plain, self.name = plain_id(model.program.features_id), coded_id(model.program.features_id, model.rates)

    def whole(self, id_: int) -> FeaturesRequest:
        return FeaturesRequest(id_, self.name, STEPS, 0, codec.encode_spikes(self.code, self.table))

    def first(self, id_: int, steps: int = LEADING) -> FeaturesRequest:
        return FeaturesRequest(id_, self.name, steps, 0, codec.encode_spikes(self.code[:steps], self.table))

    def rest(self, id_: int, known: int = LEADING) -> FeaturesRequest:
        spikes = codec.encode_spikes(self.code, self.table, known=known)
        return FeaturesRequest(id_, self.name, STEPS - known, 0, spikes, known)


def said(reply: Reply) -> tuple[int, str, str]:
    return reply.id, reply.reason, reply.detail


def test_the_rest_is_asked_for_and_the_whole_code_is_answered_bit_for_bit(
    unsure: TinyModels, start_worker: StartWorker, asker: Asker
) -> None:
    worker, asking = start_worker(CloudModel(unsure.cloud)), Asking(unsure)
    expected = asker.ask("features", asking.whole(1)).logits
    assert said(asker.ask("features", asking.first(2))) == (2, "more-steps", "")
    assert asker.ask("features", asking.rest(2)).logits == expected
    assert asker.ask("features", asking.rest(2)).logits == expected, "the rest may come twice"
    assert said(asker.ask("features", asking.first(2))) == (2, "more-steps", "")
    worker.close()
    record = worker.stats.to_record()
    assert (record["answered"], record["refused"], record["received"]) == (3, {"more-steps": 2}, 5)


def test_sure_leading_steps_are_answered_at_once_at_their_own_temperature(
    sure: TinyModels, start_worker: StartWorker, asker: Asker
) -> None:
    model, asking = CloudModel(sure.cloud), Asking(sure)
    start_worker(model)
    reply = asker.ask("features", asking.first(5))
    np.testing.assert_array_equal(reply.values(), model.features([asking.code[:LEADING]])[0] / np.float32(2.0))
    assert not np.array_equal(reply.values(), asker.ask("features", asking.whole(6)).values())
    plain = FeaturesRequest(7, asking.plain, LEADING, 0, codec.encode_spikes(asking.code[:LEADING]))
    assert asker.ask("features", plain).logits == reply.logits


def test_steps_that_are_not_there_are_silent_to_the_tail(sure: TinyModels) -> None:
    model, code = CloudModel(sure.cloud), Asking(sure).code
    with torch.inference_mode():
        decoded = model._net.decoder(torch.from_numpy(code)[:, None].float())
        assert decoded[:LEADING].any()
        assert decoded[LEADING:].any()
        decoded[LEADING:] = 0.0
        expected = model._net.tail(decoded).numpy()
    np.testing.assert_allclose(model.features([code[:LEADING]]), expected, rtol=1e-5, atol=1e-6)


def test_the_margin_decides(tmp_path: Path, broker: MemoryBroker, start_worker: StartWorker, asker: Asker) -> None:
    probe = Asking(write(tmp_path))
    model = CloudModel(tmp_path / "cloud.pt")
    codes = [sample(probe.table, seed)[0][:LEADING] for seed in range(20)]
    margins = [margin(softmax(row.tolist())) for row in model.features(codes)]
    limit = float(np.median(margins))
    start_worker(CloudModel(write(tmp_path, margin=limit).cloud))
    for seed, found in enumerate(margins):
        reply = asker.ask("features", Asking(TinyModels(tmp_path / "vgg9.pt", tmp_path, None), seed).first(seed + 1))
        assert (reply.reason == "more-steps") == (found < limit)
    assert min(margins) < limit <= max(margins)


def test_a_worker_without_the_leading_steps_says_so(
    unsure: TinyModels, broker: MemoryBroker, start_worker: StartWorker, asker: Asker
) -> None:
    asking = Asking(unsure)
    first = start_worker(CloudModel(unsure.cloud))
    assert said(asker.ask("features", asking.rest(1)))[:2] == (1, "unknown-steps")
    assert asker.ask("features", asking.first(1)).reason == "more-steps"
    assert asker.ask("features", asking.rest(2)).reason == "unknown-steps", "another frame's steps are not taken"
    with closing(Asker(MemoryLink(broker, "robot-2"), "robot-2")) as other:
        assert other.ask("features", asking.rest(1)).reason == "unknown-steps", "nor another device's"
    first.close()
    start_worker(CloudModel(unsure.cloud))
    expected = (1, "unknown-steps", "the steps before these are not here; send all")
    assert said(asker.ask("features", asking.rest(1))) == expected, "a worker that was restarted"
    assert asker.ask("features", asking.whole(1)).refusal == 0


def test_other_numbers_of_steps_are_bad_requests(unsure: TinyModels, start_worker: StartWorker, asker: Asker) -> None:
    start_worker(CloudModel(unsure.cloud))
    asking = Asking(unsure)
    for message, text in [
        (asking.first(1, 2), "2 steps of spikes; this encoder has 3"),
        (asking.rest(2, 2), "1 steps of spikes behind 2; this encoder has 3"),
        (msgspec.structs.replace(asking.rest(3), steps=3), "3 steps of spikes behind 1; this encoder has 3"),
    ]:
        assert said(asker.ask("features", message)) == (message.id, "bad-request", text)


def test_a_worker_that_knows_no_leading_steps_refuses_them(
    tmp_path: Path, start_worker: StartWorker, asker: Asker
) -> None:
    config = msgspec.structs.replace(CONFIG, steps=STEPS)
    models = write_tiny_models(tmp_path, config=config, rates="channel")
    start_worker(CloudModel(models.cloud))
    for message in (Asking(models).first(1), Asking(models).rest(2)):
        assert asker.ask("features", message).reason == "bad-request"


def test_what_is_announced(unsure: TinyModels, models: TinyModels, tmp_path: Path) -> None:
    model = CloudModel(unsure.cloud)
    labels = announcement(model)
    assert labels.features == (Asking(unsure).plain, Asking(unsure).name)
    assert labels.leading == (Leading(LEADING, 27),) * 2
    assert announcement(CloudModel(models.cloud)).leading == ()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"steps": 3}, "it answers 3 of 3 steps alone, with margin 0.5, temperature 1, share 0.27"),
        ({"steps": 0}, "it answers 0 of 3 steps alone"),
        ({"margin": -0.1}, "with margin -0.1"),
        ({"temperature": 0.0}, "temperature 0,"),
        ({"more": 1.5}, "share 1.5"),
    ],
)
def test_leading_steps_that_cannot_be_are_refused(tmp_path: Path, changes: dict[str, float], text: str) -> None:
    with pytest.raises(ModelCorrupt) as caught:
        CloudModel(write(tmp_path, **changes).cloud)
    assert text in str(caught.value)


def request(id_: int, known: int = 0) -> Request:
    return Request(id_, "features", "topic", b"", (), (), 0.0, 0.0, None, b"abcd", None, known)


def test_started_codes_are_bounded_in_number_and_bytes() -> None:
    spikes = np.ones((2, 4, 4, 4), np.bool_)  # 128 bytes
    kept = StartedCodes(max_codes=3, max_bytes=10**6)
    for id_ in range(1, 6):
        kept.keep(request(id_), spikes)
    assert [kept.find(request(id_, 2)) is not None for id_ in range(1, 6)] == [False, False, True, True, True]
    assert kept.find(request(5, 1)) is None, "another number of steps"
    small = StartedCodes(max_codes=100, max_bytes=300)
    for _ in range(5):  # the same one takes its room once
        small.keep(request(1), spikes)
    small.keep(request(2), spikes)
    assert small.find(request(1, 2)) is spikes
    small.keep(request(3), spikes)
    assert small.find(request(1, 2)) is None
    assert small.find(request(2, 2)) is spikes


def test_a_flood_of_leading_steps_evicts_and_the_device_hears_of_it(
    unsure: TinyModels, broker: MemoryBroker, asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StartedCodes.__init__, "__defaults__", (2, 10**6))
    with closing(Worker(CloudModel(unsure.cloud), MemoryLink(broker, "worker"))) as worker:
        worker.start()
        asker.await_labels()
        asking = Asking(unsure)
        for id_ in (1, 2, 3):
            assert asker.ask("features", asking.first(id_)).reason == "more-steps"
        assert [asker.ask("features", asking.rest(id_)).reason for id_ in (1, 2, 3)] == ["unknown-steps", "", ""]
