"""The whole loop on real images: broker, worker and device as processes, two streams, one update, a report."""

from __future__ import annotations

import json
import math
import platform
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecc_device.learning.candidate import Course
from ecc_device.learning.gate import Z_90
from ecc_device.learning.job import assemble
from ecc_device.store import Store
from ecc_model.errors import EccError
from ecc_model.frames import Pixels
from ecc_model.modelfile import EdgeModel, read_edge
from ecc_model.nets.checkpoint import load_edge
from ecc_model.nets.neuron import Lif
from ecc_tools import processes
from ecc_tools.collaboration import Answers, Frames, curve, learner_row, uploads_needed
from ecc_tools.compiling import Agreement, Labelled, compare, load_validation
from ecc_tools.data.parts import Part
from ecc_tools.demo_data import DemoData, DemoModels, Example, LearnerRow, Stream
from ecc_tools.report_record import fewer
from ecc_tools.stages import Stage

EXAMPLES = 12
MAX_LOSS_POINTS = 3.0
MAX_COLLAB_DEFICIT_POINTS = 1.0
MAX_INTEGER_LOSS_POINTS = 0.3
# what a run leaves in its folder, which the next run empties
WRITTEN = (
    *("vgg9.pt", "cloud.pt", "first.npz", "second.npz", "first.jsonl", "second.jsonl", "state", "broker"),
    *("broker.log", "worker.log", "device.log", "report.json", "report.html", "overview.svg", "summary.json"),
)
PACKAGES = ("ecc-snn", "torch", "spikingjelly", "numpy", "paho-mqtt", "msgspec", "scikit-learn")


class DemoRefused(EccError):
    """A demo that cannot run here, or whose device made no update to report on."""


@dataclass(frozen=True)
class Promises:
    """What a demo must show, beyond what every demo must."""

    gain_points: float  # of the edge's accuracy, from the first stream to the second
    fewer_uploads: float  # share by which the uploads needed for equal accuracy fall
    body_bytes: int  # of an upload, at most
    agreement: float  # share of frames that integers and floats answer alike


DIGITS = Promises(gain_points=25.0, fewer_uploads=0.40, body_bytes=32, agreement=0.98)
SHIPPED = Promises(gain_points=8.0, fewer_uploads=0.40, body_bytes=64, agreement=0.9)  # the models in examples/
GENERAL = Promises(gain_points=0.0, fewer_uploads=0.0, body_bytes=128, agreement=0.0)  # nothing is known of the models
SetUp = Callable[[Path, int, Stage], DemoModels]  # makes or names the models and streams of a seed, in a folder


@dataclass(frozen=True)
class Run:
    """What the processes of the execution and update stages have left."""

    first: dict[str, Any]  # the device's summaries
    second: dict[str, Any]
    decision: dict[str, Any]
    worker: dict[str, Any]
    commands: list[str]


def run_demo(
    folder: Path,
    set_up: SetUp,
    seed: int,
    promises: Promises,
    stage: Stage,
) -> DemoData:
    """Run everything into `folder` (emptied first) on the models that `set_up` names, and return what was measured."""
    started = time.monotonic()
    clear(folder)
    models = set_up(folder, seed, stage)
    setup_s = time.monotonic() - started
    told = stage("execution and update: broker, worker, device")
    run = run_processes(folder, models, told)
    told(1.0)
    data = measure(folder, models, run, seed, promises)
    data.report["seconds"] = {"setup": round(setup_s, 1), "all": round(time.monotonic() - started, 1)}
    return data


