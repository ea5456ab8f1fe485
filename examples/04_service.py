"""A service on asyncio: frames come in over TCP, answers go out as JSON.

A request is one line of JSON, then the frame's bytes (uint8): {"shape": [16, 16, 1]} and 256 bytes. "deadline_ms" in
that line says how long the frame may wait for the cloud. Each request gets one line, {"frame": 0, "label": "7", ...} or
{"error": "..."}, in the order of the requests. Any number of clients may ask at once.

python examples/04_service.py --model vgg9.pt --port 8400
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import signal
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np

from ecc_snn import AsyncEdge, EccError, Result

HERE = Path(__file__).parent
MAX_BYTES = 64 << 20  # of a frame


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """The line before a frame."""

    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=1, le=4096)]], msgspec.Meta(min_length=2, max_length=4)]
    deadline_ms: Annotated[float, msgspec.Meta(ge=0)] | None = None


async def serve(edge: AsyncEdge, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one client until it leaves, or sends what is no request."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
        try:
            while line := await reader.readline():
                request = msgspec.json.decode(line, type=Request)
                size = math.prod(request.shape)
                if size > MAX_BYTES:
                    raise ValueError(f"a frame of {size} bytes; {MAX_BYTES} are the most")
                pixels = np.frombuffer(await reader.readexactly(size), np.uint8).reshape(request.shape)
                try:
                    answer = to_json(await edge.classify(pixels, request.deadline_ms))
                except EccError as error:
                    answer = {"error": str(error)}
                await send(writer, answer)
        except ValueError as error:  # where the next request begins is unknown now
            await send(writer, {"error": f"{error}; goodbye"})


async def send(writer: asyncio.StreamWriter, answer: Mapping[str, object]) -> None:
    """One line of JSON."""
    writer.write(msgspec.json.encode(answer) + b"\n")
    await writer.drain()


def to_json(result: Result) -> dict[str, object]:
    """What a client is told of a result."""
    return {
        "frame": result.frame,
        "label": result.label,
        "probability": result.answer.probability,
        "entropy": result.entropy,
        "stands": result.stands,
        "why": result.why,
    }


async def run(chosen: argparse.Namespace) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncEdge(chosen.model, chosen.broker, state=chosen.state, device="service") as edge:
        server = await asyncio.start_server(partial(serve, edge), chosen.host, chosen.port)
        host, port = server.sockets[0].getsockname()[:2]
        print(f"listening on {host}:{port}", flush=True)
        await stop.wait()
        server.close()


def main() -> None:
    """Read the options and serve."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default=HERE / "models" / "vgg9.pt", help="the edge model")
    options.add_argument("--broker", help="mqtt://host:port; without: alone")
    options.add_argument("--state", default="runs/service", help="folder of the buffer and the learnt models")
    options.add_argument("--host", default="127.0.0.1", help="where to listen; nobody is asked for a password")
    options.add_argument("--port", type=int, default=8400, help="0: any free one")
    asyncio.run(run(options.parse_args()))


if __name__ == "__main__":
    try:
        main()
    except (EccError, OSError) as error:
        sys.exit(f"error: {error}")
