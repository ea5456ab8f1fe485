"""The asyncio service, over real sockets: as a process, and beside a cloud that makes every client wait."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pytest

from ecc_snn import AsyncEdge, Edge
from ecc_snn.testing import RealtimeClock, SimulatedLink
from support.clouds import HeldCloud
from support.edges import PATIENCE_S, PATIENT_MS, frames
from support.imports import ROOT

if TYPE_CHECKING:
    from support.models import TinyModels

CLIENTS = 20


@pytest.fixture
def service(unsure: TinyModels, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The running example and its port."""
    command = [sys.executable, str(ROOT / "examples/04_service.py"), "--model", str(unsure.edge), "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
        assert process.stdout is not None
        listening = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", process.stdout.readline())
        assert listening is not None
        yield process, int(listening[1])
        process.kill()


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.stream: IO[bytes] = self._socket.makefile("rwb")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()
        self._socket.close()

    def send(self, *pieces: bytes) -> None:
        self.stream.write(b"".join(pieces))
        self.stream.flush()

    def answer(self) -> dict[str, Any]:
        return json.loads(self.stream.readline())

    def classify(self, pixels: np.ndarray, **more: Any) -> dict[str, Any]:
        self.send(request(pixels, **more), pixels.tobytes())
        return self.answer()


def request(pixels: np.ndarray, **more: Any) -> bytes:
    return json.dumps({"shape": pixels.shape, **more}).encode() + b"\n"


def test_clients_get_the_answers_of_the_edge(
    service: tuple[subprocess.Popen[str], int], unsure: TinyModels, tmp_path: Path
) -> None:
    process, port = service
    pictures = frames(6)
    with Client(port) as one, Client(port) as two:
        told = [(one, two)[number % 2].classify(pixels, deadline_ms=5) for number, pixels in enumerate(pictures)]
        one.send(*(part for pixels in pictures for part in (request(pixels), pixels.tobytes())))  # all at once
        again = [one.answer() for _ in pictures]
    with Edge(unsure.edge, state=tmp_path / "again") as edge:
        results = [edge.classify(pixels) for pixels in pictures]
    wanted = [
        {
            "frame": result.frame,
            "label": result.label,
            "probability": max(result.probabilities),
            "entropy": result.entropy,
            "stands": "edge",
            "why": "offline",
        }
        for result in results
    ]
    assert told == wanted
    assert again == [{**answer, "frame": answer["frame"] + 6} for answer in wanted]
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE_S) == ("", "offline: no broker given; working alone\n")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"hello\n", "JSON is malformed"),
        (b"{}\n", "missing required field `shape`"),
        (b'{"shape": [16, 16, 1], "size": 3}\n', "unknown field `size`"),
        (b'{"shape": [16]}\n', "`array` of length >= 2"),
        (b'{"shape": [16, 0, 1]}\n', "`int` >= 1"),
        (b'{"shape": [16, 16, 1], "deadline_ms": -1}\n', "`float` >= 0.0"),
        (b'{"shape": [4096, 4096, 4096]}\n', "a frame of 68719476736 bytes; 67108864 are the most"),
        (b"x" * 100_000 + b"\n", "Separator is"),
    ],
)
def test_what_is_no_request_ends_that_connection_alone(
    service: tuple[subprocess.Popen[str], int], line: bytes, error: str
) -> None:
    _, port = service
    with Client(port) as good, Client(port) as bad:
        bad.send(line)
        answer = bad.answer()
        assert error in answer["error"]
        assert answer["error"].endswith("; goodbye")
        assert good.classify(frames(1)[0])["frame"] == 0


def test_a_frame_that_does_not_fit_costs_nothing_but_an_error(service: tuple[subprocess.Popen[str], int]) -> None:
    _, port = service
    with Client(port) as client:
        answer = client.classify(np.zeros((16, 16, 2), np.uint8))
        assert answer == {"error": "this network takes 1 channels, the frame has 2"}
        assert client.classify(frames(1)[0])["why"] == "offline"


def test_a_client_that_leaves_in_the_middle_disturbs_nobody(service: tuple[subprocess.Popen[str], int]) -> None:
    process, port = service
    with Client(port) as client:
        client.send(b'{"shape": [16, 16, 1]}\n', b"half")
    with Client(port) as client:
        assert client.classify(frames(1)[0])["frame"] == 0
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE_S) == ("", "offline: no broker given; working alone\n")
    assert process.returncode == 0


def test_many_clients_wait_for_the_cloud_at_the_same_time(
    example: Callable[[str], ModuleType], unsure: TinyModels, tmp_path: Path
) -> None:
    serve, cloud = example("04_service.py").serve, HeldCloud(unsure.edge, "9")

    async def ask(port: int, pixels: np.ndarray) -> dict[str, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request(pixels, deadline_ms=PATIENT_MS) + pixels.tobytes())
        answer = json.loads(await reader.readline())
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        return answer

    async def all_of_them(edge: AsyncEdge) -> list[dict[str, Any]]:
        server = await asyncio.start_server(partial(serve, edge), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        asking = [asyncio.create_task(ask(port, pixels)) for pixels in frames(CLIENTS)]
        while (await edge.status())["uploads"] < CLIENTS:
            assert not any(task.done() for task in asking)
        cloud.may_answer.set()
        answers = await asyncio.gather(*asking)
        server.close()
        await server.wait_closed()
        return answers

    async def main() -> list[dict[str, Any]]:
        with RealtimeClock() as clock:
            link = SimulatedLink(cloud, clock)
            async with AsyncEdge(unsure.edge, link=link, clock=clock, state=tmp_path / "state") as edge:
                return await all_of_them(edge)

    answers = asyncio.run(main())
    assert {answer["why"] for answer in answers} == {"cloud answered"}
    assert {answer["label"] for answer in answers} == {"9"}
    assert sorted(answer["frame"] for answer in answers) == list(range(CLIENTS))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (["--model", "nowhere.pt"], "error: nowhere.pt: no such model file"),
        (["--port", "taken"], "error: [Errno 98]"),
    ],
)
def test_a_service_that_cannot_start_says_why(
    unsure: TinyModels, tmp_path: Path, change: list[str], error: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        change = [str(taken.getsockname()[1]) if word == "taken" else word for word in change]
        command = [sys.executable, str(ROOT / "examples/04_service.py"), "--model", str(unsure.edge), *change]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert error in done.stderr
