"""Replays of recordings: the same bytes from every engine, the first difference named, other links, parts of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ecc_broker.messages import Reply
from ecc_broker.mqtt import MqttLink
from ecc_device.engines import ENGINES
from ecc_device.frame import Frame
from ecc_device.linkprofiles import PROFILES
from ecc_device.recordings import Recording
from ecc_device.recordings.comparison import differences
from ecc_device.replay import Replay
from ecc_device.results import Result
from ecc_device.sources import save_npz
from ecc_model import modelfile
from ecc_model.errors import DeviceError, MissingEngine, ReplayDiffers, SourceError
from ecc_model.nets.checkpoint import save_edge
from ecc_model.nets.quantize import compile_network
from support.brokers import BrokerProcess
from support.models import CONFIG, DIGITS, TinyModels, lively_network, tiny_guard, write_tiny_models
from support.processes import run
from support.workers import Request, ScriptedWorker, World, answer, frames, refusal


def same(result: Result) -> bytes:
    """All that a replay repeats."""
    return msgspec.json.encode(result.to_record())


def available(engines: Sequence[str], models: TinyModels) -> list[str]:
    found = []
    for name in engines:
        try:
            ENGINES[name](models.program, 1)
        except MissingEngine:
            continue
        found.append(name)
    return found


class Story:
    """A device's day: answers of every kind, a link that breaks, a late answer, another model."""

    def __init__(self, world: World, out: Path, learnt: Path, **options: object) -> None:
        self.world, self.corrections = world, []
        world.worker.script = self.script
        device = world.device(record=out, state="recorded", **options)
        device.runtime.on_result(self.corrections.append)
        self.results = [
            device.runtime.classify(frame, 0.0 if frame.index % 4 == 3 else None) for frame in frames(12)
        ]  # what stays without an answer is not waited for
        late = next(result for result in self.results if result.why == "deadline")
        world.worker.reply(answer(late.row or 0, label=8))
        world.settle(device)
        world.broker.stop()
        self.results += [device.runtime.classify(frame) for frame in frames(16)[12:]]
        device.swap(modelfile.read_edge(learnt), 2)
        self.results += [device.runtime.classify(frame) for frame in frames(24)[16:]]
        device.close()

    def script(self, request: Request) -> list[Reply | bytes]:
        match request.id % 4:
            case 0:
                return []
            case 1:
                return [refusal(request.id, "bad-request")]
            case 2:
                return [answer(request.id, label=2, size=0.1)]
        return [answer(request.id, label=request.id % 10)]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same head and encoder, another exit, as after an update."""
    return write_tiny_models(tmp_path_factory.mktemp("learnt"), threshold=0.2, learnable=True).edge


@pytest.fixture(scope="module")
def told(models: TinyModels, learnt: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Story]:
    folder = tmp_path_factory.mktemp("told")
    world = World(models, folder)
    story = Story(world, folder / "out.mcap", learnt)
    world.close()
    return folder / "out.mcap", story


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    path = tmp_path / "stream.npz"
    pixels = np.stack([frame.pixels for frame in frames(30)])
    save_npz(path, pixels, np.arange(30) % 10, DIGITS, np.arange(30) * 0.25)
    return path


# ---- the same again ----


@pytest.mark.parametrize("engine", list(ENGINES))
def test_every_engine_repeats_every_kind_of_outcome(told: tuple[Path, Story], models: TinyModels, engine: str) -> None:
    if engine not in available([engine], models):
        pytest.skip(f"no engine '{engine}' here")
    path, story = told
    kinds = {"deadline", "refused", "cloud answered", "cloud less sure", "offline", "confident"}
    assert {result.why for result in story.results} >= kinds - {"confident"}
    assert {result.model_no for result in story.results} == {1, 2}
    with Replay(path, engine=engine, expect=path) as replay:
        results = list(replay)
        assert replay.notes == []
        assert replay.device.runtime.engine.name == engine
    assert [same(result) for result in results] == [same(result) for result in story.results]
    assert [(r.bytes_sent, r.bytes_received) for r in results] == [
        (r.bytes_sent, r.bytes_received) for r in story.results
    ]
    assert [same(result) for result in replay.corrections] == [same(result) for result in story.corrections]
    assert len(story.corrections) == 1


def test_the_replayed_device_has_the_answers_in_its_buffer(told: tuple[Path, Story]) -> None:
    path, story = told
    with Replay(path) as replay:
        results = list(replay)
        counts = replay.device.store.counts()
        answered = [replay.device.store.row(result.row or 0) for result in results if result.cloud is not None]
    sent = [result for result in story.results if result.bytes_sent]
    assert counts["sent"] == len(sent)
    assert counts["late"] == 1
    assert all(row is not None and row.state == "labelled" for row in answered)


def test_without_pictures_the_same_decisions_come_again(models: TinyModels, learnt: Path, tmp_path: Path) -> None:
    world = World(models, tmp_path)
    story = Story(world, tmp_path / "out.mcap", learnt, record_as="spikes")
    world.close()
    with Replay(tmp_path / "out.mcap", expect=tmp_path / "out.mcap") as replay:
        assert [same(result) for result in replay] == [same(result) for result in story.results]


def test_a_recorded_replay_is_the_recording_again(told: tuple[Path, Story], tmp_path: Path) -> None:
    path, _ = told
    with Replay(path, options={"record": tmp_path / "again.mcap"}) as replay:
        list(replay)
    with Replay(tmp_path / "again.mcap", expect=path) as replay:
        assert len(list(replay)) == 24
    copy, original = (list(Recording(one).decisions()) for one in (tmp_path / "again.mcap", path))
    for found, wanted in zip(copy, original, strict=True):
        assert {name for name, _, _ in differences(found, wanted)} <= {"latency_s", "row"} | {
            name for name in wanted if name.startswith("forecast")
        } | {f"forecast.{name}" for name in ("asked", "late", "answer_s")}


def test_options_of_the_recording_are_used_again(models: TinyModels, tmp_path: Path) -> None:
    world = World(models, tmp_path)
    device = world.device(record=tmp_path / "out.mcap", filter="margin", seed=7)
    for frame in frames(5):
        device.runtime.classify(frame)
    world.close()
    with Replay(tmp_path / "out.mcap", expect=tmp_path / "out.mcap") as replay:
        assert {result.filter for result in replay} == {"margin"}
        assert replay.device.config.seed == 7
    with (
        pytest.raises(ReplayDiffers, match=r"^frame 0: "),
        Replay(tmp_path / "out.mcap", expect=tmp_path / "out.mcap", options={"filter": "entropy"}) as replay,
    ):
        list(replay)


def test_a_budget_is_spent_the_same_way_again(models: TinyModels, tmp_path: Path) -> None:
    """Rows of an outage go up afterwards and take from the budget, when the link has it."""
    world = World(models, tmp_path)
    world.worker.script = lambda request: [answer(request.id)]
    device = world.device(record=tmp_path / "out.mcap", budget="40%")
    stream = frames(160)
    results = [device.runtime.classify(frame) for frame in stream[:60]]
    world.broker.stop()
    results += [device.runtime.classify(frame) for frame in stream[60:90]]
    world.broker.start()
    assert device.offload is not None
    assert device.offload.wait_ready(30.0)
    world.settle(device)
    results += [device.runtime.classify(frame) for frame in stream[90:]]
    world.close()
    assert {"budget", "offline", "cloud answered"} <= {result.why for result in results}
    assert any(result.to_record()["budget"]["backlog"] for result in results)
    with Replay(tmp_path / "out.mcap", expect=tmp_path / "out.mcap") as replay:
        assert [same(result) for result in replay] == [same(result) for result in results]


def repeats(path: Path, engines: Sequence[str], times: int) -> set[bytes]:
    """What `times` replays with each engine give, beside two processes that burn the processor."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    found = set()
    try:
        for _ in range(times):
            for engine in engines:
                with Replay(path, engine=engine) as replay:
                    found.add(b"\n".join([same(result) for result in replay] + [*map(same, replay.corrections)]))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    return found


