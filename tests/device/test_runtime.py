"""One frame through the device: the edge answers whatever cloud and disk do, models change between frames."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecc_device import runtime
from ecc_device.device import Device, DeviceConfig
from ecc_device.filters import FILTERS
from ecc_device.frame import Frame
from ecc_device.results import WHY, Result
from ecc_device.sources import save_npz
from ecc_device.store import Store
from ecc_model import bits
from ecc_model.errors import DeviceError, FrameError
from ecc_model.modelfile import read_edge
from support.models import TinyModels, write_tiny_models
from support.workers import PATIENCE_S, World, answer, frames, row_of, silent

FRAME = frames(1)[0]
ROW_BYTES = 128  # of the small model: 32 of spikes, 96 around them
CHILD = Path(__file__).with_name("full_disk_child.py")


@pytest.fixture
def alone(models: TinyModels, tmp_path: Path) -> Iterator[Callable[..., Device]]:
    """Starts devices without a link, each in a folder of its own."""
    started: list[Device] = []

    def start(**options: object) -> Device:
        config = DeviceConfig(**{"model": models.edge, "state": tmp_path / f"alone{len(started)}"} | options)
        started.append(Device(config).start(watch=False))
        return started[-1]

    yield start
    for device in started:
        device.close()


def test_a_sure_frame_is_neither_stored_nor_sent(world: World) -> None:
    device = world.device(filter="edge-only")
    result = device.runtime.classify(FRAME)
    assert (result.stands, result.why, result.row, result.cloud) == ("edge", "confident", None, None)
    assert (result.bytes_sent, result.bytes_received, result.score) == (0, 0, -1.0)
    world.settle(device)
    assert world.worker.received == []
    assert device.store.summary().rows == {"waiting": 0, "labelled": 0, "learnt": 0}
    assert (device.runtime.status()["frames"], device.runtime.status()["uploads"]) == (1, 0)


def test_the_answer_is_the_integer_programs(alone: Callable[..., Device], models: TinyModels) -> None:
    device = alone()
    model = read_edge(models.edge)
    engine = device.runtime.engine
    result = device.runtime.classify(FRAME)
    split = engine.head(FRAME.pixels)
    assert result.edge.labels == model.labels
    assert result.edge.label == model.labels[int(np.argmax(engine.exit(split)))]
    row = row_of(device, result.row)
    np.testing.assert_array_equal(bits.unpack(row.bits, model.program.split_shape), split)
    assert (row.time_s, row.edge_label) == (FRAME.time_s, result.edge.label)


@pytest.mark.parametrize("name", FILTERS)
def test_every_filter_decides_by_its_score_and_its_threshold(alone: Callable[..., Device], name: str) -> None:
    device = alone(filter=name)
    for frame in frames(20):
        result = device.runtime.classify(frame)
        assert result.threshold == device.runtime.status()["threshold"]
        assert result.ambiguous == (result.score > result.threshold)
        assert result.why == ("offline" if result.ambiguous else "confident")
        assert (result.row is not None) == result.ambiguous


def test_a_worker_that_never_answers_costs_the_deadline_and_no_more(world: World) -> None:
    world.worker.script = silent
    device = world.device(deadline_s=0.05)
    results = [device.runtime.classify(frame) for frame in frames(5)]
    assert [(result.stands, result.why) for result in results] == [("edge", "deadline")] * 5
    assert all(result.latency_s >= 0.05 for result in results)
    assert [request.budget_ms <= 50 for request in world.worker.wait_for(5)] == [True] * 5
    assert device.runtime.status()["uploads"] == 5
    assert {row_of(device, result.row).state for result in results} == {"waiting"}


def test_a_call_may_have_a_deadline_of_its_own(world: World) -> None:
    world.worker.script = silent
    device = world.device(deadline_s=PATIENCE_S)
    assert device.runtime.classify(FRAME, 0.0).why == "deadline"
    assert world.worker.wait_for(1)[0].budget_ms == 1


@pytest.mark.parametrize(
    ("pixels", "text"),
    [
        (np.zeros((16, 16, 2), np.uint8), "this network takes 1 channels, the frame has 2"),
        (np.zeros((3, 16, 16, 1), np.uint8), "a frame with time steps needs 2 of them, this one has 3"),
        (np.zeros((16, 16, 1), np.float32), "frames are uint8 arrays, this one is float32"),
        (np.zeros(16, np.uint8), "a frame has shape (H, W), (H, W, C) or (T, H, W, C), this one (16,)"),
    ],
)
def test_a_frame_that_does_not_fit_is_told_and_the_next_one_works(
    alone: Callable[..., Device], pixels: np.ndarray, text: str
) -> None:
    device = alone()
    with pytest.raises(FrameError) as caught:
        device.runtime.classify(Frame(0, 0.0, pixels, None))
    assert text in str(caught.value)
    assert device.runtime.classify(FRAME).row == 1


def test_alone_it_works_and_says_so_once(alone: Callable[..., Device], caplog: pytest.LogCaptureFixture) -> None:
    device = alone()
    assert {device.runtime.classify(frame).why for frame in frames(10)} == {"offline"}
    assert [record.getMessage() for record in caplog.records] == ["offline: no broker given; working alone"]
    assert device.runtime.status()["health"] == {"offline": "no broker given; working alone"}
    assert device.store.summary().rows["waiting"] == 10


def test_late_answers_are_remembered_for_the_newest_frames_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "REMEMBERED", 20)
    world.broker.stop()
    device = world.device(ready=False)
    corrections: queue.Queue[Result] = queue.Queue()
    device.runtime.on_result(corrections.put)
    results = [device.runtime.classify(replace(FRAME, index=index)) for index in range(23)]
    world.broker.start()
    world.worker.wait_for(len(results))
    world.settle(device)
    corrected = list(corrections.queue)
    assert [result.frame for result in corrected] == list(range(3, 23))
    assert device.store.summary().rows["labelled"] == len(results)
    assert {result.why for result in corrected} <= {"cloud answered", "cloud less sure"}


# ---- models that change ----


def test_a_swap_falls_between_two_frames(world: World, tmp_path: Path) -> None:
    """The frame under way ends with the model that it began with; each result names its model."""
    (tmp_path / "other").mkdir()
    other = read_edge(write_tiny_models(tmp_path / "other", seed=7, threshold=1.0).edge)
    world.worker.script = silent
    device = world.device()
    results: queue.Queue[Result] = queue.Queue()
    thread = threading.Thread(target=lambda: results.put(device.runtime.classify(FRAME)))
    thread.start()
    request = world.worker.wait_for(1)[0]
    device.runtime.swap(other, 2)
    world.worker.reply(answer(request.id))
    first = results.get(timeout=PATIENCE_S)
    thread.join()
    second = device.runtime.classify(FRAME)
    assert (first.model_no, first.threshold, first.why) == (1, 0.0, "cloud answered")
    assert (second.model_no, second.threshold, second.why) == (2, 1.0, "confident")
    assert first.edge.probabilities != second.edge.probabilities
    assert device.runtime.status()["model_no"] == 2


def test_swaps_while_frames_run_never_mix_two_models(alone: Callable[..., Device], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = read_edge(write_tiny_models(tmp_path / "other", seed=7, threshold=0.0).edge)
    device = alone()
    own = device.runtime.model
    expected = {1: device.runtime.classify(FRAME).edge}
    device.runtime.swap(other, 2)
    expected[2] = device.runtime.classify(FRAME).edge
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            device.runtime.swap(own, 1)
            device.runtime.swap(other, 2)

    thread = threading.Thread(target=swap)
    thread.start()
    seen = [device.runtime.classify(FRAME) for _ in range(100)]
    done.set()
    thread.join()
    assert all(result.edge == expected[result.model_no] for result in seen)
    for result in seen:
        program = (own if result.model_no == 1 else other).program
        assert row_of(device, result.row).features_id.hex() == program.features_id


@pytest.mark.parametrize("name", ["margin", "novelty", "entropy+novelty"])
def test_a_swap_fits_the_filter_to_the_new_models_known_rows(
    alone: Callable[..., Device], tmp_path: Path, name: str
) -> None:
    (tmp_path / "other").mkdir()
    other = read_edge(write_tiny_models(tmp_path / "other", seed=7).edge)
    device, fresh = alone(filter=name), alone(filter=name, model=other.path)
    before = device.runtime.classify(FRAME)
    device.runtime.swap(other, 2)
    after, expected = device.runtime.classify(FRAME), fresh.runtime.classify(FRAME)
    assert (after.score, after.threshold) == (expected.score, expected.threshold)
    assert (before.score, before.threshold) != (after.score, after.threshold)


def test_a_model_with_other_features_asks_for_its_own_rows_only(world: World, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = read_edge(write_tiny_models(tmp_path / "other", seed=7, threshold=0.0).edge)
    device = world.device()
    device.runtime.classify(FRAME)
    device.runtime.swap(other, 2)
    result = device.runtime.classify(FRAME)
    assert result.why == "incompatible"
    assert len(world.worker.received) == 1
    world.worker.announce([bytes.fromhex(other.program.features_id)[:4]])
    asked = world.worker.wait_for(2)[1]
    assert (asked.id, asked.features_id.hex()) == (result.row, other.program.features_id[:8])


# ---- events ----


def test_events_reach_every_listener_and_only_known_ones(alone: Callable[..., Device]) -> None:
    device = alone()
    heard: list[str] = []
    device.runtime.on_event(heard.append)
    device.runtime.notify("undocked")
    with pytest.raises(DeviceError, match="'lunch' is not an event; a device knows: charging, undocked, offline, onl"):
        device.runtime.notify("lunch")
    assert heard == ["undocked"]


# ---- a buffer or disk without room ----


def test_a_row_larger_than_the_buffer_is_said_in_the_result(world: World, caplog: pytest.LogCaptureFixture) -> None:
    device = world.device(max_bytes=ROW_BYTES - 1)
    result = device.runtime.classify(FRAME)
    assert (result.stands, result.why, result.row) == ("edge", "buffer-too-small", None)
    assert result.why in WHY
    assert device.store.drops() == {"buffer-too-small": 1}
    assert world.worker.received == []
    assert caplog.records == []


def test_a_full_buffer_lets_the_oldest_go_and_counts_them(alone: Callable[..., Device]) -> None:
    device = alone(max_bytes=5 * ROW_BYTES)
    rows = [device.runtime.classify(frame).row for frame in frames(12)]
    assert rows == list(range(1, 13))
    assert [row.id for row in device.store.waiting(100, bytes.fromhex(device.runtime.model.program.features_id))] == [
        8,
        9,
        10,
        11,
        12,
    ]
    assert device.store.drops() == {"evicted-waiting": 7}


def test_a_full_disk_costs_rows_but_no_answer_and_recovers(
    models: TinyModels, tmp_path: Path, small_disk: Callable[[str], list[str]]
) -> None:
    """A file system of 4 MiB that fills while the device runs, until somebody makes room after frame 400."""
    pixels = np.stack([frame.pixels for frame in frames(600)])
    save_npz(tmp_path / "stream.npz", pixels)
    fill = "mkdir $D/state && head -c 3900000 /dev/zero > $D/ballast"
    run = f"{sys.executable} {CHILD} {models.edge} $D/state {tmp_path}/stream.npz 400"
    shell = f"{fill} && {run}; code=$?; cp -r $D/state {tmp_path}/kept; exit $code"
    done = subprocess.run(small_disk(shell), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    *lines, (waiting, drops) = [json.loads(line) for line in done.stdout.splitlines()]
    with Device(DeviceConfig(model=models.edge, state=tmp_path / "plenty")) as device:
        labels = [device.runtime.classify(frame).label for frame in frames(600)]
    assert [line[0] for line in lines] == labels, "every frame is answered, and the same way as with room"
    whys = [line[1] for line in lines]
    assert set(whys) == {"offline", "disk-full"}
    lost = whys.count("disk-full")
    assert whys[0] == "offline"
    assert whys[401:] == ["offline"] * 199, "rows are stored again as soon as there is room"
    assert drops == {"disk-full": lost}
    assert waiting == 600 - lost
    sentence = "the disk is full; free some space, rows are stored again once there is room"
    assert {line[3].split(": ", 1)[1] for line in lines if line[1] == "disk-full"} == {sentence}
    assert {line[3] for line in lines[401:]} == {""}
    warnings = done.stderr.splitlines()
    assert warnings[0] == "offline: no broker given; working alone"
    assert [line for line in warnings[1:] if not line.endswith(sentence)] == []
    assert len(warnings) == 2
    with Store.open(tmp_path / "kept") as store:
        assert [row.id for row in store.waiting(1000, bytes.fromhex(models.program.features_id))] == [
            line[2] for line in lines if line[2] is not None
        ]
