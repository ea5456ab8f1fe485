"""Starting a broker on this machine: Mosquitto where it is installed, else amqtt in a child process."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ecc_broker import mosquitto
from ecc_broker.mosquitto import HOST
from ecc_model.errors import LinkError, MissingPackage
from ecc_model.optional import require


class BrokerKind(str, Enum):
    """Which broker to start; AUTO: Mosquitto if it is installed, else amqtt."""

    AUTO = "auto"
    MOSQUITTO = "mosquitto"
    AMQTT = "amqtt"


READY_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 5.0
_POLL_S = 0.02
# MQTT 3.1.1: CONNECT as client "ecc-probe" with a clean session; CONNACK, accepted
_CONNECT = b"\x10\x15\x00\x04MQTT\x04\x02\x00\x0a\x00\x09ecc-probe"
_CONNACK = b"\x20\x02\x00\x00"


@dataclass(frozen=True, slots=True)
class RunningBroker:
    """A broker that accepts connections at `url`. `log`: what it says."""

    url: str
    kind: str
    port: int
    log: Path
    process: subprocess.Popen[bytes]

    def stop(self) -> None:
        """End it: politely, after five seconds by force. Nothing happens if it has ended."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_broker(port: int | None, data_dir: Path, kind: str = "auto") -> RunningBroker:
    """Start a broker on `port` (None: any free one) of 127.0.0.1 and wait until it answers.

    `data_dir` gets its configuration, its log and what it keeps. `LinkError`: no broker is installed, the port is
    taken, the folder cannot be written, or the broker does not come up.
    """
    chosen = _choose(BrokerKind(kind))
    port = _free_port(port)
    log = data_dir / "broker.log"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        command = _command(chosen, port, data_dir)
        with log.open("wb") as output:
            # a session of its own: Ctrl-C reaches the program that started it, which then stops it in order
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
    except OSError as exc:
        raise LinkError(f"{exc.filename or data_dir}: {exc.strerror}; choose another folder with --data") from exc
    broker = RunningBroker(url=f"mqtt://{HOST}:{port}", kind=chosen, port=port, log=log, process=process)
    ready = False
    try:
        _wait_until_ready(broker)
        ready = True
    finally:
        if not ready:
            broker.stop()
    return broker


def _choose(kind: BrokerKind) -> str:
    """The broker's name, with AUTO decided by what is installed."""
    if kind is not BrokerKind.AMQTT and mosquitto.find_mosquitto() is not None:
        return "mosquitto"
    if kind is BrokerKind.MOSQUITTO:
        raise LinkError("Mosquitto is not installed; install it with: sudo apt install mosquitto")
    try:
        require("amqtt", "the broker")
    except MissingPackage as exc:
        raise LinkError(
            "no broker is installed; install one with: sudo apt install mosquitto, or: pip install 'ecc-snn[broker]'"
        ) from exc
    return "amqtt"


def _command(kind: str, port: int, data_dir: Path) -> list[str]:
    program = mosquitto.find_mosquitto()
    if kind == "amqtt" or program is None:
        return [sys.executable, "-m", "ecc_broker.amqtt_child", str(port)]
    config = data_dir / "mosquitto.conf"
    config.write_text(mosquitto.config(port, data_dir))
    return [program, "-c", str(config)]


def _free_port(port: int | None) -> int:
    """`port` if nobody listens there, or any free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port or 0))
        except OSError as exc:
            reason = "is in use" if exc.errno == errno.EADDRINUSE else f"cannot be used ({exc.strerror})"
            raise LinkError(
                f"port {port} {reason}; stop the program that listens there, or choose another with --port"
            ) from exc
        number: int = probe.getsockname()[1]
        return number


def _wait_until_ready(broker: RunningBroker) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _answers(broker.port):
        try:
            code = broker.process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline:
                continue
            raise LinkError(f"{broker.kind} does not answer at {broker.url}; see {broker.log}") from None
        said = broker.log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        raise LinkError(f"{broker.kind} ended at once (exit code {code}): {said[-1][:200]}; see {broker.log}")


def _answers(port: int) -> bool:
    """Whether the broker at `port` accepts an MQTT connection."""
    try:
        with socket.create_connection((HOST, port), timeout=1.0) as probe:
            probe.sendall(_CONNECT)
            return probe.recv(len(_CONNACK)) == _CONNACK
    except OSError:
        return False
