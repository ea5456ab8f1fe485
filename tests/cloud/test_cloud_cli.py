"""`ecc-cloud` as a process, over a real Mosquitto."""

from __future__ import annotations

import json
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ecc_broker.mqtt import MqttLink
from ecc_cloud import cli
from ecc_cloud.model import CloudModel
from support.asker import PATIENCE_S, Asker, features_request, frame_request
from support.models import TinyModels


class CloudProcess:
    """A running `ecc-cloud start --json`."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-c", "from ecc_cloud.cli import main; main()", "start", "--json", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines: dict[str, queue.Queue[str]] = {"stdout": queue.Queue(), "stderr": queue.Queue()}
        self._readers = [threading.Thread(target=self._read, args=(name,)) for name in self._lines]
        for reader in self._readers:
            reader.start()

    def line(self, stream: str = "stdout") -> str:
        """The next line of a stream, without its end."""
        return self._lines[stream].get(timeout=PATIENCE_S)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the exit code."""
        self._process.send_signal(number)
        code = self._process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        for stream in (self._process.stdout, self._process.stderr):
            stream.close()
        return code

    def rest(self, stream: str) -> list[str]:
        """All lines of a stream that nobody has taken, after `stop`."""
        return list(self._lines[stream].queue)

    def end(self) -> None:
        """Make sure that it is gone."""
        if self._process.poll() is None:
            self.stop(signal.SIGKILL)

    def _read(self, name: str) -> None:
        for line in getattr(self._process, name):
            self._lines[name].put(line.rstrip("\n"))


@pytest.fixture
def start_cloud(models: TinyModels) -> Iterator[Callable[..., CloudProcess]]:
    processes: list[CloudProcess] = []

    def start(*arguments: str) -> CloudProcess:
        processes.append(CloudProcess("--model", str(models.cloud), *arguments))
        return processes[-1]

    yield start
    for process in processes:
        process.end()


def test_a_real_worker_answers_over_mosquitto_and_accounts_for_it(
    mosquitto, models: TinyModels, tmp_path: Path, start_cloud: Callable[..., CloudProcess]
) -> None:
    stats = tmp_path / "stats.json"
    cloud = start_cloud("--broker", mosquitto.url, "--stats", str(stats), "--site", "lab")
    prefix = models.program.features_id[:8]
    assert json.loads(cloud.line()) == {"model": str(models.cloud), "features": [prefix], "broker": mosquitto.url}

    asker = Asker(MqttLink(mosquitto.url, "robot-1"), "robot-1", "lab")
    asker.await_labels()
    spikes = np.random.default_rng(1).random(models.program.code_shape) < 0.3
    frame = np.random.default_rng(2).integers(0, 256, (16, 16, 1), np.uint8)
    model = CloudModel(models.cloud)
    reply = asker.ask("features", features_request(2**62, spikes, models.program.features_id, budget_ms=60_000))
    assert (reply.id, reply.detail) == (2**62, "")
    np.testing.assert_allclose(reply.values(), model.features([spikes])[0], rtol=1e-5, atol=1e-5)
    reply = asker.ask("frame", frame_request(3, frame))
    np.testing.assert_allclose(reply.values(), model.frames([frame])[0], rtol=1e-5, atol=1e-5)
    asker.send("frame", b"\xc1 hostile")
    assert asker.reply().reason == "bad-request"

    mosquitto.restart()
    asker.await_labels()
    assert asker.ask("features", features_request(4, spikes, models.program.features_id)).id == 4

    asker.close()
    assert cloud.stop() == 0
    closing = json.loads(cloud.line())
    assert closing == {
        "received": 4,
        "answered": 3,
        "refused": {"bad-request": 1},
        "dropped": {},
        "batches": {"1": 3},
    }
    assert json.loads(stats.read_text()) == closing
    assert not [line for line in cloud.rest("stderr") if "Traceback" in line]


def test_two_workers_share_the_requests_of_a_site(
    mosquitto, models: TinyModels, start_cloud: Callable[..., CloudProcess]
) -> None:
    clouds = [start_cloud("--broker", mosquitto.url) for _ in range(2)]
    for cloud in clouds:
        cloud.line()
    asker = Asker(MqttLink(mosquitto.url, "robot-1"), "robot-1")
    spikes = np.zeros(models.program.code_shape, np.bool_)
    for id_ in range(1, 11):
        assert asker.ask("features", features_request(id_, spikes, models.program.features_id)).id == id_
    asker.close()
    assert [cloud.stop() for cloud in clouds] == [0, 0]
    received = [json.loads(cloud.line())["received"] for cloud in clouds]
    assert sum(received) == 10
    assert min(received) > 0


def test_without_a_broker_the_worker_says_so_once_and_stops_on_sigint(
    start_cloud: Callable[..., CloudProcess], free_port: int
) -> None:
    cloud = start_cloud("--broker", f"mqtt://127.0.0.1:{free_port}")
    assert f"mqtt://127.0.0.1:{free_port}" in cloud.line("stderr")
    assert cloud.stop(signal.SIGINT) == 0
    assert json.loads(cloud.line())["received"] == 0
    assert cloud.rest("stdout") == []
    assert cloud.rest("stderr") == []


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- what a person may get wrong, without a process of its own ----


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    monkeypatch.setattr(sys, "argv", ["ecc-cloud", *arguments])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (
            ["--model", "none.pt"],
            1,
            "error: none.pt: no such model file; check the path, or make one with: ",
        ),
        (["--model", "vgg9.pt"], 1, "error: vgg9.pt: a model of kind 'edge' where one of kind 'cloud' is needed"),
        (["--model", "plain.pt"], 1, "error: plain.pt: a PyTorch checkpoint without an integer program"),
        (["--model", "cut.pt"], 1, "error: cut.pt: not a usable model file (File is not a zip file); copy it again"),
        (
            ["--site", "Lab 1"],
            1,
            "error: site name 'Lab 1' cannot be used; take 1 to 16 characters of a-z, 0-9",
        ),
        (["--broker", "mqtt://192.0.2.1"], 1, "error: mqtt://192.0.2.1:1883 is another machine"),
        (["--broker", "http://localhost"], 1, "error: broker address 'http://localhost' cannot be used"),
        (["--max-batch", "0"], 2, "'--max-batch'"),
        (["--queue", "0"], 2, "'--queue'"),
        (["--stats", "nowhere/stats.json"], 2, "there is no folder"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    models: TinyModels,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vgg9.pt").write_bytes(models.edge.read_bytes())
    (tmp_path / "cloud.pt").write_bytes(models.cloud.read_bytes())
    (tmp_path / "cut.pt").write_bytes(models.cloud.read_bytes()[:-1000])
    torch.save({"weight": torch.zeros(2)}, tmp_path / "plain.pt")
    defaults = ["--model", "cloud.pt", "--broker", "mqtt://127.0.0.1:1"]
    found, err = run(monkeypatch, capsys, "start", *defaults, *arguments)
    assert found == code
    assert text in err
    assert "Traceback" not in err
    if code == 1:
        assert err.count("\n") == 1


def test_without_torch_the_one_install_command_is_named(
    models: TinyModels, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    arguments = ["start", "--model", str(models.cloud), "--broker", "mqtt://127.0.0.1:1"]
    code, err = run(monkeypatch, capsys, *arguments)
    assert (code, err) == (
        1,
        "error: the cloud worker needs the package 'torch'; install it with: pip install 'ecc-snn[learn]'\n",
    )


def test_help_shows_an_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ecc-cloud", "start", "--help"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "Example: ecc-cloud start --model" in capsys.readouterr().out
