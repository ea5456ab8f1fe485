"""`AsyncEdge`: an `Edge` for programs that run on asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import numpy as np

from ecc_broker.link import Link
from ecc_device.clock import Clock
from ecc_device.results import Result
from ecc_device.runtime import Pending
from ecc_model.frames import Pixels
from ecc_snn.edge import Edge
from ecc_snn.stream import AnySource
from ecc_snn.submissions import ResultListener, check_listener

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class EdgeOptions(TypedDict, total=False):
    """The keyword arguments of `Edge`."""

    state: str | os.PathLike[str] | None
    site: str
    device: str
    deadline_ms: float
    filter: str
    budget: str | None
    send: str
    encoder: str | None
    learner: str
    shadow: int
    engine: str | None
    threads: int
    strict: bool
    record: str | os.PathLike[str] | None
    record_as: str
    ca: str | os.PathLike[str] | None
    insecure: bool
    link: Link | None
    clock: Clock | None


class AsyncEdge:
    """The same device, awaited: any number of frames may wait for the cloud, and none of them holds a thread.

    An async context manager; arguments and errors are those of `Edge`. The network runs on one thread of its own.
    Cancelling a `classify` is safe: the frame keeps its row, and what the cloud says to it still comes to the
    `on_result` callbacks.
    """

    def __init__(
        self, model: str | os.PathLike[str], broker: str | None = None, **options: Unpack[EdgeOptions]
    ) -> None:
        self._edge = Edge(model, broker, **options)
        self._pool = ThreadPoolExecutor(1, "ecc-async")

    async def open(self) -> AsyncEdge:
        """See `Edge.open`."""
        await self._run(self._edge.open)
        return self

    async def close(self) -> None:
        """See `Edge.close`."""
        await asyncio.get_running_loop().run_in_executor(None, self._edge.close)
        self._pool.shutdown(wait=False)

    async def __aenter__(self) -> AsyncEdge:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def classify(self, pixels: Pixels, deadline_ms: float | None = None, *, camera: str = "") -> Result:
        """See `Edge.classify`; the frame is copied."""
        edge, number = self._edge, None
        try:
            until_s = edge._until(deadline_ms)
            frame = edge._frame(np.array(pixels), camera)
            number = frame.index
            begun = asyncio.get_running_loop().run_in_executor(self._pool, edge._begin, frame, until_s)
            try:
                pending = await asyncio.shield(begun)
            except asyncio.CancelledError:
                begun.add_done_callback(self._finish_begun)
                raise
            try:
                await self._answered(pending)
            except BaseException:
                self._finish_alone(pending)
                raise
            return edge._finish(pending)
        except Exception as error:
            if not edge._strict:
                return edge._no_answer(error, camera, number)
            raise

    def submit(self, pixels: Pixels, *, camera: str = "") -> int:
        """See `Edge.submit`; returns at once."""
        return self._edge.submit(pixels, camera=camera)

    async def stream(
        self, source: AnySource | Mapping[str, AnySource], *, deadline_ms: float | None = None
    ) -> AsyncIterator[Result]:
        """See `Edge.stream`; for `async for`."""
        loop = asyncio.get_running_loop()
        stream = await self._run(partial(self._edge.stream, source, deadline_ms=deadline_ms))
        pool = ThreadPoolExecutor(1, "ecc-async-stream")  # its thread waits for the source
        try:
            while (result := await loop.run_in_executor(pool, next, stream, None)) is not None:
                yield result
        finally:
            stream.close()
            pool.shutdown(wait=False)

    def on_result(self, callback: ResultListener) -> None:
        """See `Edge.on_result`; callbacks run on the event loop that this is called in."""
        loop = asyncio.get_running_loop()
        self._edge.on_result(partial(_in_loop, loop, check_listener(callback)))

    async def notify(self, event: str) -> None:
        """See `Edge.notify`."""
        await self._run(partial(self._edge.notify, event))

    async def status(self) -> dict[str, Any]:
        """See `Edge.status`."""
        return await self._run(self._edge.status)

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def _answered(self, pending: Pending) -> None:
        """Return when the cloud has answered, at the frame's deadline at the latest."""
        ticket = pending.ticket
        if ticket is None:
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        ticket.then(partial(_in_loop, loop, lambda _: ended.set(), None))
        left_s = max(0.0, pending.until_s - self._edge._clock.monotonic())
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(ended.wait(), left_s)

    def _finish_begun(self, begun: asyncio.Future[Pending]) -> None:
        """A cancelled frame was begun after all."""
        if not begun.cancelled() and begun.exception() is None:
            self._finish_alone(begun.result())

    def _finish_alone(self, pending: Pending) -> None:
        """Nobody awaits the frame any more; an answer that it has by now goes where late ones go."""
        result = self._edge._finish(pending)
        if result.cloud is not None:
            self._edge._submissions.correct(result)


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[T], None], value: T) -> None:
    """Call it on the loop; one that is closed needs no news."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(call, value)
