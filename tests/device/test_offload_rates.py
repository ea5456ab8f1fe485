"""Spikes go with the model's rate table to workers that have the same one, and plainly to all others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecc_broker import codec
from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_broker.messages import FeaturesRequest
from ecc_cloud.model import CloudModel
from ecc_cloud.worker import Worker
from ecc_device.device import Device, DeviceConfig
from ecc_model.modelfile import read_edge
from ecc_model.rates import coded_id, plain_id
from support.models import write_tiny_models
from support.rate_tables import rate_table
from support.workers import PATIENCE_S, ScriptedWorker, frames, sure

KIND = "channel+step"
FRAMES = frames(12)


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """Models whose files hold one rate table. All frames go up."""
    return write_tiny_models(tmp_path_factory.mktemp("rated"), threshold=0.0, rates=KIND)


def names(models):
    """What a worker of these models reads: the plain name, the coded one."""
    model = read_edge(models.edge)
    return plain_id(model.program.features_id), coded_id(model.program.features_id, model.rates)


def requests(models, read, state: Path):
    """What a device sends for `FRAMES` to a worker that announces the names `read`, and the codes it should send."""
    broker = MemoryBroker()
    worker = ScriptedWorker(MemoryLink(broker, "worker"), list(read), sure).start()
    device = Device(
        DeviceConfig(model=models.edge, state=state, deadline_s=PATIENCE_S), link=MemoryLink(broker, "device")
    )
    device.start(watch=False)
    try:
        assert device.offload.wait_ready(PATIENCE_S)
        assert {device.runtime.classify(frame).stands for frame in FRAMES} == {"cloud"}
        engine = device.runtime.engine
        return worker.received, [engine.encode(engine.head(frame.pixels)) for frame in FRAMES]
    finally:
        device.close()
        worker.close()


def test_a_worker_with_the_same_table_gets_spikes_coded_with_it(rated, tmp_path):
    plain, coded = names(rated)
    sent, codes = requests(rated, [plain, coded], tmp_path)
    table = read_edge(rated.edge).rates
    assert {request.features_id for request in sent} == {coded}
    assert 3 in {request.spikes[0] for request in sent}
    for request, code in zip(sent, codes, strict=True):
        assert isinstance(request, FeaturesRequest)
        np.testing.assert_array_equal(codec.decode_spikes(request.spikes, code.shape, table), code)


def test_a_worker_without_it_gets_plain_spikes(rated, tmp_path):
    plain, _ = names(rated)
    sent, codes = requests(rated, [plain], tmp_path)
    assert {request.features_id for request in sent} == {plain}
    assert {request.spikes[0] for request in sent} <= {0, 1}
    for request, code in zip(sent, codes, strict=True):
        np.testing.assert_array_equal(codec.decode_spikes(request.spikes, code.shape), code)


def test_a_worker_with_another_table_is_not_sent_spikes_in_ours(rated, tmp_path):
    plain, _ = names(rated)
    model = read_edge(rated.edge)
    other = coded_id(model.program.features_id, rate_table(KIND, model.program.code_shape, seed=77))
    sent, _ = requests(rated, [other, plain], tmp_path)
    assert {request.features_id for request in sent} == {plain}


def test_a_worker_of_the_same_models_answers_both_ways_alike(rated, tmp_path):
    """The device's own worker, once with its table and once as if it had none."""
    answers, sizes = [], []
    for forget in (False, True):
        model = CloudModel(rated.cloud)
        if forget:
            del model.encoders[names(rated)[1]]
        broker = MemoryBroker()
        worker = Worker(model, MemoryLink(broker, "worker"))
        worker.start()
        config = DeviceConfig(model=rated.edge, state=tmp_path / str(forget), deadline_s=PATIENCE_S)
        device = Device(config, link=MemoryLink(broker, "device")).start(watch=False)
        try:
            assert device.offload.wait_ready(PATIENCE_S)
            results = [device.runtime.classify(frame) for frame in FRAMES]
        finally:
            device.close()
            worker.close()
        assert all(result.cloud is not None for result in results)
        answers.append([result.cloud for result in results])
        sizes.append(sum(result.bytes_sent for result in results))
    assert answers[0] == answers[1]
    assert sizes[0] < sizes[1]
