"""`ecc-device`: run a device, replay recordings, look at its buffer, tell it what happens."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from ecc_device import control, tables
from ecc_device.clock import SystemClock
from ecc_device.device import Device, DeviceConfig
from ecc_device.engines import DEFAULT, ENGINES, MAX_THREADS
from ecc_device.events import EVENTS, check_event
from ecc_device.explain import Explanation
from ecc_device.filters import FILTERS
from ecc_device.learning.history import UpdateExplanation, find_update
from ecc_device.learning.history import updates as update_history
from ecc_device.learning.recipes import CHOICES as LEARNERS
from ecc_device.learning.recipes import DEFAULT as DEFAULT_LEARNER
from ecc_device.learning.shadow import SHADOW_FRAMES
from ecc_device.linkprofiles import PROFILES
from ecc_device.models import rollback as roll_back
from ecc_device.player import Tally, classify, read_live, write_results
from ecc_device.recent import read_facts
from ecc_device.recordings import Recording
from ecc_device.recordings.channels import CONTENTS
from ecc_device.recordings.recording import explained
from ecc_device.recordings.report import write_report
from ecc_device.replay import PATIENCE_S, Replay
from ecc_device.sources import ACCEPTED, Source, open_source
from ecc_device.statefolder import default_state
from ecc_device.store import Store
from ecc_model import console
from ecc_model.errors import DeviceError, DeviceNotRunning, EccError
from ecc_model.modelfile import read_manifest
from ecc_model.progress import progress_bar
from ecc_model.signals import Stop, stop_on_signals

REPORT_EVERY_S = 1.0
T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

ModelOption = Annotated[Path, typer.Option(help="The edge model, e.g. vgg9.pt.")]
BrokerOption = Annotated[str | None, typer.Option(help="mqtt://host:port or mqtts://user@host:port; without: alone.")]
StateOption = Annotated[
    Path | None, typer.Option(help="Folder of the buffer and the learnt models; default: $ECC_STATE or one per device.")
]
SiteOption = Annotated[str, typer.Option(help="The site, as in the topics.")]
DeviceOption = Annotated[str, typer.Option(help="This device's name; also its MQTT client id.")]
FilterOption = Annotated[str, typer.Option("--filter", help=f"What counts as ambiguous: {', '.join(FILTERS)}.")]
BudgetOption = Annotated[
    str | None, typer.Option(help="What may go up at most: 5% of the frames, or 2MB/h; default: no limit.")
]
SendOption = Annotated[str, typer.Option(help="What goes up: features (a few bytes of spikes) or frames (images).")]
EncoderOption = Annotated[
    str | None,
    typer.Option(help="Of a model with several encoders, the one to send by, e.g. 32-bytes; default: as it fits."),
]
LearnerOption = Annotated[str, typer.Option(help=f"How it learns: {', '.join(LEARNERS)}.")]
ShadowOption = Annotated[
    int, typer.Option(min=0, help="Frames that a learnt model answers silently before it takes over; 0: none.")
]
EngineOption = Annotated[
    str | None, typer.Option(help=f"What runs the network: {', '.join(ENGINES)}; default: {DEFAULT}, if installed.")
]
ThreadsOption = Annotated[
    int, typer.Option("--threads", min=1, max=MAX_THREADS, help="Of the engines event and tflite, for a frame.")
]
CaOption = Annotated[Path | None, typer.Option(help="Certificates to trust instead of the system's.")]
InsecureOption = Annotated[bool, typer.Option("--insecure", help="Allow mqtt:// to another machine.")]
RecordOption = Annotated[Path | None, typer.Option(help="Write a recording to this file, e.g. out.mcap.")]
RecordAsOption = Annotated[
    str, typer.Option(help=f"What a recording keeps of a frame, {' or '.join(CONTENTS)}; spikes are no picture.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def _device() -> None:
    """Classify on this device, ask the cloud when unsure, learn while charging."""
    level = logging.DEBUG if os.environ.get("ECC_DEBUG") else logging.WARNING
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)


@app.command(epilog="Example: ecc-device start --model vgg9.pt --source camera:0 --broker mqtt://127.0.0.1:1883")
def start(
    model: ModelOption,
    source: Annotated[str, typer.Option(help=f"What to classify: {ACCEPTED}.")] = "camera:0",
    broker: BrokerOption = None,
    state: StateOption = None,
    site: SiteOption = "default",
    device: DeviceOption = "device",
    deadline_ms: Annotated[float, typer.Option(min=0, help="How long an ambiguous frame waits for the cloud.")] = 100.0,
    filter_: FilterOption = "entropy",
    budget: BudgetOption = None,
    send: SendOption = "features",
    encoder: EncoderOption = None,
    learner: LearnerOption = DEFAULT_LEARNER,
    shadow: ShadowOption = SHADOW_FRAMES,
    engine: EngineOption = None,
    threads: ThreadsOption = 1,
    record: RecordOption = None,
    record_as: RecordAsOption = "frames",
    ca: CaOption = None,
    insecure: InsecureOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every result as a JSON line.")] = False,
) -> None:
    """Classify a camera or a recording in real time, until it ends or SIGTERM or Ctrl-C arrives."""
    config = DeviceConfig(
        model=model,
        state=_state(state, device),
        broker=broker,
        site=site,
        device=device,
        deadline_s=deadline_ms / 1000,
        filter=filter_,
        budget=budget,
        send=send,
        encoder=encoder,
        learner=learner,
        shadow=shadow,
        engine=engine,
        threads=threads,
        record=record,
        record_as=record_as,
        ca=ca,
        insecure=insecure,
    )
    read_manifest(model, "edge")  # a mistake in it is told before one in the source, and neither starts a device
    frames = open_source(source)
    with stop_on_signals() as stop, Device(config) as running:
        stop.then(running.stop)
        what = tables.source_line(tables.source_facts(frames))
        console.note(f"{device}: {what}, model {running.runtime.model_no}, state in {config.state}")
        tally = _run_live(frames, running, stop, as_json)
    console.note(tables.closing_line(tally))


def _run_live(source: Source, device: Device, stop: Stop, as_json: bool) -> Tally:
    """Frames at the source's own rate; stamps by the device's clock."""
    tally, clock = Tally(), SystemClock()
    started, reported = clock.monotonic(), clock.monotonic()
    for frame in read_live(source, stop) if source.live else source:
        if stop.wait(0.0 if source.live else max(0.0, started + frame.time_s - clock.monotonic())):
            break
        result = classify(device, replace(frame, time_s=clock.now()), source.name)
        tally.add(result, frame.label)
        if as_json:
            print(json.dumps(result.to_record(), ensure_ascii=False), flush=True)
        elif clock.monotonic() - reported >= REPORT_EVERY_S:
            reported = clock.monotonic()
            print(tables.live_line(result, tally), flush=True)
    return tally


@app.command(epilog="Example: ecc-device replay out.mcap --expect golden.mcap")
def replay(
    source: Annotated[str, typer.Argument(help=f"A recording, or another source: {ACCEPTED}; no camera.")],
    model: Annotated[
        Path | None, typer.Option(help="The edge model; a recording brings along the one that answered then.")
    ] = None,
    broker: Annotated[
        str | None, typer.Option(help="Ask a live worker behind this broker, not the recording; else as for start.")
    ] = None,
    state: Annotated[Path | None, typer.Option(help="State folder; default: a new one that is removed.")] = None,
    results: Annotated[Path | None, typer.Option(help="Write every result to this file, a JSON line each.")] = None,
    record: RecordOption = None,
    record_as: RecordAsOption = "frames",
    expect: Annotated[
        Path | None, typer.Option(help="A recording that the results must equal; exit 1 at the first difference.")
    ] = None,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="1: as fast as it was recorded; default: as fast as possible.")
    ] = None,
    loop: Annotated[int, typer.Option(min=0, help="How often, 0 without end.")] = 1,
    from_: Annotated[float | None, typer.Option("--from", help="Seconds after the first frame to start at.")] = None,
    to: Annotated[float | None, typer.Option(help="Seconds after the first frame to end before.")] = None,
    link: Annotated[
        str | None, typer.Option(help=f"Recorded answers come over such a link: {', '.join(PROFILES)}.")
    ] = None,
    site: SiteOption = "default",
    device: DeviceOption = "device",
    filter_: Annotated[str | None, typer.Option("--filter", help="As for start; default: as recorded.")] = None,
    budget: Annotated[str | None, typer.Option(help="As for start; default: as recorded.")] = None,
    send: Annotated[str | None, typer.Option(help="As for start; default: as recorded.")] = None,
    encoder: Annotated[str | None, typer.Option(help="As for start; default: as recorded.")] = None,
    learner: Annotated[str | None, typer.Option(help="As for start; default: as recorded.")] = None,
    shadow: ShadowOption = SHADOW_FRAMES,
    engine: EngineOption = None,
    patience_s: Annotated[float, typer.Option(min=0, help="How long to wait for a live worker's answer.")] = PATIENCE_S,
    stay: Annotated[
        bool, typer.Option("--stay", help="After the last frame stay up for events, until SIGTERM; with --state.")
    ] = False,
    ca: CaOption = None,
    insecure: InsecureOption = False,
    as_json: JsonOption = False,
) -> None:
    """Classify a recording at its own time: the same recording, model and cloud answers give the same results."""
    if stay and state is None:
        lost = "what it learns then would be removed with its folder; give one with --state"
        raise typer.BadParameter(lost, param_hint="--stay")
    given = {
        "broker": broker,
        "filter": filter_,
        "budget": budget,
        "send": send,
        "encoder": encoder,
        "learner": learner,
        "ca": ca,
        "record": record,
    }
    options = {name: value for name, value in given.items() if value is not None} | {
        "site": site,
        "device": device,
        "patience_s": patience_s,
        "shadow": shadow,
        "insecure": insecure,
        "record_as": record_as,
    }
    with stop_on_signals() as stop:
        started: float | None = None

        def pace(elapsed_s: float) -> None:
            nonlocal started
            started = time.monotonic() if started is None else started
            if speed is not None:
                stop.wait(max(0.0, started + elapsed_s / speed - time.monotonic()))

        played = Replay(
            source,
            model=model,
            engine=engine,
            link=link,
            start_s=from_,
            end_s=to,
            times=loop,
            state=None if state is None else state.expanduser(),
            expect=expect,
            options=options,
            pace=pace,
        )
        with played:
            stop.then(played.device.stop)
            for note in played.notes:
                console.note(note)
            with progress_bar(f"replaying {played.source.name}") as told:
                steps = itertools.count(1)
                run = _until(stop, played.run(), played.length)
                tally = write_results(results, run, lambda: told(min(1.0, next(steps) / (played.length or 1))))
            summary = tally.summary() | {
                "source": tables.source_facts(played.source),
                "model_no": played.device.runtime.model_no,
                "counts": played.device.store.counts(),
            }
            if as_json:
                console.print_json(summary)
            else:
                tables.print_replay(summary)
            sys.stdout.flush()
            if stay:
                stop.wait()


@app.command(epilog="Example: ecc-device status --json")
def status(state: StateOption = None, device: DeviceOption = "device", as_json: JsonOption = False) -> None:
    """What the running device does; without one, what its buffer holds."""
    folder = _state(state, device)
    found: dict[str, Any]
    try:
        found = {"running": True} | dict(_asked(folder, "status"))
    except DeviceNotRunning:
        found = {"running": False} | _buffer(folder)
    console.print_json(found) if as_json else tables.print_status(found, time.time())


@app.command(epilog="Example: ecc-device why 17 --recording out.mcap")
def why(
    frame: Annotated[int, typer.Argument(min=0, help="The frame's number.")],
    recording: Annotated[
        Path | None, typer.Option(help="A recording; without: the running device, or what it left in its folder.")
    ] = None,
    state: StateOption = None,
    device: DeviceOption = "device",
    as_json: JsonOption = False,
) -> None:
    """Explain one decision: both answers, score and threshold, budget, link, cost."""
    if recording is not None:
        facts = explained(Recording(recording), frame)
    else:
        folder = _state(state, device)
        try:
            facts = dict(_asked(folder, "why", frame=frame))
        except DeviceNotRunning:
            facts = read_facts(_existing(folder), frame)
    console.print_json(facts) if as_json else print(Explanation(facts))


@app.command(epilog="Example: ecc-device report out.mcap")
def report(
    recording: Annotated[Path, typer.Argument(help="A recording, made with --record.")],
    out: Annotated[Path | None, typer.Option(help="The page; default: beside the recording, as .html.")] = None,
) -> None:
    """Draw a recording as one HTML page: uploads, scores, decisions, buffer, link, models, events."""
    page = recording.with_suffix(".html") if out is None else out
    write_report(Recording(recording), page)
    print(page)


@app.command(epilog="Example: ecc-device buffer --state ~/.local/state/ecc-snn/device")
def buffer(state: StateOption = None, device: DeviceOption = "device", as_json: JsonOption = False) -> None:
    """Rows in the buffer by state, bytes, what was dropped and why, and the models learnt so far."""
    found = _buffer(_state(state, device))
    console.print_json(found) if as_json else tables.print_status(found, time.time())


@app.command(epilog="Example: ecc-device notify charging --wait")
def notify(
    event: Annotated[str, typer.Argument(help="; ".join(f"{name}: {text}" for name, text in EVENTS.items()))],
    state: StateOption = None,
    device: DeviceOption = "device",
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the update that it starts; exit 1 if none is made.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell a running device what happens to it."""
    folder = _state(state, device)
    note = _asked(folder, "notify", event=check_event(event))
    if not wait:
        if note is not None:
            console.note(note)
        console.print_json({"event": event}) if as_json else print(f"told {device}: {event}")
        return
    with progress_bar("learning") as told, _polling(folder, told):
        decision = dict(_asked(folder, "wait-update", timeout_s=None))
    if as_json:
        console.print_json(decision)
    else:
        verdict = tables.verdict(decision)
        print(f"{verdict}: {decision['reason']} ({decision['seconds']:.1f} s)")
    if not decision["accepted"]:
        raise typer.Exit(console.EXIT_FAILED)


