"""Learners on tasks, on a stream and under drift: real updates in real processes, on rows that can be learnt."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from ecc_cloud.model import CloudModel
from ecc_device.engines import NumpyEngine
from ecc_device.learning.job import ABSENT_LOGIT
from ecc_model import bits
from ecc_model.modelfile import EdgeModel, read_edge
from ecc_tools.augmentation import Augmentation
from ecc_tools.cli import app
from ecc_tools.collaborate.observe import ask_cloud, ask_edge
from ecc_tools.incremental.base import open_base
from ecc_tools.incremental.compare import Asked
from ecc_tools.incremental.drift import make_weather, won_back
from ecc_tools.incremental.errors import IncrementalError
from ecc_tools.incremental.protocol import check_base, run_protocol, seen_beyond
from ecc_tools.incremental.scenes import Scene, answer, ask, judge, see
from ecc_tools.incremental.stream import Streams, make_streams, ratio, run_stream
from ecc_tools.incremental.updating import learn_answers, told_truth
from ecc_tools.incremental.whole import Shown, run_whole
from ecc_tools.results import read_table
from ecc_tools.runs import NetworkConfig
from ecc_tools.training import Plan
from support.imports import ROOT
from support.models import DIGITS, TinyModels, class_rows, write_tiny_models
from support.patterns import NAMES, pattern_part, patterns
from support.runs import train_run

TASKS = [DIGITS[:6], DIGITS[6:8], DIGITS[8:]]
FRAMES = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 1), np.uint8)
TRUTH = np.array(DIGITS)[np.arange(30) % 10]


def silent(share: float) -> None:
    pass


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return write_tiny_models(Path(tmp_path_factory.mktemp("models")), learnable=True)


@pytest.fixture(scope="module")
def base(models: TinyModels) -> EdgeModel:
    return read_edge(models.edge)


def scene(base: EdgeModel, classes: int, count: int, seed: int) -> Scene:
    """Rows of the first classes in turn, each with its pattern, and a cloud that is always right."""
    labels = [index % classes for index in range(count)]
    rows = np.stack([np.frombuffer(row, np.uint8) for row in class_rows(base.program, labels, seed)])
    logits = (8.0 * np.eye(len(DIGITS), dtype=np.float32))[labels]
    return Scene(rows, np.array(DIGITS)[labels], DIGITS, logits)


def test_the_front_shows_what_every_engine_computes_and_the_cloud_answers_to_it(models: TinyModels) -> None:
    model, cloud = read_edge(models.edge), CloudModel(models.cloud)
    seen = see(model, FRAMES, TRUTH, silent)
    split = NumpyEngine(model.program).head(FRAMES[0])
    assert bits.unpack(seen.rows[0].tobytes(), model.program.split_shape).tolist() == split.tolist()
    own = ask_edge(model, FRAMES, silent)
    assert [one.label for one in answer(model, seen)] == [one.label for one in own.answers]
    for send in ("features", "frames"):
        theirs = ask_cloud(model, cloud, own, FRAMES, send, silent)
        asked = ask(model, cloud, seen, FRAMES, send, silent)
        assert [one.label for one in asked.cloud] == [one.label for one in theirs.answers]
        standing = [one.label for one in theirs.standing]
        assert judge(answer(model, seen), asked).sent_right.tolist() == (np.array(standing) == TRUTH).tolist()
    assert len(ask(model, cloud, seen.at(np.zeros(30, np.bool_)), FRAMES[:0], "features", silent).cloud) == 0


def test_tasks_are_learnt_one_after_another_by_the_devices_learner(base: EdgeModel, tmp_path: Path) -> None:
    learn, test = scene(base, 10, 400, 1), scene(base, 10, 200, 2)
    found = run_protocol(base, TASKS, learn, test, "analytic", 0, tmp_path, silent)
    assert [made["rows"] for made in found["updates"]] == [80, 80]
    assert [(made["learner"], made["accepted"]) for made in found["updates"]] == [("analytic", True)] * 2
    assert min(found["accuracies"]) > 90
    assert found["last"] == found["accuracies"][2]
    assert set(found["forgetting_by_class"]) == set(DIGITS[:8])
    assert found["forgetting"] < 5
    assert found["seconds"] > 0
    assert 20 < found["mib"] < 400
    assert list(read_edge(tmp_path / "2" / "candidate.pt").labels) == list(DIGITS)
    again = run_protocol(base, TASKS, learn, test, "analytic", 0, tmp_path / "again", silent)
    assert again["accuracies"] == found["accuracies"]


def test_a_protocol_must_begin_with_what_the_model_knows(base: EdgeModel) -> None:
    check_base(base, TASKS, "B6-Inc2")
    with pytest.raises(IncrementalError, match=r"knows 6 classes \(0, 1, 2, \.\.\.\), B4-Inc2 begins with 4 .*--tasks"):
        check_base(base, [DIGITS[:4], DIGITS[4:6]], "B4-Inc2")
    with pytest.raises(IncrementalError, match=r"^B0-Inc6 has no task after the first; choose a split with classes"):
        check_base(base, TASKS[:1], "B0-Inc6")


def test_a_protocol_takes_no_head_that_has_seen_later_tasks() -> None:
    shipped = read_edge(ROOT / "examples" / "models" / "vgg9.pt")
    tasks = [shipped.labels, ("frog", "horse")]
    with pytest.raises(IncrementalError, match=r"vgg9\.pt: assembled with --together, its head has seen images of all"):
        check_base(shipped, tasks, "B6-Inc2")


def test_what_a_base_has_seen_beyond_its_task_is_read_off_its_file(base: EdgeModel) -> None:
    def made_by(**provenance: str) -> EdgeModel:
        return dataclasses.replace(base, manifest=msgspec.structs.replace(base.manifest, provenance=provenance))

    assert seen_beyond(made_by(seen=json.dumps(DIGITS[:6])), DIGITS[:6]) == []
    assert seen_beyond(made_by(seen=json.dumps(DIGITS[:8])), DIGITS[:6]) == ["6", "7"]
    assert seen_beyond(made_by(seen="[]"), DIGITS[:6]) is None  # an older run
    assert seen_beyond(made_by(), DIGITS[:6]) is None


def test_the_truth_is_told_as_by_a_cloud_that_is_sure(base: EdgeModel) -> None:
    job, arrays = told_truth(base, scene(base, 8, 80, 3), DIGITS, "lwf", 4)
    assert (job.labels, job.learner, job.seed) == (list(DIGITS[:8]), "lwf", 4)
    assert arrays["logits"][7].tolist() == [ABSENT_LOGIT] * 7 + [0.0]
    assert arrays["held"].sum() == 16


def test_a_stream_teaches_only_what_went_up_and_is_judged_on_other_frames(base: EdgeModel, tmp_path: Path) -> None:
    everything = scene(base, 10, 900, 5)
    streams = make_streams(everything, DIGITS, 400, 2, 0)
    passed = {row.tobytes() for part in streams.segments for row in part.rows}
    assert [len(part) for part in streams.segments] == [400, 400]
    assert not passed & {row.tobytes() for row in streams.held.rows}
    found = run_stream(base, streams, "analytic", tmp_path, 0, silent)
    first, second = found["updates"]
    assert first["stream"]["uploads"] < 300
    assert first["update"]["rows"] <= first["stream"]["uploads"]
    assert first["stream"]["cloud_accuracy_of_uploads"] == 100
    assert first["update"]["accepted"], first["update"]["reason"]
    assert found["before"]["new_accuracy"] == 0
    assert first["after"]["new_accuracy"] > 80
    assert first["after"]["gain"] == first["after"]["accuracy"] - found["before"]["accuracy"]
    assert first["candidate"] == first["after"]
    assert first["after"]["fewer_uploads"] > 0.3
    assert first["ratio"] == pytest.approx(1.0, abs=0.2)
    assert second["stream"]["upload_rate"] < first["stream"]["upload_rate"]
    assert found["before"]["judged"] == 100


def test_a_stream_needs_frames_that_judge(base: EdgeModel) -> None:
    with pytest.raises(IncrementalError, match=r"^2 updates of 50 frames leave none of 100 to judge with; ask for few"):
        make_streams(scene(base, 10, 100, 5), DIGITS, 50, 2, 0)
    assert ratio({"gain": 3.0}, {"gain": 4.0}) == 0.75
    assert ratio({"gain": 3.0}, {"gain": 0.0}) is None


def test_rows_of_an_update_that_is_turned_down_wait_and_plain_lwf_is_never_turned_down(
    base: EdgeModel, tmp_path: Path
) -> None:
    right = scene(base, 4, 120, 6)
    wrong = Scene(right.rows, right.truth, DIGITS, np.roll(right.logits, 6, axis=1))  # old classes under new names
    refused = learn_answers(base, wrong, "analytic", 0, tmp_path / "a")
    assert (refused.model, refused.waiting) == (base, wrong)
    assert not refused.record["accepted"]
    assert refused.record["reason"].endswith("33% are asked for")  # what is known is not taken for new
    assert refused.candidate is not None
    assert refused.candidate.labels == DIGITS
    plain = learn_answers(base, wrong, "lwf-plain", 0, tmp_path / "b")
    assert (plain.record["accepted"], len(plain.waiting)) == (False, 0)
    assert plain.model.labels == DIGITS
    few = learn_answers(base, wrong.at(np.arange(5)), "analytic", 0, tmp_path / "c")
    assert few.model is base
    assert few.record["reason"].startswith("0 labelled rows to learn from")


def test_a_stream_without_an_update_still_says_what_passed(base: EdgeModel, tmp_path: Path) -> None:
    known = scene(base, 6, 60, 7)
    found = run_stream(base, Streams([known.at(np.arange(30))], known, DIGITS), "analytic", tmp_path, 0, silent)
    (only,) = found["updates"]
    assert only["update"]["accepted"] is False
    assert (only["after"]["gain"], only["candidate"]) == (0, None)


def test_weather_changes_what_passes_and_judges_and_keeps_a_clean_copy(base: EdgeModel) -> None:
    weather = make_weather(base, FRAMES, TRUTH, "noise", 5, 15, 0, silent)
    assert sorted([*weather.passing.truth, *weather.clean.truth]) == sorted(TRUTH)
    assert weather.changed.truth.tolist() == weather.clean.truth.tolist()
    clean = see(base, FRAMES, TRUTH, silent)
    shown = {row.tobytes() for row in clean.rows}
    assert {row.tobytes() for row in weather.clean.rows} <= shown
    assert not {row.tobytes() for row in weather.changed.rows} & shown
    with pytest.raises(IncrementalError, match=r"^30 frames of known classes, 32 are needed; ask for fewer: --frames"):
        make_weather(base, FRAMES, TRUTH, "noise", 5, 16, 0, silent)


def test_what_is_won_back_is_a_share_of_what_the_truth_wins_back() -> None:
    before, after, bound = ({"accuracy": value} for value in (60.0, 66.0, 70.0))
    assert won_back(before, after, bound) == pytest.approx(0.6)
    assert won_back(before, after, before) is None


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = Plan(epochs=2, learning_rate=8e-3, batch=64)
    network = NetworkConfig(kind="vgg9", width=0.1, steps=2)
    return train_run(Path(tmp_path_factory.mktemp("run")) / "edge", patterns(4400), network, plan, "B3-Inc1")


def test_a_run_becomes_a_model_with_statistics_once_and_the_whole_network_learns_and_forgets(
    run: Path, tmp_path: Path
) -> None:
    data = patterns(4400)
    base = open_base(run, data, tmp_path, silent)
    assert base.labels == NAMES[:3]
    assert base.statistics is not None
    stamp = (tmp_path / "base.pt").stat().st_mtime_ns
    assert open_base(run, data, tmp_path, silent).sha256 == base.sha256
    assert (tmp_path / "base.pt").stat().st_mtime_ns == stamp
    assert open_base(tmp_path / "base.pt", data, tmp_path, silent).sha256 == base.sha256

    learn, test = (pattern_part(count, seed) for count, seed in ((4000, 8), (80, 9)))
    shown = [Shown(part.frames, np.array(NAMES)[part.labels]) for part in (learn, test)]
    tasks = [NAMES[:3], NAMES[3:]]
    found = run_whole(base, tasks, shown[0].of(NAMES[3:]), shown[1], Augmentation("none"), 0, silent)
    assert found["accuracies"][0] > 60
    assert found["last"] < found["accuracies"][0]
    assert found["forgetting"] > 20
    assert (found["mib"], found["updates"]) == (None, [])


def run_command(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def test_the_protocol_command_writes_rows_table_and_plot_and_goes_on_where_it_stopped(
    models: TinyModels, tmp_path: Path
) -> None:
    command = ["incremental", models.edge.parent, "--data", "digits", "--split", "B6-Inc2", "--out", tmp_path]
    command += ["--learner", "analytic"]
    found = json.loads(run_command(*command, "--seeds", 1, "--json"))
    rows = (tmp_path / "rows.jsonl").read_bytes()
    (row,) = found["rows"]
    assert (row["learner"], row["seeds"], len(row["accuracies"]), row["n"]) == ("analytic", [0], 3, 600)
    table = read_table(tmp_path / "table.json")
    assert table.rows[0]["average"] == round(row["average"]["mean"], 1)
    assert table.commands[0].endswith("--learner analytic --seeds 1 --part test --split B6-Inc2")
    assert (tmp_path / "tasks.png").read_bytes().startswith(b"\x89PNG")
    assert found["seen_beyond_base"] is None
    told = run_command(*command, "--seeds", 1)
    assert "analytic" in told
    assert "The model file does not tell which classes the base network's teacher or start have seen.\n" in told
    assert (tmp_path / "rows.jsonl").read_bytes() == rows
    run_command(*command, "--seeds", 2)
    assert (tmp_path / "rows.jsonl").read_bytes().startswith(rows)
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 2


def test_the_stream_command_leaves_the_guards_frames_out(models: TinyModels, tmp_path: Path) -> None:
    command = ["incremental", models.edge.parent, "--data", "digits", "--stream", "--out", tmp_path, "--frames", 30]
    command += ["--updates", 2, "--learner", "analytic", "--seeds", 1, "--part", "validation"]
    found = json.loads(run_command(*command, "--json"))
    (row,) = found["rows"]
    assert row["before"]["judged"]["mean"] == 50  # of 110 frames
    assert [update["stream"]["frames"]["mean"] for update in row["updates"]] == [30, 30]
    assert read_table(tmp_path / "table.json").rows[1]["frames"] == 30
    assert (tmp_path / "stream.png").read_bytes().startswith(b"\x89PNG")


def test_the_drift_command_compares_features_and_frames(models: TinyModels, tmp_path: Path) -> None:
    command = ["drift", models.edge, models.cloud, "--data", "digits", "--out", tmp_path, "--frames", 60]
    command += ["--kind", "noise", "--strength", "3", "--seeds", 1]
    found = json.loads(run_command(*command, "--json"))
    assert [(row["kind"], row["strength"], row["send"]) for row in found["rows"]] == [
        ("noise", 3, "features"),
        ("noise", 3, "frames"),
    ]
    assert found["rows"][0]["before"] == found["rows"][1]["before"]
    table = read_table(tmp_path / "table.json")
    updates = [row["update"] for row in found["rows"]]
    assert [row["accepted"] for row in table.rows] == [f"{int(*update['accepted'])} of 1" for update in updates]
    refused = [update["reason"][0] for update in updates if not update["accepted"][0]]
    assert all(any(reason in note for note in table.notes) for reason in refused[:1])
    assert (tmp_path / "drift.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["incremental", "m", "--data", "digits"], "give one of them: a protocol, or the stream"),
        (["incremental", "m", "--data", "digits", "--stream", "--split", "B6-Inc2"], "give one of them"),
        (["drift", "e", "c", "--data", "digits", "--strength", "6"], "'6' is none of: 1, 2, 3, 4, 5"),
        (["drift", "e", "c", "--data", "digits", "--kind", "rain"], "'rain' is none of: light, blur, noise, contrast"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], said: str) -> None:
    assert said in " ".join(run_command(*arguments, code=2).replace("│", " ").split())


def test_unknown_learners_are_named_and_the_whole_network_has_no_stream(models: TinyModels, tmp_path: Path) -> None:
    with pytest.raises(IncrementalError, match=r"^no learner is called 'magic'; known are auto, .*, lwf-full$"):
        Asked(patterns(), "test", ("lwf", "magic"), 1, tmp_path)
    command = ["incremental", models.edge.parent, "--data", "digits", "--stream", "--learner", "lwf-full"]
    with pytest.raises(IncrementalError, match=r"^lwf-full changes what the cloud reads; compare it on a protocol"):
        run_command(*command, "--out", tmp_path)
