"""`ecc-tools bench sdk`: what an `Edge` adds to its engine, and how well it keeps a deadline beside a bare wait."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ecc_device.engines import make_engine
from ecc_model import console
from ecc_model.frames import Pixels
from ecc_model.modelfile import read_edge
from ecc_model.progress import progress_bar
from ecc_snn import Edge, Result
from ecc_snn.testing import RealtimeClock, SimulatedLink, TableCloud
from ecc_tools.bench.timing import alternate, compare, machine

DELAY_S = (0.0, 0.5)  # of the worker's answers
WARM_UP = 20
SETTLE_S = 30.0  # for the last answers to come


def sdk(
    model: Annotated[Path, typer.Argument(help="The edge model, e.g. vgg9.pt.")],
    rounds: Annotated[int, typer.Option(min=5, help="Rounds; each times engine and Edge once.")] = 200,
    calls: Annotated[int, typer.Option(min=10, help="Frames that have a deadline.")] = 1000,
    threads: Annotated[int, typer.Option(min=1, help="Threads that classify them.")] = 8,
    deadline_ms: Annotated[float, typer.Option(min=0, help="Their deadline.")] = 50.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Milliseconds that an Edge adds to the engine, and deadlines with a worker that takes 0 to 500 ms."""
    with progress_bar("classifying") as told:
        measured = {
            "overhead": bench_overhead(model, rounds),
            "deadlines": bench_deadlines(model, calls, threads, deadline_ms, told),
            "machine": machine(),
        }
    if as_json:
        console.print_json(measured)
        return
    for name, one in measured["overhead"].items():
        ms, ratio = one["ms"], one["ratio"]
        print(f"{name}: {ms['median']} ms ({ms['p5']} to {ms['p95']}), {ratio['median']} times the engine")
    found = measured["deadlines"]
    for name in ("classify", "bare wait"):
        print(f"{name}, beyond its {deadline_ms:g} ms: {_line(found[name])} ms")
    print(", ".join(f"{found[name]} {name.replace('_', ' ')}" for name in ("frames", "in_time", "corrected", "twice")))


def bench_overhead(model: Path, rounds: int) -> dict[str, Any]:
    """The engine alone, a frame that the Edge is sure of, and one that it stores, in turn, on the same frames."""
    program = read_edge(model).program
    engine = make_engine(None, program)
    frames = _frames(model, 64)

    def bare(number: int) -> None:
        engine.exit(engine.head(frames[number % len(frames)]))

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sure = stack.enter_context(Edge(model, state=folder / "sure", device="sure", filter="edge-only"))
        unsure = stack.enter_context(Edge(model, state=folder / "unsure", device="unsure", filter="cloud-only"))
        times = alternate(
            {
                "engine": bare,
                "sure": lambda number: sure.classify(frames[number % len(frames)]),
                "ambiguous": lambda number: unsure.classify(frames[number % len(frames)]),
            },
            rounds,
        )
    added = {f"{name} adds": times[name] - times["engine"] for name in ("sure", "ambiguous")}
    return compare(times | added, "engine")


def bench_deadlines(
    model: Path, calls: int, threads: int, deadline_ms: float, told: Callable[[float], None]
) -> dict[str, Any]:
    """Milliseconds beyond the deadline, of frames without an answer in time and of bare timed waits between them."""
    frames = _frames(model, 16)
    corrections: Counter[int] = Counter()
    results: list[tuple[Result, float]] = []
    waits: list[float] = []

    def use(_: int) -> None:
        begin = time.perf_counter()
        result = edge.classify(frames[len(results) % len(frames)])
        results.append((result, 1e3 * (time.perf_counter() - begin) - deadline_ms))
        begin = time.perf_counter()
        threading.Event().wait(deadline_ms / 1e3)
        waits.append(1e3 * (time.perf_counter() - begin) - deadline_ms)
        told(len(results) / calls)

    with tempfile.TemporaryDirectory() as folder, RealtimeClock() as clock:
        link = SimulatedLink(TableCloud(model, otherwise="0", delay_s=DELAY_S), clock)
        with (
            Edge(model, state=folder, link=link, clock=clock, filter="cloud-only", deadline_ms=deadline_ms) as edge,
            ThreadPoolExecutor(threads) as pool,
        ):
            edge.on_result(lambda result: corrections.update([result.frame]))
            for _ in range(WARM_UP):
                edge.classify(frames[0], deadline_ms=0)
            list(pool.map(use, range(calls)))
            until_s = time.monotonic() + SETTLE_S
            while edge.status()["counts"].get("answered", 0) < calls + WARM_UP and time.monotonic() < until_s:
                threading.Event().wait(0.05)
    late = [over_ms for result, over_ms in results if result.cloud is None]
    corrected = [result.frame for result, _ in results if corrections[result.frame]]
    return {
        "frames": len(results),
        "in_time": len(results) - len(late),
        "corrected": len(corrected),
        "twice": sum(count > 1 for count in corrections.values()),
        "threads": threads,
        "classify": _quantiles(late),
        "bare wait": _quantiles(waits),
    }


def _frames(model: Path, count: int) -> list[Pixels]:
    """Noise of the network's size."""
    spec = read_edge(model).program.input
    shape = (count, spec.height, spec.width, spec.channels)
    frames: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return list(frames)


def _quantiles(values_ms: list[float]) -> dict[str, float]:
    if not values_ms:
        return {}
    found = np.quantile(values_ms, (0.5, 0.99, 0.999, 1.0))
    return {name: round(float(value), 3) for name, value in zip(("p50", "p99", "p99.9", "most"), found, strict=True)}


def _line(quantiles: dict[str, float]) -> str:
    return ", ".join(f"{name} {value}" for name, value in quantiles.items())
