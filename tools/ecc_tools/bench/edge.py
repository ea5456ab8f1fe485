"""`ecc-tools bench edge`: the event engine beside other engines and runtimes, frame to logits, on one thread.

Without a model: VGG-9 of random weights over steps, widths and firing rates, and a line through time and operations.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import typer
from numpy.typing import ArrayLike, NDArray

from ecc_device.engines import ENGINES, MAX_THREADS, Engine, make_engine
from ecc_device.engines.arena import ISA, chosen_isa
from ecc_device.sources import open_source
from ecc_model import console
from ecc_model.errors import DeviceError
from ecc_model.frames import Pixels
from ecc_model.modelfile import read_edge
from ecc_model.optional import require
from ecc_model.program import Program
from ecc_tools.bench.dense import CALIBRATION_FRAMES, dense_of_run
from ecc_tools.bench.networks import random_vgg9
from ecc_tools.bench.operations import costs
from ecc_tools.bench.peers import DENSE, PEERS, Peer
from ecc_tools.bench.plot import plot_lines
from ecc_tools.bench.timing import alternate, compare, machine

OURS = "event"
FRAMES = 8  # of random networks
Dense = tuple[dict[str, Peer], dict[str, float]]
PROFILED = 3  # times that a layer is timed; the least counts


@dataclass(frozen=True)
class Subject:
    """A program and frames for it, and what it is called."""

    name: str
    program: Program
    frames: Sequence[Pixels]
    asked: dict[str, float]  # steps, width and rate of a random network


def random_subjects(steps: Sequence[int], widths: Sequence[float], rates: Sequence[float]) -> Iterator[Subject]:
    """Random VGG-9s, the rates of one size after each other."""
    rng = np.random.default_rng(1)
    for count, width, rate in itertools.product(steps, widths, rates):
        program, frame = random_vgg9(count, width, rate)
        frames = [frame, *rng.integers(0, 256, (FRAMES - 1, *frame.shape), np.uint8)]
        asked = {"steps": count, "width": width, "rate": rate}
        yield Subject(f"VGG-9 width {width:g}, T {count}, {rate:.0%} firing", program, frames, asked)


def candidates(
    program: Program, against: Sequence[str], isas: Sequence[str], threads: Sequence[int] = ()
) -> dict[str, Engine]:
    """Engines by name: the event engine, its other builds, itself with more threads, and what else is asked for."""
    made: dict[str, Engine] = {OURS: make_engine(OURS, program)}
    for isa in isas:
        with _environment(isa):
            if isa != made[OURS].isa:  # type: ignore[attr-defined]
                made[f"{OURS} ({isa})"] = make_engine(OURS, program)
    made |= {f"{OURS} ({count} threads)": make_engine(OURS, program, count) for count in threads}
    return made | {name: make_engine(name, program) for name in against if name in ENGINES}


def check_against(names: Sequence[str]) -> None:
    """`DeviceError` unless each is an engine or a peer."""
    known = [*ENGINES, *PEERS]
    for name in names:
        if name not in known:
            raise DeviceError(f"there is nothing called '{name:.20}' to compare with; choose from: {', '.join(known)}")


@contextlib.contextmanager
def _environment(isa: str) -> Iterator[None]:
    before = os.environ.get(ISA)
    os.environ[ISA] = isa
    try:
        yield
    finally:
        del os.environ[ISA]
        if before is not None:
            os.environ[ISA] = before


def classify(engine: Engine, frames: Sequence[Pixels]) -> Callable[[int], NDArray[np.float32]]:
    """Frame to logits: what is timed."""
    return lambda number: engine.exit(engine.head(frames[number % len(frames)]))


def answer(peer: Peer, frames: Sequence[Pixels]) -> Callable[[int], NDArray[np.float32]]:
    """The same of another runtime."""
    return lambda number: peer(frames[number % len(frames)])


def measure(subject: Subject, engines: dict[str, Engine], peers: dict[str, Peer], rounds: int) -> dict[str, Any]:
    """Operations of the program and times of all; `DeviceError` where an engine gives other logits.

    Of a model also the line through its frames, milliseconds inside the C library over operations, and the share of
    frames of which a peer that is the same network names the same class: it rounds otherwise.
    """
    timed = {name: classify(engine, subject.frames) for name, engine in engines.items()}
    expected = timed[OURS](0)
    for name, call in timed.items():
        if call(0).tobytes() != expected.tobytes():
            raise DeviceError(f"the engine '{name}' gives other logits than '{OURS}'; that is a bug: report it")
    for name, peer in peers.items():
        timed[name] = answer(peer, subject.frames)
    layers = costs(subject.program, subject.frames, PROFILED)
    counted = [layer for layer in layers if layer.counted]
    operations = np.sum([layer.operations for layer in counted], axis=0)
    row = {
        "network": subject.name,
        **subject.asked,
        "features_id": subject.program.features_id[:8],
        "firing": round(float(np.mean([layer.rates for layer in counted])), 4),
        "operations": round(float(operations.mean())),
        "candidates": compare(alternate(timed, rounds), OURS),
        "layers": [
            {"place": layer.place, "kind": layer.kind, "us": round(float(np.median(layer.nanoseconds)) / 1e3, 1)}
            for layer in layers
        ],
    }
    if subject.asked:
        return row
    if operations.min() < operations.max():
        row["line"] = line(operations, np.sum([layer.nanoseconds for layer in layers], axis=0) / 1e6)
    own = classes(timed[OURS], len(subject.frames))
    same = {name: classes(timed[name], len(own)) == own for name in peers if name not in DENSE}
    return row | {"same_class": {name: round(float(flags.mean()), 4) for name, flags in same.items()}}


def classes(call: Callable[[int], NDArray[np.float32]], frames: int) -> NDArray[np.intp]:
    """The class that each of so many frames gets, as its number."""
    return np.array([call(number).argmax() for number in range(frames)])


def line(operations: ArrayLike, ms: ArrayLike) -> dict[str, float]:
    """Least squares `ms = rest + slope * operations`, and how much of the spread it explains (R^2)."""
    x, y = np.asarray(operations, np.float64), np.asarray(ms, np.float64)
    slope, rest = np.polyfit(x, y, 1)
    explained = 1 - float(((y - rest - slope * x) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    return {
        "r2": round(explained, 4),
        "operations_per_s": round(1e3 / float(slope)),
        "ms_without_operations": round(float(rest), 4),
    }


def lines(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each size and each build of the event engine: the line through three or more rates.

    A network that is silent altogether skips what every other one does for each neuron, so it is no point of the line:
    `silent_share` is its time beside that at 5 % firing, and `r2_with_silence` the line's fit if it were one.
    """
    found = []
    for steps, width in sorted({(row["steps"], row["width"]) for row in rows if "rate" in row}):
        same = [row for row in rows if (row.get("steps"), row.get("width")) == (steps, width)]
        firing = [row for row in same if row["rate"] > 0]
        for name in (name for name in same[0]["candidates"] if name.startswith(OURS) and len(firing) > 2):
            entry = {"steps": steps, "width": width, "candidate": name} | _line(firing, name)
            ms = {row["rate"]: row["candidates"][name]["ms"]["median"] for row in same}
            if 0.0 in ms and 0.05 in ms:
                entry["silent_share"] = round(ms[0.0] / ms[0.05], 3)
                entry["r2_with_silence"] = _line(same, name)["r2"]
            found.append(entry)
    return found


