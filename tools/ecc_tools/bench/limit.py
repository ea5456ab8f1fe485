"""`ecc-tools bench limit`: how much of what this processor can add up at most each layer of the event engine reaches.

The limit: rows of int8 weights widened and added by the kernel's own loop, over ready lists of random rows, with no
events to find and no neurons to update. `L1`: out of a table of 16 KiB, the most that there is; `own`: out of a table
as large as the layer's weights, which lie in L2 or beyond. A layer may pass the latter: its rows do not come at random.
A layer that fires so densely that the engine multiplies all inputs is bound by neither.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ecc_device.engines.arena import ISAS, chosen_isa, require_library
from ecc_model import console
from ecc_tools.bench.edge import Subject, model_subject, random_subjects
from ecc_tools.bench.operations import LayerCost, costs
from ecc_tools.bench.timing import machine

L1_TABLE = 16 << 10
RUN = 256  # events in a list
EVENTS = 1 << 14
PASSES = 10  # the fastest counts
SECONDS = 0.002  # of one pass
PROFILED = 30


def limit(row: int, table: int) -> float:
    """Operations per second: rows of `row` bytes (whole 64) out of `table` bytes, in lists of `RUN`."""
    found = require_library()
    weights = _aligned(max(table, row))
    events = (np.random.default_rng(0).integers(0, len(weights) // row, EVENTS) * row).astype(np.uint32)
    sums = np.zeros(row, np.int32)

    def seconds(rounds: int) -> float:
        begin = time.perf_counter()
        found.ecc_events_limit(
            *(ISAS[chosen_isa()], weights.ctypes.data, weights.nbytes, row, events.ctypes.data, len(events)),
            *(RUN, rounds, sums.ctypes.data),
        )
        return time.perf_counter() - begin

    rounds = 1 + int(SECONDS / seconds(1))
    checked = min(seconds(0) for _ in range(PASSES))
    return EVENTS * row * rounds / (min(seconds(rounds) for _ in range(PASSES)) - checked)


def _aligned(size: int) -> NDArray[np.int8]:
    """Ones that start at a cache line, as the engine's weights do."""
    memory = np.ones(size + 64, np.int8)
    first = -memory.ctypes.data % 64
    return memory[first : first + size]


def measure(subject: Subject) -> list[dict[str, Any]]:
    """Each layer that spikes enter: its operations per second, the limits, and its share of them."""
    found = []
    for cost in costs(subject.program, subject.frames[:1], PROFILED):
        if cost.counted and cost.per_second > 0:
            row = -(-cost.outputs // 64) * 64
            own = limit(row, cost.weight_bytes // cost.outputs * row)
            found.append(_row(cost, own, limit(row, L1_TABLE)))
    return found


def _row(cost: LayerCost, own: float, l1: float) -> dict[str, Any]:
    return {
        "place": cost.place,
        "kind": cost.kind,
        "outputs": cost.outputs,
        "rate": round(cost.rates[0], 4),
        "us": round(cost.nanoseconds[0] / 1e3, 1),
        "operations": cost.operations[0],
        "operations_per_s": round(cost.per_second),
        "limit_own": round(own),
        "limit_l1": round(l1),
        "share_own": round(cost.per_second / own, 3),
        "share_l1": round(cost.per_second / l1, 3),
    }


def limits(
    model: Annotated[Path | None, typer.Option(help="An edge model; without it, random VGG-9s.")] = None,
    data: Annotated[str | None, typer.Option(help="The model's frames: a set, a folder of images or an .npz.")] = None,
    root: Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")] = None,
    steps: Annotated[int, typer.Option(min=1, max=16, help="T of random networks.")] = 4,
    width: Annotated[float, typer.Option(min=0.05, help="Their width.")] = 1.0,
    rate: Annotated[list[float], typer.Option(min=0, max=1, help="How much fires in them.")] = [0.05],  # noqa: B006
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Operations per second of every layer, beside the most that this processor's kernel can do."""
    subjects = list(random_subjects([steps], [width], rate)) if model is None else [model_subject(model, data, root, 1)]
    measured: dict[str, Any] = {"machine": machine() | {"isa": chosen_isa()}, "run": RUN, "networks": []}
    for subject in subjects:
        measured["networks"].append({"network": subject.name, "layers": measure(subject)})
    if as_json:
        console.print_json(measured)
        return
    for network in measured["networks"]:
        print(f"{network['network']}; 10^9 operations per second")
        columns = ("outputs", "rate", "us", "reached", "own", "L1", "of own", "of L1")
        print(f"  {'layer':10}" + "".join(f"{column:>8}" for column in columns))
        for row in network["layers"]:
            speeds = [row[key] / 1e9 for key in ("operations_per_s", "limit_own", "limit_l1")]
            print(
                f"  {row['place']:10}{row['outputs']:8}{row['rate']:8.1%}{row['us']:8.1f}"
                f"{speeds[0]:8.1f}{speeds[1]:8.1f}{speeds[2]:8.1f}{row['share_own']:8.0%}{row['share_l1']:8.0%}"
            )
