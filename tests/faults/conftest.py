"""Real processes for the fault tests: a device on tiny models, a worker, recordings that last."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from commands import Command, Robot

from ecc_broker.mqtt import MqttLink
from ecc_device.sources import save_npz
from support.brokers import BrokerProcess
from support.models import TinyModels, write_tiny_models
from support.workers import Script, ScriptedWorker, frames, sure

LEAD_S = 1.0  # for a device to find a worker that is there
HOUR_S = 3600.0


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Every frame is ambiguous to this edge model."""
    return write_tiny_models(tmp_path_factory.mktemp("models"), threshold=0.0)


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes frames of noise, `rate_hz` of them a second; with `stays` from `LEAD_S` on, and one in an hour."""
    folder = tmp_path_factory.mktemp("recordings")

    def write(count: int, rate_hz: float = 100.0, *, stays: bool = True) -> Path:
        path = folder / f"{count}-{rate_hz:g}-{stays}.npz"
        times = stays * LEAD_S + np.arange(count + stays) / rate_hz
        if stays:
            times[-1] = HOUR_S
        save_npz(path, np.stack([frame.pixels for frame in frames(count + stays)]), times=times)
        return path

    return write


@pytest.fixture(scope="session")
def stream(recording: Callable[..., Path]) -> Path:
    """Fifty frames a second, for longer than any test."""
    return recording(10_000, 50.0)


@pytest.fixture
def robot(models: TinyModels, tmp_path: Path) -> Iterator[Robot]:
    """A device that the test starts; it is gone when the test is over."""
    robot = Robot(models.edge, tmp_path)
    yield robot
    for run in robot.runs:
        run.clean_up()


@pytest.fixture
def cloud() -> Iterator[Callable[..., Command]]:
    """Starts `ecc-cloud start` with a model at a broker, and waits until it takes requests."""
    commands: list[Command] = []

    def start(model: Path, broker: BrokerProcess, *arguments: str) -> Command:
        given = ["--model", model, "--broker", broker.url, "--json", *arguments]
        commands.append(Command("ecc-cloud", "start", *given))
        commands[-1].wait_output(1)
        assert json.loads(commands[-1].output[0])["broker"] == broker.url
        return commands[-1]

    yield start
    for command in commands:
        command.clean_up()


@pytest.fixture
def worker(mosquitto: BrokerProcess, models: TinyModels) -> Iterator[Callable[[Script], ScriptedWorker]]:
    """Starts a worker over Mosquitto whose answers the test decides."""
    workers: list[ScriptedWorker] = []

    def start(script: Script = sure) -> ScriptedWorker:
        link = MqttLink(mosquitto.url, "worker")
        workers.append(ScriptedWorker(link, [bytes.fromhex(models.program.features_id)[:4]], script).start())
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()