def clear(folder: Path) -> None:
    """Make `folder`, or empty it; `DemoRefused` when something in it is not from a demo."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        foreign = sorted(path.name for path in folder.iterdir() if path.name.removesuffix(".partial") not in WRITTEN)
        if foreign:
            raise DemoRefused(f"{folder}: '{foreign[0]}' is not from a demo; give another folder with --out")
        shutil.rmtree(folder)
        folder.mkdir()
    except OSError as exc:
        raise DemoRefused(f"{folder}: cannot be emptied ({exc.strerror}); give another folder with --out") from exc


def run_processes(folder: Path, models: DemoModels, told: Callable[[float], None]) -> Run:
    """Broker, worker and device as separate processes; two replays, between them an update and its shadow run.

    The shadow run is on the first frames of the first stream once more, so that the second one is the new model's.
    """
    port = _free_port()
    url = f"mqtt://127.0.0.1:{port}"
    state = folder / "state"
    broker = ["ecc-broker", "start", "--port", str(port), "--data", str(folder / "broker"), "--json"]
    worker = ["ecc-cloud", "start", "--model", str(models.cloud), "--broker", url, "--json"]

    replaying = ["ecc-device", "replay", "--model", str(models.edge), "--broker", url, "--state", str(state)]

    def replay(name: str, stream: Path) -> list[str]:
        return [*replaying, str(stream), "--results", str(folder / f"{name}.jsonl"), "--json"]

    first, second = [*replay("first", models.first), "--stay"], replay("second", models.second)
    learn = ["ecc-device", "notify", "charging", "--wait", "--state", str(state), "--json"]
    with processes.running(broker, folder / "broker.log") as broker_process:
        broker_process.read_json()
        told(0.1)
        with processes.running(worker, folder / "worker.log") as worker_process:
            worker_process.read_json()
            told(0.3)
            with processes.running(first, folder / "device.log") as device:
                first_summary = device.read_json()
                told(0.5)
                decision = _decision(learn)
                told(0.8)
                device.stop()
            commands = [broker, worker, first, learn]
            if decision["shadow"]:
                shadow_s = (decision["shadow"] + 1) / first_summary["source"]["rate_hz"]
                commands.append([*replaying, str(models.first), "--to", f"{shadow_s:.3f}", "--json"])
                processes.run(commands[-1])
            second_summary = json.loads(processes.run(second))
            told(0.9)
            worker_counts = json.loads(worker_process.stop())
    shown = [shlex.join(command) for command in (*commands, second)]
    return Run(first_summary, second_summary, decision, worker_counts, shown)


def _decision(command: list[str]) -> dict[str, Any]:
    """The update's decision; a candidate that was turned down (exit 1, with its JSON) is a result, too."""
    code, out, words = processes.run_any(command)
    if not out:
        raise processes.ProgramFailed(f"{shlex.join(command)} failed (exit {code}): {words}")
    decision = dict(json.loads(out))
    if decision["no"] is None:
        raise DemoRefused(f"the device made no update: {decision['reason']}")
    return decision


def measure(folder: Path, models: DemoModels, run: Run, seed: int, promises: Promises) -> DemoData:
    """Everything that the report shows, from the device's result files, its store and the models."""
    factory = read_edge(models.edge)
    parts = {"first": load_validation(str(models.first)), "second": load_validation(str(models.second))}
    known_frames = {
        name: np.isin(np.array(names)[labels], factory.labels) for name, (_, labels, names) in parts.items()
    }
    streams = {name: _stream(folder, name, known_frames[name]) for name in parts}
    known = known_frames["second"]
    frames = Frames(factory.program, models.cloud, *parts["second"])
    with Store.open(folder / "state", read_only=True) as store:
        active = store.active_version()
        made = next(version for version in store.versions() if version.no == run.decision["no"])
        # as it ended: with the shadow run's figures
        run.decision.update(accepted=made.state == "active", reason=made.figures["reason"], figures=made.figures)
        learnt = read_edge(folder / "state" / "models" / active.file) if active is not None else factory
        answered = store.labelled(bytes.fromhex(factory.program.features_id))
        rows = [row for row in answered if row.id <= run.decision["figures"]["last_row"]]  # also if it was turned down
        job, arrays = assemble(models.edge, factory.labels, rows, store.labels, "lwf-plain", 0)
    before = frames.ask(factory.program, factory.labels, factory.temperature)
    after = frames.ask(learnt.program, learnt.labels, learnt.temperature)
    curve_before, curve_after = curve(before, factory.threshold), curve(after, learnt.threshold)
    target = float(curve_before.accuracy[curve_before.operating])
    plain = Course(job, arrays, lambda share: None).taught(job.learner)
    plain_answers = frames.ask(plain.program, tuple(job.labels), plain.temperature)

    def row(name: str, answers: Answers, threshold: float, unchanged: Answers) -> LearnerRow:
        old_rate = float((unchanged.entropy > factory.threshold).mean())
        return learner_row(name, answers, known, before, threshold, old_rate, target)

    learners = [
        row("before the update", before, factory.threshold, before),
        row(
            f"{run.decision['figures']['learner']} (the device's)",
            after,
            learnt.threshold,
            frames.ask(learnt.program, learnt.labels, factory.temperature),
        ),
        row(
            "LwF as published",
            plain_answers,
            plain.threshold,
            frames.ask(plain.program, tuple(job.labels), factory.temperature),
        ),
    ]
    agreement = _agreement(models.edge, factory, parts)
    report = _report(run, streams, learners, agreement, seed)
    return DemoData(
        report=report,
        streams=list(streams.values()),
        entropy_before=before.entropy,
        entropy_after=after.entropy,
        threshold_before=factory.threshold,
        threshold_after=learnt.threshold,
        curve_before=curve_before,
        curve_after=curve_after,
        target_accuracy=target,
        learners=learners,
        examples=_examples(folder, parts["first"][0], factory.labels),
        checks=_checks(report, learners, uploads_needed(curve_before, target), agreement, promises, int(known.sum())),
    )


