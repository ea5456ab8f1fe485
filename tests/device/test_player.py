"""Replays: the recording's time, the same bytes each time, an end that is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from replay_child import replay

from ecc_device import player
from ecc_device.clock import VirtualClock
from ecc_device.device import Device, DeviceConfig
from ecc_device.frame import Frame
from ecc_device.player import Tally, percentiles_ms, play, read_live, write_results
from ecc_device.results import Result, make_answer
from ecc_device.sources import NpzRecording, save_npz
from ecc_model.errors import DeviceError, EccError, LinkError, SourceError
from support.models import DIGITS, TinyModels
from support.workers import PATIENCE_S, World, frames, silent

CHILD = Path(__file__).with_name("replay_child.py")


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    """Sixty labelled frames with times of their own."""
    path = tmp_path / "stream.npz"
    pixels = np.stack([frame.pixels for frame in frames(60)])
    save_npz(path, pixels, np.arange(60) % 10, DIGITS, np.arange(60) * 0.25)
    return path


def result(frame: int = 0, label: int = 0, bytes_sent: int = 0, latency_s: float = 0.001) -> Result:
    logits = [0.0] * 6
    logits[label] = 5.0
    edge = make_answer(logits, DIGITS[:6], 1.0)
    values = (0.5, 0.4, None, bytes_sent, 0, 1, latency_s)
    return Result(frame, frame / 10, edge, None, "edge", "confident", *values)


# ---- counting ----


def test_a_tally_counts_frames_uploads_and_right_answers() -> None:
    tally = Tally()
    for frame, (label, truth, bytes_sent) in enumerate([(0, "0", 0), (1, "2", 30), (2, "2", 40), (3, None, 0)]):
        tally.add(result(frame, label, bytes_sent, 0.001 * (frame + 1)), truth)
    assert tally.summary() == {
        "frames": 4,
        "uploads": 2,
        "upload_rate": 0.5,
        "edge_accuracy": 2 / 3,
        "collab_accuracy": 2 / 3,
        "bytes_per_upload": 35.0,
        "latency_ms": {"p50": 3.0, "p95": 4.0, "p99": 4.0},
        "upload_latency_ms": {"p50": 3.0, "p95": 3.0, "p99": 3.0},
    }


def test_a_tally_of_nothing_has_no_accuracy_and_no_latency() -> None:
    summary = Tally().summary()
    assert (summary["edge_accuracy"], summary["collab_accuracy"], summary["upload_rate"]) == (None, None, 0.0)
    assert (summary["latency_ms"], summary["bytes_per_upload"]) == ({}, 0.0)


def test_a_device_that_runs_for_weeks_keeps_its_newest_latencies_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "KEPT_LATENCIES", 100)
    tally = Tally()
    for frame in range(1000):
        tally.add(result(frame, bytes_sent=1, latency_s=float(frame)), None)
    assert (tally.frames, tally.uploads, tally.bytes_sent) == (1000, 1000, 1000)
    assert list(tally.latencies_s) == list(tally.upload_latencies_s) == [float(frame) for frame in range(900, 1000)]


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentiles_ms([k / 1000 for k in range(100, 0, -1)]) == {"p50": 51.0, "p95": 96.0, "p99": 100.0}
    assert percentiles_ms([0.002]) == {"p50": 2.0, "p95": 2.0, "p99": 2.0}


# ---- replays ----


def test_two_replays_write_the_same_bytes_in_other_processes_too(
    models: TinyModels, tmp_path: Path, stream: Path
) -> None:
    for name in ("one", "two"):
        replay(models.edge.parent, stream, tmp_path / name, tmp_path / f"{name}.jsonl")
    command = [
        sys.executable,
        str(CHILD),
        *map(str, (models.edge.parent, stream, tmp_path / "3", tmp_path / "3.jsonl")),
    ]
    environment = {**os.environ, "PYTHONPATH": str(CHILD.parents[1]), "PYTHONHASHSEED": "7"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    written = (tmp_path / "one.jsonl").read_bytes()
    assert (tmp_path / "two.jsonl").read_bytes() == written
    assert (tmp_path / "3.jsonl").read_bytes() == written
    records = [json.loads(line) for line in written.splitlines()]
    assert [record["frame"] for record in records] == list(range(60))
    assert [record["time_s"] for record in records] == [0.25 * frame for frame in range(60)]
    assert [record["truth"] for record in records] == [str(frame % 10) for frame in range(60)]
    assert {record["why"] for record in records} == {"cloud answered", "cloud less sure"}
    assert all(record["uploaded"] for record in records)
    replay(models.edge.parent, stream, tmp_path / "two", tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_bytes() == written, "whatever the buffer holds from before"


def test_a_slow_worker_changes_no_result(
    models: TinyModels, tmp_path: Path, stream: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay(models.edge.parent, stream, tmp_path / "fast", tmp_path / "fast.jsonl")
    import replay_child

    quick, pause, asked = replay_child.by_spikes, threading.Event(), []

    def slow(request):  # type: ignore[no-untyped-def]
        asked.append(request.id)
        if len(asked) % 20 == 0:
            pause.wait(0.15)
        return quick(request)

    monkeypatch.setattr(replay_child, "by_spikes", slow)
    replay(models.edge.parent, stream, tmp_path / "slow", tmp_path / "slow.jsonl")
    assert len(asked) == 60
    assert (tmp_path / "slow.jsonl").read_bytes() == (tmp_path / "fast.jsonl").read_bytes()


def test_the_buffers_stamps_are_the_recordings(world: World, stream: Path) -> None:
    clock = VirtualClock()
    device = world.device(clock=clock, patience_s=PATIENCE_S)
    for _ in play(NpzRecording(stream), device, clock):
        pass
    rows = device.store.labelled(world.features)
    assert [row.time_s for row in rows] == [0.25 * frame for frame in range(60)]
    assert [row.answered_s for row in rows] == [row.time_s for row in rows]


def test_a_replay_without_a_worker_names_what_to_start(world: World, stream: Path) -> None:
    world.worker.close()
    world.broker.stop()
    world.broker.start()
    device = world.device(clock=VirtualClock(), patience_s=0.1, broker="mqtt://127.0.0.1:1", ready=False)
    with pytest.raises(LinkError) as caught:
        next(play(NpzRecording(stream), device, VirtualClock()))
    assert str(caught.value) == (
        "mqtt://127.0.0.1:1: no worker announced itself in 0.1 s; start one with: ecc-cloud start --model cloud.pt"
    )


def test_a_replay_whose_worker_is_dead_ends_with_an_error(world: World, stream: Path) -> None:
    """The worker's retained announcement is still there."""
    world.worker.script = silent
    clock = VirtualClock()
    device = world.device(clock=clock, patience_s=0.2)
    with pytest.raises(LinkError) as caught:
        next(play(NpzRecording(stream), device, clock))
    assert str(caught.value) == (
        "frame 0: no answer from the worker in 0.2 s; "
        "a replay waits for a live one: check ecc-cloud, or replay without --broker"
    )
    assert device.store.summary().rows["waiting"] == 1, "the row waits for another day"