def test_replays_on_a_busy_machine_are_the_same(told: tuple[Path, Story], models: TinyModels) -> None:
    path, story = told
    assert repeats(path, available(["numpy", "event"], models), 3) == {
        b"\n".join(same(result) for result in story.results + story.corrections)
    }


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_replays_with_every_engine_are_the_same(told: tuple[Path, Story], models: TinyModels) -> None:
    path, story = told
    assert repeats(path, available(list(ENGINES), models), 100) == {
        b"\n".join(same(result) for result in story.results + story.corrections)
    }


# ---- what is not the same ----


def one_weight_changed(folder: Path) -> Path:
    """The models' edge file, with one weight of the exit's last layer one step larger."""
    net = lively_network(CONFIG, 0)
    program = compile_network(net)
    readout = program.exit[-1]
    readout.weight[0, 0] += 1  # type: ignore[union-attr]
    guard = tiny_guard(program, CONFIG.classes, 24, 0)
    path = folder / "changed.pt"
    save_edge(path, net, program, guard, labels=DIGITS[:6], temperature=1.0, threshold=0.0, provenance={"by": "tests"})
    return path


def test_a_changed_weight_is_found_at_its_first_differing_frame(models: TinyModels, tmp_path: Path) -> None:
    world = World(models, tmp_path)
    device = world.device(record=tmp_path / "golden.mcap")
    blank = [Frame(index, index / 10, np.zeros((16, 16, 1), np.uint8), None) for index in range(5)]
    later = [Frame(index, index / 10, frames(20)[index].pixels, None) for index in range(5, 20)]
    right = [device.runtime.classify(frame) for frame in [*blank, *later]]
    world.close()
    changed = one_weight_changed(tmp_path)
    with Replay(tmp_path / "golden.mcap", model=changed) as replay:
        wrong = list(replay)
        assert replay.notes == [f"{tmp_path}/golden.mcap: recorded with another model than the one that answers now"]
    first = next(index for index, pair in enumerate(zip(wrong, right, strict=True)) if same(pair[0]) != same(pair[1]))
    with (
        pytest.raises(ReplayDiffers) as caught,
        Replay(tmp_path / "golden.mcap", model=changed, expect=tmp_path / "golden.mcap") as replay,
    ):
        list(replay)
    error = caught.value
    assert (error.frame, error.field, error.found) == (first, "score", repr(wrong[first].score))
    assert error.expected == repr(right[first].score)
    assert str(error) == (
        f"frame {first}: score is {error.found}, expected {error.expected} (as in {tmp_path}/golden.mcap); "
        f"see how it came to that with: ecc-device why {first} --recording {tmp_path}/golden.mcap"
    )