@app.command(epilog="Example: ecc-device updates --json")
def updates(state: StateOption = None, device: DeviceOption = "device", as_json: JsonOption = False) -> None:
    """What the device has learnt so far: every update with its figures, and how it ended."""
    with Store.open(_existing(_state(state, device)), read_only=True) as store:
        found = update_history(store.versions())
    console.print_json(found) if as_json else tables.print_updates(found)


@app.command(name="why-update", epilog="Example: ecc-device why-update 2")
def why_update(
    no: Annotated[int, typer.Argument(min=1, help="The model's number, as in: ecc-device updates.")],
    state: StateOption = None,
    device: DeviceOption = "device",
    as_json: JsonOption = False,
) -> None:
    """Explain one update: what was learnt, what the gate and the shadow run measured, and what followed."""
    with Store.open(_existing(_state(state, device)), read_only=True) as store:
        facts = find_update(store.versions(), no)
    console.print_json(facts) if as_json else print(UpdateExplanation(facts))


@app.command(epilog="Example: ecc-device rollback")
def rollback(state: StateOption = None, device: DeviceOption = "device", as_json: JsonOption = False) -> None:
    """Go back to the model before the active one, in a running device or in its state folder."""
    folder = _state(state, device)
    try:
        no = dict(_asked(folder, "rollback"))["model_no"]
    except DeviceNotRunning:
        with Store.open(_existing(folder)) as store:
            no = roll_back(store, folder)[1]
    console.print_json({"model_no": no}) if as_json else print(f"model {no} is active again")