def test_a_replay_with_a_worker_for_other_features_says_so(world: World, stream: Path) -> None:
    world.worker.announce([b"\x01\x02\x03\x04"])
    device = world.device(clock=VirtualClock(), patience_s=0.2, ready=False)
    world.settle(device)
    with pytest.raises(LinkError, match=r"^the cloud cannot read features .* \(it reads: 01020304\); start ecc-cloud"):
        next(play(NpzRecording(stream), device, VirtualClock()))


def test_a_replay_without_a_broker_is_alone(models: TinyModels, tmp_path: Path, stream: Path) -> None:
    clock = VirtualClock()
    with Device(DeviceConfig(model=models.edge, state=tmp_path / "s", patience_s=PATIENCE_S), clock=clock) as device:
        tally = write_results(None, play(NpzRecording(stream), device, clock), lambda: None)
    assert (tally.frames, tally.labelled, tally.uploads) == (60, 60, 0)


class Live:
    """A camera, as far as the player sees one."""

    live, name, shape, rate_hz, length, labels = True, "camera:7", (16, 16, 1), 10.0, None, None

    def __init__(self, *steps: Frame | EccError | threading.Event) -> None:
        self.steps, self.closed = steps, threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        for step in self.steps:
            if isinstance(step, threading.Event):
                step.wait()
            elif isinstance(step, EccError):
                raise step
            else:
                yield step

    def close(self) -> None:
        self.closed.set()


def test_a_camera_cannot_be_replayed(world: World) -> None:
    with pytest.raises(SourceError, match=r"^camera:7 is live and cannot be replayed; run it with: ecc-device start"):
        next(play(Live(), world.device(), VirtualClock()))


def test_a_frame_that_does_not_fit_names_source_and_frame(world: World, tmp_path: Path) -> None:
    save_npz(tmp_path / "two.npz", np.zeros((3, 16, 16, 2), np.uint8))
    with pytest.raises(SourceError) as caught:
        next(play(NpzRecording(tmp_path / "two.npz"), world.device(), VirtualClock()))
    assert str(caught.value) == f"{tmp_path}/two.npz: frame 0: this network takes 1 channels, the frame has 2"


@pytest.mark.parametrize("name", ["missing/results.jsonl", "."])
def test_results_that_cannot_be_written_are_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        write_results(tmp_path / name, iter([(result(), None)]), lambda: None)
    assert str(caught.value).startswith(f"{tmp_path / name}: results cannot be written (")
    assert str(caught.value).endswith("); choose another file")


# ---- live sources ----


def test_a_live_source_yields_its_frames_and_is_closed_at_its_end() -> None:
    source = Live(*frames(3))
    assert [frame.index for frame in read_live(source, threading.Event())] == [0, 1, 2]
    assert source.closed.wait(PATIENCE_S)


def test_an_error_of_a_live_source_arrives_where_the_frames_do() -> None:
    source = Live(*frames(1), SourceError("camera:7: no frame after 1 frames; check its cable and start again"))
    found = read_live(source, threading.Event())
    assert next(found).index == 0
    with pytest.raises(SourceError, match="no frame after 1 frames"):
        next(found)
    assert source.closed.wait(PATIENCE_S)


def test_a_stop_is_seen_while_a_source_waits_for_its_hardware() -> None:
    stop, hardware = threading.Event(), threading.Event()
    source = Live(*frames(1), hardware)
    found = read_live(source, stop)
    assert next(found).index == 0
    threading.Timer(0.05, stop.set).start()
    assert list(found) == []
    assert not source.closed.is_set(), "it is still being read"
    hardware.set()
    assert source.closed.wait(PATIENCE_S)


def test_a_dash_is_no_file_for_results() -> None:
    with pytest.raises(DeviceError, match=r"^-: results are written to a file; name one, /dev/stdout for example$"):
        write_results(Path("-"), iter(()), lambda: None)
    assert not Path("-").exists()