def test_differences_name_the_field_in_its_depth() -> None:
    found = {"a": 1, "edge": {"label": "x", "probabilities": [0.5, 0.25, 0.25]}, "cloud": None}
    wanted = {"a": 1, "edge": {"label": "y", "probabilities": [0.5, 0.5, 0.25]}, "cloud": {"label": "z"}, "more": 1}
    assert list(differences(found, wanted)) == [
        ("edge.label", "x", "y"),
        ("edge.probabilities[1]", 0.25, 0.5),
        ("cloud", None, {"label": "z"}),
    ]
    assert list(differences({"a": [1]}, {"a": [1, 2]})) == [("a", [1], [1, 2])]
    assert list(differences({"a": 1}, {})) == [("a", 1, "nothing")]


def test_a_replay_that_ends_early_or_late_differs(models: TinyModels, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.mcap", tmp_path / "part.mcap"
    world = World(models, tmp_path)
    device = world.device(record=whole)
    label = [device.runtime.classify(frame).label for frame in frames(3)][2]
    world.close()
    with Replay(whole, end_s=0.15, options={"record": part}) as replay:
        assert len(list(replay)) == 2
    with pytest.raises(ReplayDiffers) as caught, Replay(whole, expect=part) as replay:
        list(replay)
    assert str(caught.value).startswith(f"frame 2: decision is {label}, expected nothing more (as in {part}); ")
    with pytest.raises(ReplayDiffers) as caught, Replay(part, expect=whole) as replay:
        list(replay)
    assert str(caught.value).startswith(f"frame 2: decision is nothing more, expected {label} (as in {whole}); ")


def test_spikes_of_another_head_are_refused(models: TinyModels, tmp_path: Path) -> None:
    world = World(models, tmp_path)
    device = world.device(record=tmp_path / "out.mcap", record_as="spikes")
    device.runtime.classify(frames(1)[0])
    world.close()
    (tmp_path / "other").mkdir()
    other = write_tiny_models(tmp_path / "other", seed=5)
    with pytest.raises(SourceError) as caught, Replay(tmp_path / "out.mcap", model=other.edge):
        pass
    assert str(caught.value) == (
        f"{tmp_path}/out.mcap: holds spikes of features {models.program.features_id[:8]}, and this model makes "
        f"{other.program.features_id[:8]}; replay it with the model that recorded it"
    )


def test_what_cannot_be_replayed_says_why(stream: Path, told: tuple[Path, Story]) -> None:
    path, _ = told
    cases = {
        f"{stream}: only recordings bring their model along; give one with --model": lambda: Replay(stream),
        "what is expected is one pass; leave --loop out": lambda: Replay(path, expect=path, times=2),
        "a part from 2 s to 1 s is empty; let it end later": lambda: Replay(path, start_s=2, end_s=1),
        "there is no link profile 'x25'; choose one of: wifi-drop, lte-m, tunnel, lossy": lambda: Replay(
            path, link="x25"
        ),
        "a link profile needs recorded answers; record them once (--broker ... --record out.mcap), then: "
        "ecc-device replay out.mcap --link lossy": lambda: Replay(stream, model=Path("x"), link="lossy"),
    }
    for text, make in cases.items():
        with pytest.raises(DeviceError) as caught:
            make()
        assert str(caught.value) == text


# ---- other links ----


@pytest.fixture(scope="module")
def answered(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 frames, two a second, each answered."""
    folder = tmp_path_factory.mktemp("answered")
    world = World(models, folder)
    device = world.device(record=folder / "out.mcap")
    for frame in frames(120):
        device.runtime.classify(Frame(frame.index, 1000 + frame.index / 2, frame.pixels, None))
    world.close()
    return folder / "out.mcap"


@pytest.mark.parametrize("profile", list(PROFILES))
def test_the_same_link_has_the_same_bad_moments_every_time(answered: Path, profile: str) -> None:
    found = set()
    for engine in ("reference", "numpy"):
        with Replay(answered, link=profile, engine=engine, options={"deadline_s": 0.1}) as replay:
            results = list(replay)
        found.add(b"\n".join([*map(same, results), *map(same, replay.corrections)]))
    assert len(found) == 1
    reasons = Counter(result.why for result in results)
    expected = {
        "wifi-drop": {"offline": 8},  # seconds 30 to 34
        "lte-m": {},
        "tunnel": {},  # the first one begins after a minute
        "lossy": {},
    }[profile]
    assert {why: count for why, count in reasons.items() if why == "offline"} == expected
    if profile == "lossy":
        assert 30 < reasons["deadline"] < 55, "36 % are lost on the way there or back"
        assert not replay.corrections or len(replay.corrections) < 10
    if profile == "lte-m":
        assert reasons["deadline"] > 60, "a round trip takes 120 ms at least"
        assert len(replay.corrections) > 60, "and the answers come late"
    if profile == "tunnel":
        assert reasons["cloud answered"] > 110


def test_late_answers_correct_their_frames_on_the_recordings_time(answered: Path) -> None:
    with Replay(answered, link="lte-m", options={"deadline_s": 0.0}) as replay:
        results = list(replay)
        counts = replay.device.store.counts()
    assert {result.why for result in results} == {"deadline"}
    frames_corrected = [result.frame for result in replay.corrections]
    assert frames_corrected == sorted(set(frames_corrected))
    assert {result.why for result in replay.corrections} == {"cloud answered"}
    assert counts["late"] == len(replay.corrections) > 100


# ---- parts ----


def test_a_part_keeps_its_frame_numbers(answered: Path) -> None:
    with Replay(answered, start_s=10, end_s=12, expect=answered) as replay:
        assert [result.frame for result in replay] == [20, 21, 22, 23]
        assert replay.length is None


def test_passes_go_on_in_number_and_time(told: tuple[Path, Story]) -> None:
    path, story = told
    with Replay(path, times=3) as replay:
        results = list(replay)
        assert replay.length == 72
    assert [result.frame for result in results] == list(range(72))
    assert [result.why for result in results] == 3 * [result.why for result in story.results]
    assert len(replay.corrections) == 3
    assert results[24].time_s == pytest.approx(2.4)


def test_the_pace_is_the_recordings_without_its_gaps(models: TinyModels, tmp_path: Path) -> None:
    world = World(models, tmp_path)
    device = world.device(record=tmp_path / "out.mcap")
    for index, time_s in enumerate([50.0, 50.5, 9000.0, 3.0, 4.0]):
        device.runtime.classify(Frame(index, time_s, frames(1)[0].pixels, None))
    world.close()
    paces: list[float] = []
    with Replay(tmp_path / "out.mcap", pace=paces.append, expect=tmp_path / "out.mcap") as replay:
        assert [result.time_s for result in replay] == [50.0, 50.5, 9000.0, 3.0, 4.0], "as the clock jumped"
    assert paces == [0.0, 0.5, 10.5, 10.5, 11.5]


# ---- the command ----


def test_the_command_needs_nothing_but_the_recording(told: tuple[Path, Story], tmp_path: Path) -> None:
    path, story = told
    done = run(
        "ecc-device", "replay", path, "--expect", path, "--results", tmp_path / "r.jsonl", "--json", cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    summary = json.loads(done.stdout)
    assert (summary["frames"], summary["model_no"]) == (24, 2)
    assert summary["source"] == {
        "name": str(path),
        "shape": [16, 16, 1],
        "rate_hz": pytest.approx(10.0),
        "length": 24,
        "labels": None,
    }
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert lines == [msgspec.to_builtins(result.to_record()) | {"truth": None} for result in story.results]


def test_the_command_ends_with_1_at_the_first_difference(
    told: tuple[Path, Story], learnt: Path, tmp_path: Path
) -> None:
    path, _ = told
    done = run("ecc-device", "replay", path, "--model", learnt, "--expect", path, cwd=tmp_path)
    assert done.returncode == 1
    note, error = done.stderr.splitlines()
    assert note == f"{path}: recorded with another model than the one that answers now"
    assert error.startswith(("error: frame 0: label is ", "error: frame 0: score is "))
    assert f"(as in {path}); see how it came to that with: ecc-device why 0 --recording {path}" in error


def test_a_run_in_real_time_can_be_replayed(stream: Path, models: TinyModels, tmp_path: Path) -> None:
    np.savez(tmp_path / "quick.npz", frames=np.load(stream)["frames"], times=np.arange(30) / 100)
    start = ("ecc-device", "start", "--model", models.edge, "--source", "quick.npz", "--state", "s")
    done = run(*start, "--record", "live.mcap", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    live = [json.loads(line) for line in done.stdout.splitlines()]
    done = run("ecc-device", "replay", "live.mcap", "--expect", "live.mcap", "--results", "r.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()] == [
        record | {"truth": None} for record in live
    ]
    assert all(record["time_s"] > 1.6e9 for record in live)


def test_a_live_worker_is_waited_for_and_its_answers_can_be_recorded(
    stream: Path, models: TinyModels, mosquitto: BrokerProcess, tmp_path: Path
) -> None:
    slow = threading.Event()

    def script(request: Request) -> list[Reply | bytes]:
        slow.wait(0.02)
        return [answer(request.id, label=request.id % 10)]

    features = bytes.fromhex(models.program.features_id)[:4]
    worker = ScriptedWorker(MqttLink(mosquitto.url, "worker"), [features], script).start()
    try:
        common = ("ecc-device", "replay", stream, "--model", models.edge, "--broker", mosquitto.url, "--json")
        done = run(*common, "--state", "s", "--record", "live.mcap", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["uploads"] == len(worker.received) == 30
        done = run(
            "ecc-device", "replay", "live.mcap", "--broker", mosquitto.url, "--expect", "live.mcap", cwd=tmp_path
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert len(worker.received) == 60
    finally:
        worker.close()
    done = run("ecc-device", "replay", "live.mcap", "--expect", "live.mcap", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_records_what_it_replays(stream: Path, models: TinyModels, tmp_path: Path) -> None:
    common = ("ecc-device", "replay", stream, "--model", models.edge)
    done = run(*common, "--state", tmp_path / "s", "--record", tmp_path / "golden.mcap", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = run(*common, "--state", tmp_path / "t", "--expect", tmp_path / "golden.mcap", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    golden = Recording(tmp_path / "golden.mcap")
    assert (golden.length, golden.labels, golden.rate_hz) == (30, DIGITS, pytest.approx(4.0))