def _line(rows: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    return line([row["operations"] for row in rows], [row["candidates"][name]["ms"]["median"] for row in rows])


def edge(
    model: Annotated[Path | None, typer.Option(help="An edge model; without it, random VGG-9s.")] = None,
    data: Annotated[
        str | None, typer.Option(help="The model's frames: a set, a folder, an .npz, events#steps=T.")
    ] = None,
    root: Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")] = None,
    against: Annotated[list[str], typer.Option(help="Engines and runtimes to compare with: a,b,c.")] = [],  # noqa: B006
    dense: Annotated[
        Path | None, typer.Option(help="A run of dense-vgg9: its weights for 'ann' and 'ann-tflite'; accuracies too.")
    ] = None,
    isa: Annotated[list[str], typer.Option(help="Other builds of the event engine, as avx2.")] = [],  # noqa: B006
    threads: Annotated[
        list[int], typer.Option(min=2, max=MAX_THREADS, help="The event engine with so many, too.")
    ] = [],  # noqa: B006
    steps: Annotated[list[int], typer.Option(min=1, max=16, help="T of random networks.")] = [4, 2],  # noqa: B006
    width: Annotated[list[float], typer.Option(min=0.05, help="Their widths.")] = [1.0, 0.5],  # noqa: B006
    rate: Annotated[list[float], typer.Option(min=0, max=1, help="How much fires in them.")] = [  # noqa: B006
        *(0.0, 0.01, 0.02, 0.03, 0.05, 0.1)
    ],
    frames: Annotated[int, typer.Option(min=1, help="Frames of a model that are used.")] = 200,
    rounds: Annotated[int, typer.Option(min=5, help="Rounds; each times every candidate once.")] = 20,
    out: Annotated[Path | None, typer.Option(help="Folder for edge.json and edge.svg.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The event engine beside others on the same weights, in turns: milliseconds a frame, and ratios."""
    against = [name for given in against for name in given.split(",")]
    check_against(against)
    if {"torch", "spikingjelly"} & set(against):
        require("torch", "what is compared with").set_num_threads(1)
    if dense is not None and not set(against) & set(DENSE):
        raise DeviceError(f"{dense}: nothing runs this network; add --against {','.join(DENSE)}")
    if dense is not None and model is None:
        raise DeviceError(f"{dense}: a trained dense network stands beside a trained edge; name that with --model")
    subjects: Iterator[Subject] = random_subjects(steps, width, rate)
    if model is not None:
        subjects = iter([model_subject(model, data, root, frames)])
    measured: dict[str, Any] = {"machine": machine() | {"isa": chosen_isa()}, "rounds": rounds, "networks": []}
    for subject in subjects:
        peers = {name: PEERS[name](subject.program) for name in against if name in PEERS}
        told: dict[str, Any] = {}
        if dense is not None and model is not None:
            trained, told["accuracy"] = trained_dense(dense, model, str(data), root, against)
            peers |= trained
        row = measure(subject, candidates(subject.program, against, isa, threads), peers, rounds) | told
        measured["networks"].append(row)
        if not as_json:
            _print(row)
    measured["lines"] = lines(measured["networks"])
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "edge.json").write_bytes(msgspec.json.format(msgspec.json.encode(measured)) + b"\n")
        if measured["lines"]:
            plot_lines(measured, out / "edge.svg")
    if as_json:
        console.print_json(measured)
        return
    for row in measured["lines"]:
        print(
            f"width {row['width']:g}, T {row['steps']}, {row['candidate']}: R^2 {row['r2']}, "
            f"{row['operations_per_s'] / 1e9:.1f} G operations/s, no spikes: {row.get('silent_share', '-')} of 5 %"
        )


def model_subject(path: Path, data: str | None, root: Path | None, count: int) -> Subject:
    """A model and the first `count` of its frames."""
    model = read_edge(path)
    if data is None:
        raise DeviceError(f"{path}: a model is timed on real frames; name them with --data")
    return Subject(path.name, model.program, _frames(data, root, count), {})


def _frames(data: str, root: Path | None, count: int) -> list[Pixels]:
    """The first frames of a recording, with labels or without, or of the test part of a set or folder."""
    if data.endswith(".npz") or "#" in data:
        with contextlib.closing(open_source(data)) as source:
            return [frame.pixels for frame in itertools.islice(source, count)]
    require("torch", "reading labelled frames")
    from ecc_tools.collaborate.labelled import open_labelled

    return list(open_labelled(data, root, "test").frames[:count])


def trained_dense(run: Path, path: Path, data: str, root: Path | None, against: Sequence[str]) -> Dense:
    """A run's dense network in the runtimes that are asked for, and the accuracy of it and the model on test frames."""
    from ecc_tools.collaborate.labelled import check_classes, open_labelled

    model = read_edge(path)

    def known(part: str) -> tuple[list[Pixels], NDArray[np.str_]]:
        found = open_labelled(data, root, part)
        check_classes(found, model.labels)
        truth = np.array(found.names)[found.labels]
        seen = np.isin(truth, model.labels)
        return list(found.frames[seen]), truth[seen]

    seen, _ = known("validation")
    some = np.linspace(0, len(seen) - 1, min(len(seen), CALIBRATION_FRAMES)).astype(int)  # a folder lies class by class
    layers = dense_of_run(run, model.program, model.labels, np.stack([seen[k] for k in some]))
    peers = {name: DENSE[name](model.program, layers) for name in against if name in DENSE}
    frames, truth = known("test")
    answers = {OURS: classify(make_engine(OURS, model.program), frames)}
    answers |= {name: answer(peer, frames) for name, peer in peers.items()}
    labels = np.array(model.labels)
    right = {name: float((labels[classes(call, len(frames))] == truth).mean()) for name, call in answers.items()}
    return peers, {"n": len(frames), **right}


def _print(row: dict[str, Any]) -> None:
    fit = f", R^2 over frames {row['line']['r2']}" if "line" in row else ""
    print(f"{row['network']}: {row['firing']:.1%} of the inputs fire, {row['operations'] / 1e6:.1f} M operations{fit}")
    if "accuracy" in row:
        right = row["accuracy"]
        shares = ", ".join(f"{name} {share:.2%}" for name, share in right.items() if name != "n")
        print(f"right on {right['n']} test frames: {shares}")
    for name, share in row.get("same_class", {}).items():
        print(f"{name} rounds otherwise: {share:.1%} of the frames have the same class")
    for name, figures in row["candidates"].items():
        ms, ratio = figures["ms"], figures["ratio"]
        print(
            f"  {name:18}{ms['median']:9.3f} ms ({ms['p5']:.3f} to {ms['p95']:.3f})"
            f"{ratio['median']:9.2f} x ({ratio['p5']:.2f} to {ratio['p95']:.2f})"
        )