def _agreement(path: Path, factory: EdgeModel, parts: Mapping[str, Labelled]) -> Agreement:
    """Integer program beside float network on the known classes of both streams, which nothing was chosen on."""
    shown = []
    for frames, labels, names in parts.values():
        part = Part(frames, labels).of([names.index(label) for label in factory.labels])
        shown.append(part)
    return compare(
        load_edge(path, Lif),
        factory.program,
        np.concatenate([part.frames for part in shown]),
        np.concatenate([part.labels for part in shown]),
    )


def _records(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def _stream(folder: Path, name: str, known: NDArray[np.bool_]) -> Stream:
    records = _records(folder, name)
    return Stream(
        name,
        np.array([r["time_s"] for r in records]),
        np.array([r["edge"]["label"] == r["truth"] for r in records]),
        np.array([r["label"] == r["truth"] for r in records]),
        np.array([r["uploaded"] for r in records]),
        known,
    )


def _examples(folder: Path, frames: Pixels, known: tuple[str, ...]) -> list[Example]:
    """The first frames that went up: half of them of classes that were new to the edge, half of known ones."""
    asked = [r for r in _records(folder, "first") if r["cloud"] is not None]
    new = [r for r in asked if r["truth"] not in known][: EXAMPLES // 2]
    old = [r for r in asked if r["truth"] in known][: EXAMPLES // 2]
    return [_example(record, frames[record["frame"]]) for record in sorted(new + old, key=lambda r: r["frame"])]


def _example(record: dict[str, Any], pixels: Pixels) -> Example:
    edge, cloud = record["edge"], record["cloud"]
    return Example(
        pixels,
        record["truth"],
        (edge["label"], max(edge["probabilities"])),
        (cloud["label"], max(cloud["probabilities"])),
    )


def _report(
    run: Run, streams: dict[str, Stream], learners: list[LearnerRow], agreement: Agreement, seed: int
) -> dict[str, Any]:
    decision, figures = run.decision, run.decision["figures"]
    return {
        "schema": 1,
        "seed": seed,
        "streams": [_stream_record(streams["first"], run.first), _stream_record(streams["second"], run.second)],
        "update": {
            "rows": figures.get("rows", 0),
            "seconds": decision["seconds"],
            "accepted": decision["accepted"],
            "reason": decision["reason"],
            "figures": figures,
        },
        "worker": {name: run.worker[name] for name in ("received", "answered", "refused")},
        "device": {"sent": run.second["counts"]["sent"], "answered": run.second["counts"]["answered"]},
        "learners": [msgspec.to_builtins(row) for row in learners],
        "integer_program": msgspec.to_builtins(agreement),
        "machine": {"processor": platform.machine(), "system": platform.system(), "python": platform.python_version()},
        "versions": {name: version(name) for name in PACKAGES},
        "commands": run.commands,
    }


def _stream_record(stream: Stream, summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": stream.name,
        "frames": summary["frames"],
        "edge_accuracy": summary["edge_accuracy"],
        "collab_accuracy": summary["collab_accuracy"],
        "upload_rate": summary["upload_rate"],
        "uploads": summary["uploads"],
        "old_accuracy": float(stream.edge_right[stream.known].mean()),
        "bytes_per_upload": summary["bytes_per_upload"],
        "latency_ms": summary["latency_ms"],
        "upload_latency_ms": summary["upload_latency_ms"],
    }


def _checks(
    report: dict[str, Any],
    learners: list[LearnerRow],
    needed_before: int | None,
    agreement: Agreement,
    promises: Promises,
    known: int,
) -> list[tuple[str, str, bool]]:
    first, second = report["streams"]
    learnt = learners[1]
    gain = 100 * (second["edge_accuracy"] - first["edge_accuracy"])
    fall = fewer(needed_before, learnt.uploads_needed)
    lead = [100 * (stream["collab_accuracy"] - stream["edge_accuracy"]) for stream in (first, second)]
    counts = (report["device"]["sent"], report["worker"]["received"])
    body = max(first["bytes_per_upload"], second["bytes_per_upload"])
    return [
        ("the update was accepted", report["update"]["reason"], report["update"]["accepted"]),
        (f"the edge gains >= {promises.gain_points:.0f} points", f"{gain:.1f} points", gain >= promises.gain_points),
        (
            f"uploads needed for equal accuracy fall by >= {promises.fewer_uploads:.0%}",
            f"{needed_before} -> {learnt.uploads_needed}",
            fall is not None and fall >= promises.fewer_uploads,
        ),
        ("first stream: together >= edge alone", f"{lead[0]:+.1f} points", lead[0] >= 0),
        (
            f"second stream: together at most {MAX_COLLAB_DEFICIT_POINTS:.0f} point below edge alone",
            f"{lead[1]:+.1f} points",
            lead[1] >= -MAX_COLLAB_DEFICIT_POINTS,
        ),
        _loss_check(learnt.known_loss_points, known),
        (f"an upload's body <= {promises.body_bytes} bytes", f"{body:.1f} bytes", body <= promises.body_bytes),
        ("device and worker count the same uploads", f"{counts[0]} and {counts[1]}", counts[0] == counts[1]),
        _integers_check(agreement, promises.agreement),
    ]


def _loss_check(lost: float, frames: int) -> tuple[str, str, bool]:
    """What was lost on so many frames of old classes; kept unless they tell with 90 % that it is too much."""
    share = max(0.0, lost / 100)
    unsure = 100 * Z_90 * math.sqrt(share * (1 - share) / frames)
    promise = f"old classes lose <= {MAX_LOSS_POINTS:.0f} points, as far as {frames} frames tell"
    return promise, f"{lost:.1f} points (90 % sure: above {lost - unsure:.1f})", lost - unsure <= MAX_LOSS_POINTS


def _integers_check(found: Agreement, least: float) -> tuple[str, str, bool]:
    """What integers lose; kept unless these frames tell with 90 % that it is too much.

    By chance it is off by what the frames that both answer otherwise allow at most.
    """
    lost = 100 * found.lost
    unsure = 100 * Z_90 * math.sqrt((1 - found.agreement) / found.frames)
    promise = f"integers lose <= {MAX_INTEGER_LOSS_POINTS} points of floats, as far as {found.frames} frames tell"
    if least > 0:
        promise += f", and answer >= {least:.0%} alike"
    kept = found.agreement >= least and lost - unsure <= MAX_INTEGER_LOSS_POINTS
    return promise, f"{found} (90 % sure: above {lost - unsure:.1f} points)", kept


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
