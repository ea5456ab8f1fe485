"""What the link adds to a frame: the device's request path against a worker that answers at once.

Each round asks through buffer, link, Mosquitto and back (QoS 1), then sends as many bytes through a bare TCP echo,
the least that a round trip between two processes can cost on this machine in this moment.
"""

from __future__ import annotations

import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from ecc_broker import messages, topics
from ecc_broker.link import Message
from ecc_broker.mqtt import MqttLink
from ecc_broker.server import start_broker
from ecc_device.clock import SystemClock
from ecc_device.engines import NumpyEngine
from ecc_device.events import Health
from ecc_device.offload import Offload
from ecc_device.player import percentiles_ms
from ecc_device.store import Store
from ecc_device.tickets import Ticket
from ecc_model import bits
from ecc_model.errors import LinkError
from ecc_model.modelfile import labels_id, read_edge

SITE, DEVICE = "bench", "bench"
NAMES = tuple("0123456789")
WAIT_S = 30.0
WARM_UP = 20


def bench_link(model: Path, requests: int, told: Callable[[float], None]) -> dict[str, Any]:
    """Time `requests` rounds; milliseconds by percentile, and the median ratio of the two sides of each round."""
    program = read_edge(model).program
    engine = NumpyEngine(program)
    split = np.random.default_rng(0).random(program.split_shape) < 0.2
    packed, features = bits.pack(split), bytes.fromhex(program.features_id)
    frame = np.zeros((program.input.height, program.input.width, program.input.channels), np.uint8)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        broker = start_broker(None, folder / "broker", "mosquitto")
        stack.callback(broker.stop)
        worker = _child("worker", broker.url, program.features_id)
        echo = _child("echo")
        for process in (worker, echo):
            stack.callback(process.communicate)
            stack.callback(process.kill)
        link = MqttLink(broker.url, DEVICE)
        stack.callback(link.close)
        store = stack.enter_context(Store.open(folder / "state"))
        offload = Offload(link, store, SystemClock(), Health(), engine, None, site=SITE, device=DEVICE, send="features")
        stack.callback(offload.close)
        link.start()
        if not offload.wait_ready(WAIT_S):
            raise LinkError(f"{broker.url}: the answering process did not come up in {WAIT_S:.0f} s; run again")
        tcp = stack.enter_context(socket.create_connection(("127.0.0.1", int(_line(echo)))))
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        asked, echoed = [], []
        for index in range(WARM_UP + requests):
            started = time.perf_counter()
            ticket = offload.ask(store.add(0.0, features, packed, "0"), split, frame, None)
            if not isinstance(ticket, Ticket) or not ticket.done.wait(WAIT_S):
                raise LinkError(f"request {index} was not answered ({ticket}); run again on a quiet machine")
            between = time.perf_counter()
            tcp.sendall(bytes(ticket.bytes_sent))
            _receive(tcp, ticket.bytes_sent)
            ended = time.perf_counter()
            if index >= WARM_UP:
                asked.append(between - started)
                echoed.append(ended - between)
            told((index + 1) / (WARM_UP + requests))
    ratios = sorted(a / b for a, b in zip(asked, echoed, strict=True))
    return {
        "requests": requests,
        "request_path_ms": percentiles_ms(asked),
        "tcp_echo_ms": percentiles_ms(echoed),
        "ratio": {
            "median": round(statistics.median(ratios), 2),
            "p5": round(ratios[len(ratios) // 20], 2),
            "p95": round(ratios[len(ratios) * 19 // 20], 2),
        },
        "broker": broker.kind,
        "machine": {"processor": platform.machine(), "system": platform.system(), "python": platform.python_version()},
    }


def _child(role: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ecc_tools.bench.link", role, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline() if process.stdout else ""


def _receive(stream: socket.socket, count: int) -> None:
    while count:
        chunk = stream.recv(count)
        if not chunk:
            raise LinkError("the echoing process ended early; run again")
        count -= len(chunk)


def answer_at_once(url: str, features_id: str) -> None:
    """A worker that answers every request with the same logits as soon as it arrives; until its input closes."""
    link = MqttLink(url, "bench-worker")
    names_id = labels_id(NAMES)
    logits = np.linspace(-3, 3, len(NAMES)).astype("<f4").tobytes()

    def reply(message: Message) -> None:
        request = messages.decode(messages.FeaturesRequest, message.payload)
        link.publish(topics.reply_topic(message.topic), messages.encode(messages.Reply(request.id, names_id, logits)))

    def announce(connected: bool) -> None:
        labels = messages.Labels(names_id, NAMES, (bytes.fromhex(features_id)[:4],))
        if connected:
            link.publish(topics.topic("labels", SITE), messages.encode(labels), retain=True)

    link.subscribe(topics.site_filter("features", SITE), reply)
    link.on_connection(announce)
    link.start()
    sys.stdin.read()
    link.close()


def echo() -> None:
    """A TCP echo for one client; prints its port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while data := connection.recv(4096):
                connection.sendall(data)


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        answer_at_once(*sys.argv[2:])
    else:
        echo()
