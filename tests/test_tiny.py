"""The smallest test of everything: recording, device, link, worker, buffer, and the same results twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecc_broker import codec
from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_cloud.model import CloudModel
from ecc_cloud.worker import Worker
from ecc_device.clock import VirtualClock
from ecc_device.device import Device, DeviceConfig
from ecc_device.engines import NumpyEngine, ReferenceEngine
from ecc_device.player import play, write_results
from ecc_device.schema import ROW_OVERHEAD_BYTES
from ecc_device.sources import open_source, save_npz
from ecc_device.store import Row, Store
from ecc_model import bits
from support.models import DIGITS, TinyModels, write_tiny_models

FRAMES = 20


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return write_tiny_models(tmp_path_factory.mktemp("models"), threshold=0.5)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "stream.npz"
    frames = np.random.default_rng(0).integers(0, 256, (FRAMES, 16, 16, 1), np.uint8)
    labels = np.arange(FRAMES) % len(DIGITS)
    save_npz(path, frames, labels=labels, names=DIGITS, times=np.arange(FRAMES) / 10)
    return path


@pytest.fixture
def worker(models: TinyModels) -> Iterator[tuple[Worker, MemoryBroker]]:
    broker = MemoryBroker()
    worker = Worker(CloudModel(models.cloud), MemoryLink(broker, "ecc-cloud-0"))
    worker.start()
    yield worker, broker
    worker.close()


def replay(models: TinyModels, recording: Path, broker: MemoryBroker | None, folder: Path) -> dict[str, Any]:
    """What `ecc-device replay` does; its summary."""
    clock = VirtualClock()
    config = DeviceConfig(model=models.edge, state=folder / "state", patience_s=60.0)
    device = Device(config, clock=clock, link=None if broker is None else MemoryLink(broker, "device"))
    device.start(watch=False)
    try:
        results = play(open_source(str(recording)), device, clock)
        return write_results(folder / "results.jsonl", results, lambda: None).summary()
    finally:
        device.close()


def read(folder: Path) -> tuple[list[dict[str, Any]], Store]:
    records = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    return records, Store.open(folder / "state", read_only=True)


def test_frames_go_up_and_answers_come_back_and_are_kept(
    models: TinyModels, recording: Path, worker: tuple[Worker, MemoryBroker], tmp_path: Path
) -> None:
    summary = replay(models, recording, worker[1], tmp_path)
    records, store = read(tmp_path)
    with store:
        kept = store.summary()
        rows = {row.id: row for row in store.labelled(bytes.fromhex(models.program.features_id))}
    asked = [record for record in records if record["cloud"] is not None]

    # some frames go up and some do not, and everybody counts alike
    assert 0 < len(asked) < FRAMES
    assert summary["uploads"] == len(asked)
    assert kept.counts == {"answered": len(asked), "sent": len(asked)}
    worker[0].close()
    stats = worker[0].stats.to_record()
    assert (stats["received"], stats["answered"]) == (len(asked), len(asked))
    assert kept.drops == {}

    # every one of them is a row: its spikes, its answer, its bytes in the buffer
    assert kept.rows == {"waiting": 0, "labelled": len(asked), "learnt": 0}
    assert len(asked) == len(rows)
    split_bytes = -(-int(np.prod(models.program.split_shape)) // 8)
    assert kept.bytes_used == len(asked) * (split_bytes + 4 * len(DIGITS) + ROW_OVERHEAD_BYTES)
    frames = {frame.index: frame for frame in open_source(str(recording))}
    for record, number in zip(asked, sorted(rows), strict=True):
        pixels = frames[record["frame"]].pixels
        assert_row(rows[number], record, ReferenceEngine(models.program).head(pixels))
    code_bytes = -(-int(np.prod(models.program.code_shape)) // 8)
    assert code_bytes < summary["bytes_per_upload"] <= code_bytes + 24

    # the rest was answered here
    for record in records:
        if record["cloud"] is None:
            assert (record["stands"], record["why"], record["uploaded"]) == ("edge", "confident", False)
            assert record["score"] <= record["threshold"]
        assert record["label"] == record[record["stands"]]["label"]


def assert_row(row: Row, record: dict[str, Any], split: np.ndarray) -> None:
    assert row.bits == bits.pack(split)
    assert (row.time_s, row.edge_label, row.sent) == (record["time_s"], record["edge"]["label"], 1)
    logits = codec.decode_logits(row.logits or b"")
    assert DIGITS[int(logits.argmax())] == record["cloud"]["label"]


def test_the_same_recording_gives_the_same_bytes(
    models: TinyModels, recording: Path, worker: tuple[Worker, MemoryBroker], tmp_path: Path
) -> None:
    written = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        replay(models, recording, worker[1], tmp_path / name)
        written.append((tmp_path / name / "results.jsonl").read_bytes())
    assert written[0] == written[1]


def test_alone_the_edge_answers_the_same(
    models: TinyModels, recording: Path, worker: tuple[Worker, MemoryBroker], tmp_path: Path
) -> None:
    for name, broker in (("alone", None), ("together", worker[1])):
        (tmp_path / name).mkdir()
        replay(models, recording, broker, tmp_path / name)
    alone, store = read(tmp_path / "alone")
    with store:
        waiting = store.summary().rows["waiting"]
    together, store = read(tmp_path / "together")
    store.close()
    assert [record["edge"] for record in alone] == [record["edge"] for record in together]
    assert {record["why"] for record in alone} == {"confident", "offline"}
    assert waiting == sum(record["uploaded"] for record in together)


def test_engines_agree_on_the_recording(models: TinyModels, recording: Path) -> None:
    fast, slow = NumpyEngine(models.program), ReferenceEngine(models.program)
    for frame in open_source(str(recording)):
        split = slow.head(frame.pixels)
        np.testing.assert_array_equal(fast.head(frame.pixels), split)
        np.testing.assert_array_equal(fast.exit(split), slow.exit(split))
        np.testing.assert_array_equal(fast.encode(split), slow.encode(split))
