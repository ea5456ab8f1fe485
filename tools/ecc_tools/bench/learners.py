"""`ecc-tools bench learners`: one update by each learner, in the process that a device starts for it."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ecc_device.learning.job import Job, held_out, write_job
from ecc_device.learning.process import ONE_THREAD
from ecc_model import console
from ecc_model.modelfile import EdgeModel, read_edge
from ecc_model.progress import progress_bar
from ecc_tools.bench.timing import machine
from ecc_tools.processes import ProgramFailed

COMPARED = ("analytic", "lwf")
SURE = 6.0  # the cloud's logit of the class that it names
# the child's own figures: what its parent would be told of its memory includes the parent's before the child began
CHILD = """
import json, re, resource, sys
from ecc_device.learning.child import main
code = main(sys.argv[1:])
peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())
used = resource.getrusage(resource.RUSAGE_SELF)
seconds = used.ru_utime + used.ru_stime
print(json.dumps({"seconds": seconds, "mib": int(peak[1]) / 1024, "torch": "torch" in sys.modules}))
sys.exit(code)
"""


def learners(
    model: Annotated[Path, typer.Option(help="An edge model with statistics.")],
    rows: Annotated[int, typer.Option(min=20, max=2048, help="Rows to learn from.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="How often each learner runs; in turn.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Processor time and peak memory of learning in closed form and by gradients, on as many rows."""
    with progress_bar("learning") as told:
        measured = bench_learners(model, rows, rounds, told)
    if as_json:
        console.print_json(measured)
        return
    for name in COMPARED:
        found = measured["learners"][name]
        print(f"{name:10} {found['seconds']:8.2f} s of one processor, at most {found['mib']:7.1f} MiB")
    print(f"ratio {measured['ratio']:.1f} (lwf / analytic, median of {rounds} rounds), {rows} rows")


def bench_learners(path: Path, rows: int, rounds: int, told: Any) -> dict[str, Any]:
    """Medians of each learner, and of the ratio in each round."""
    model = read_edge(path)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in COMPARED}
    for index in range(rounds):
        for place, name in enumerate(COMPARED):
            runs[name].append(_run(model, name, rows))
            told((index + (place + 1) / len(COMPARED)) / rounds)
    ratios = [slow["seconds"] / fast["seconds"] for fast, slow in zip(*runs.values(), strict=True)]
    return {
        "rows": rows,
        "rounds": rounds,
        "learners": {
            name: {key: statistics.median(run[key] for run in found) for key in ("seconds", "mib")}
            | {"torch": any(run["torch"] for run in found)}
            for name, found in runs.items()
        },
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        **machine(),
    }


def _run(model: EdgeModel, learner: str, rows: int) -> dict[str, float]:
    """One update from the guard's rows, again and again, each answered with its class."""
    order = np.arange(rows) % len(model.guard.labels)
    labels = model.guard.labels[order].astype(np.int64)
    logits = SURE * np.eye(len(model.labels), dtype=np.float32)[labels]
    job = Job(
        model=str(model.path.absolute()), labels=list(model.labels), row_ids=list(range(rows)), learner=learner, seed=0
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "update"
        write_job(work, job, {"bits": model.guard.bits[order], "logits": logits, "held": held_out(labels)})
        command = [sys.executable, "-c", CHILD, str(work), str(os.getpid())]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | ONE_THREAD)
        if done.returncode:
            raise ProgramFailed(f"the learner '{learner}' failed: {(done.stderr.splitlines() or ['no message'])[-1]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))
