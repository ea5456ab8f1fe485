"""`ecc-broker` as a person, a service manager or a program sees it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from ecc_broker.server import _free_port

COMMAND = [sys.executable, "-c", "from ecc_broker.cli import main; main()"]
TIMEOUT_S = 30


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`ecc-broker start` and its first line."""
    port = _free_port(None)
    command = [*COMMAND, "start", "--port", str(port), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(TIMEOUT_S)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("kind", ["mosquitto", "amqtt"])
def test_runs_until_a_signal_and_leaves_nothing(tmp_path: Path, number: signal.Signals, kind: str) -> None:
    with running("--data", str(tmp_path), "--kind", kind, "--json") as (process, line):
        ready = json.loads(line)
        assert ready["kind"] == kind
        assert psutil.pid_exists(ready["pid"])
        port = int(ready["url"].rpartition(":")[2])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()

        process.send_signal(number)
        output, errors = process.communicate(timeout=TIMEOUT_S)

        assert (process.returncode, output, errors) == (0, "", "")
        assert not psutil.pid_exists(ready["pid"])


def test_line_for_people(tmp_path: Path) -> None:
    with running("--data", str(tmp_path)) as (_, line):
        assert line.startswith("mosquitto ready at mqtt://127.0.0.1:")


def test_broker_that_dies_is_an_error(tmp_path: Path) -> None:
    with running("--data", str(tmp_path), "--json") as (process, line):
        os.kill(json.loads(line)["pid"], signal.SIGKILL)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert errors == (
        f"error: mosquitto ended by itself (exit code -9); see {tmp_path}/broker.log and start it again\n"
    )


def test_port_in_use_is_one_line_on_stderr(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run("start", "--port", str(port), "--data", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"error: port {port} is in use; stop the program that listens there, or choose another with --port\n"
    )


def test_folder_of_its_own_by_default(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        run("start", "--port", str(other.getsockname()[1]), HOME=str(tmp_path))
    assert list(tmp_path.iterdir()) == [], "nothing is written before the port is known to be free"


@pytest.mark.parametrize(
    "arguments", [["start", "--kind", "rabbit"], ["start", "--port", "0"], ["start", "--port", "x"], ["stop"]]
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert run(*arguments).returncode == 2


def test_help_has_an_example() -> None:
    done = run("start", "--help")
    assert done.returncode == 0
    assert "Example: ecc-broker start --port 1883 --data /var/lib/ecc-broker" in done.stdout
    assert "start" in run("--help").stdout