def _state(state: Path | None, device: str) -> Path:
    return default_state(device) if state is None else state.expanduser()


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise DeviceError(f"{folder}: no device has run here; name its folder with --state")
    return folder


def _buffer(folder: Path) -> dict[str, Any]:
    with Store.open(_existing(folder), read_only=True) as store:
        summary = store.summary()
        models = [
            {"no": v.no, "state": v.state, "parent": v.parent, "reason": v.figures.get("reason")}
            for v in store.versions()
        ]
    return {
        "state": str(folder),
        "rows": summary.rows,
        "bytes_used": summary.bytes_used,
        "max_bytes": summary.max_bytes,
        "oldest_s": summary.oldest_s,
        "drops": summary.drops,
        "counts": summary.counts,
        "models": models,
    }


def _asked(folder: Path, do: str, timeout_s: float | None = 10.0, **arguments: object) -> Any:
    return control.ask(folder, do, timeout_s, **arguments)


@contextlib.contextmanager
def _polling(folder: Path, told: Any) -> Iterator[None]:
    """Show a running update's progress while the block waits for its end."""
    done = threading.Event()

    def poll() -> None:
        while not done.wait(0.2):
            with contextlib.suppress(EccError):
                told((dict(_asked(folder, "status"))["update"]["progress_percent"] or 0) / 100)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _until(stop: Stop, items: Iterator[T], length: int | None) -> Iterator[T]:
    """The items; `DeviceError` when `stop` came before the last of `length` (None: nobody knows)."""
    for done, item in enumerate(items, 1):
        yield item
        if stop.is_set() and done != length:
            of = "" if length is None else f" of {length}"
            raise DeviceError(f"stopped after {done}{of} frames; replay again from the start")


def main() -> None:
    """Entry point of `ecc-device`."""
    console.run(app)
