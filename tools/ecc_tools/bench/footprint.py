"""`ecc-tools bench footprint`: what a device takes: disk of the core install, memory, and time to its first result.

The device is a process of its own, started as users start it, connected to Mosquitto, on frames of noise.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from packaging.requirements import Requirement

import ecc_broker
import ecc_cloud
import ecc_device
import ecc_model
import ecc_snn
import ecc_tools
from ecc_broker import topics
from ecc_broker.mqtt import MqttLink
from ecc_broker.server import start_broker
from ecc_model import console
from ecc_model.errors import DeviceError
from ecc_model.modelfile import read_edge
from ecc_tools.bench.timing import machine, spread

CORE = "ecc-snn"
OURS = (ecc_model, ecc_broker, ecc_device, ecc_cloud, ecc_snn, ecc_tools)
SITE, DEVICE = "bench", "bench"
FRAMES = 30
WAIT_S = 60.0
MB = 1e6


def installed_mb() -> dict[str, float]:
    """Megabytes of the core package and of everything that it needs, bytecode included, the largest first."""
    sizes: dict[str, float] = {}
    waiting = [CORE]
    while waiting:
        name = waiting.pop()
        if name in sizes:
            continue
        found = importlib.metadata.distribution(name)
        sizes[name] = sum(map(_size, _files(name, found))) / MB
        waiting += [need for need in map(_needed, found.requires or []) if need]
    return {name: round(size, 2) for name, size in sorted(sizes.items(), key=lambda item: -item[1])}


def _files(name: str, found: importlib.metadata.Distribution) -> set[Path]:
    """The files of a package, and the bytecode of its modules, whether pip recorded it or Python made it later."""
    if name == CORE:  # an editable install records nothing
        return {file for package in OURS for file in Path(package.__path__[0]).rglob("*") if file.suffix != ".c"}
    files = {Path(str(file.locate())) for file in found.files or []}
    return files | {code for file in files for code in (file.parent / "__pycache__").glob(f"{file.stem}.cpython-*.pyc")}


def _size(file: Path) -> int:
    return file.stat().st_size if file.is_file() else 0


def _needed(requirement: str) -> str:
    """The package that a requirement names; "" for those of extras and of other platforms."""
    parsed = Requirement(requirement)
    return parsed.name if parsed.marker is None or parsed.marker.evaluate({"extra": ""}) else ""


def device_run(model: Path, folder: Path) -> dict[str, float]:
    """A device from its start on: seconds to its first result, and megabytes once `FRAMES` results are there."""
    spec = read_edge(model).program.input
    noise = np.random.default_rng(0).integers(0, 256, (FRAMES, spec.height, spec.width, spec.channels), np.uint8)
    np.savez(folder / "frames.npz", frames=noise, times=np.arange(FRAMES) / 100)
    with ExitStack() as stack:
        broker = start_broker(None, folder / "broker", "mosquitto")
        stack.callback(broker.stop)
        online = threading.Event()
        watcher = MqttLink(broker.url, "watcher")
        stack.callback(watcher.close)
        watcher.subscribe(topics.topic("status", SITE, DEVICE), lambda message: online.set())
        watcher.start()
        command = [sys.executable, "-m", "ecc_device", "start", "--model", str(model), "--json", "--device", DEVICE]
        command += ["--source", str(folder / "frames.npz"), "--site", SITE, "--broker", broker.url]
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--state", str(folder / "state")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        stack.callback(process.communicate)
        stack.callback(process.kill)
        found = _watch(process, started)
        if not found or not online.wait(WAIT_S):
            raise DeviceError(f"the device ended before {FRAMES} results; try: {' '.join(command)}")
        return found


def _watch(process: subprocess.Popen[str], started: float) -> dict[str, float]:
    first = 0.0
    for number, _ in enumerate(process.stdout or (), 1):
        first = first or time.perf_counter() - started
        if number == FRAMES - 1:  # the last one may be the end of the process
            memory = psutil.Process(process.pid).memory_full_info()
            return {"first_result_s": first, "rss_mb": memory.rss / MB, "own_mb": memory.uss / MB}
    return {}


def footprint(
    model: Annotated[Path, typer.Option(help="The edge model that the device runs.")],
    runs: Annotated[int, typer.Option(min=3, help="Starts of the device.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Disk of the core install, memory of a running device, and time from its start to its first result."""
    found = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            found.append(device_run(model, Path(folder)))
    installed = installed_mb()
    measured: dict[str, Any] = {
        "machine": machine(),
        "runs": runs,
        "installed_mb": {"all": round(sum(installed.values()), 1)} | installed,
        **{name: spread(np.array([run[name] for run in found])) for name in found[0]},
    }
    if as_json:
        console.print_json(measured)
        return
    for name in ("first_result_s", "rss_mb", "own_mb"):
        row = measured[name]
        print(f"{name:16}{row['median']:9.3f} ({row['p5']:.3f} to {row['p95']:.3f})")
    print("installed, MB: " + ", ".join(f"{name} {size:g}" for name, size in measured["installed_mb"].items()))
