"""The async twin: the same answers, no thread for a frame that waits, and cancelling is safe."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_model.errors import FrameError
from ecc_snn import AsyncEdge, EccWarning, Edge, Result
from ecc_snn.async_edge import EdgeOptions
from ecc_snn.testing import SimulatedCamera
from support.edges import PATIENCE_S, PATIENT_MS, await_worker, frames

if TYPE_CHECKING:
    from support.models import TinyModels


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, PATIENCE_S))


@pytest.fixture
def twin(tmp_path: Path, unsure: TinyModels, broker: MemoryBroker) -> AsyncEdge:
    return AsyncEdge(unsure.edge, state=tmp_path / "state", link=MemoryLink(broker, "device"))


async def ready(edge: AsyncEdge) -> None:
    await asyncio.to_thread(await_worker, edge._edge)


def test_it_takes_what_an_edge_takes() -> None:
    parameters = inspect.signature(Edge.__init__).parameters.values()
    options = {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert {name: kind.__forward_arg__ for name, kind in EdgeOptions.__annotations__.items()} == options


def test_it_does_what_an_edge_does() -> None:
    def names(kind: type) -> list[str]:
        return sorted(name for name in dir(kind) if not name.startswith("_"))

    assert names(AsyncEdge) == names(Edge)


def test_it_answers_what_an_edge_answers(
    tmp_path: Path, unsure: TinyModels, broker: MemoryBroker, twin: AsyncEdge
) -> None:
    with Edge(unsure.edge, state=tmp_path / "other", link=MemoryLink(broker, "other"), device="other") as edge:
        await_worker(edge)
        expected = [edge.classify(pixels, PATIENT_MS) for pixels in frames(5)]

    async def main() -> None:
        async with twin as edge:
            await ready(edge)
            results = [await edge.classify(pixels, PATIENT_MS, camera="front") for pixels in frames(5)]
            assert [(r.edge, r.cloud, r.why) for r in results] == [(r.edge, r.cloud, r.why) for r in expected]
            assert [(r.frame, r.camera) for r in results] == [(index, "front") for index in range(5)]
            assert (await edge.status())["uploads"] == 5
            await edge.notify("undocked")

    run(main())


def test_any_number_of_frames_may_wait_for_the_cloud(twin: AsyncEdge, broker: MemoryBroker) -> None:
    """More than the link's window takes at once would wait for nothing, so as many as it takes."""

    async def main() -> None:
        async with twin as edge:
            await ready(edge)
            broker.pause()
            tasks = [asyncio.create_task(edge.classify(pixels, PATIENT_MS)) for pixels in frames(16)]
            while (await edge.status())["counts"].get("sent", 0) < 16:
                pass
            assert not any(task.done() for task in tasks)
            broker.resume()
            results = await asyncio.gather(*tasks)
            assert all(result.cloud is not None for result in results)
            assert [result.frame for result in results] == list(range(16))

    run(main())


def test_the_deadline_holds(twin: AsyncEdge, broker: MemoryBroker) -> None:
    async def main() -> None:
        async with twin as edge:
            await ready(edge)
            broker.pause()
            result = await edge.classify(frames(1)[0], deadline_ms=1)
            assert (result.why, result.cloud) == ("deadline", None)
            corrected = asyncio.get_running_loop().create_future()
            edge.on_result(corrected.set_result)
            broker.resume()
            late = await corrected
            assert (late.frame, late.cloud is not None) == (0, True)

    run(main())


@pytest.mark.parametrize("moment", ["while the network runs", "while the cloud is asked"])
def test_cancelling_is_safe(
    twin: AsyncEdge, broker: MemoryBroker, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row stays, its answer still comes as a correction, and the next frame is answered as ever."""

    async def main() -> None:
        async with twin as edge:
            await ready(edge)
            loop, running = asyncio.get_running_loop(), asyncio.Event()
            corrections: asyncio.Queue[Result] = asyncio.Queue()
            edge.on_result(corrections.put_nowait)
            begin = edge._edge._begin

            def noted(*arguments: Any) -> Any:
                loop.call_soon_threadsafe(running.set)
                return begin(*arguments)

            monkeypatch.setattr(edge._edge, "_begin", noted)
            broker.pause()
            task = asyncio.create_task(edge.classify(frames(1)[0], PATIENT_MS))
            await running.wait()
            while moment == "while the cloud is asked" and (await edge.status())["counts"].get("sent", 0) < 1:
                pass
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            broker.resume()
            assert (await corrections.get()).frame == 0
            assert (await edge.classify(frames(1)[0], PATIENT_MS)).frame == 1
            assert edge._edge._under_way == 0

    run(main())


def test_a_stream(twin: AsyncEdge) -> None:
    async def main() -> None:
        async with twin as edge:
            results = [result async for result in edge.stream({"front": SimulatedCamera(frames(20))}, deadline_ms=0)]
            status = (await edge.status())["cameras"]["front"]
            assert (status["frames"], len(results)) == (20, 20 - status["replaced"])

    run(main())


def test_a_stream_that_waits_can_be_cancelled(twin: AsyncEdge) -> None:
    camera = SimulatedCamera(frames(3), stalls_at=0)

    async def first(edge: AsyncEdge) -> None:
        async for _ in edge.stream(camera):
            raise AssertionError("nothing comes")

    async def main() -> None:
        async with twin as edge:
            task = asyncio.create_task(first(edge))
            await asyncio.to_thread(camera.stalled.wait, PATIENCE_S)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        camera.close()

    run(main())


def test_errors_are_those_of_an_edge(tmp_path: Path, models: TinyModels) -> None:
    async def strict() -> None:
        async with AsyncEdge(models.edge, state=tmp_path / "strict") as edge:
            with pytest.raises(FrameError, match="frames are uint8 arrays, this one is float64"):
                await edge.classify([[0.5]])
            assert (await edge.classify(frames(1)[0])).frame == 1

    async def lenient() -> None:
        async with AsyncEdge(models.edge, state=tmp_path / "lenient", strict=False) as edge:
            line = inspect.currentframe().f_lineno + 2
            with pytest.warns(EccWarning, match="^FrameError: frames are uint8 arrays") as caught:
                result = await edge.classify([[0.5]])
            assert (caught[0].filename, caught[0].lineno) == (__file__, line)
            assert (result.why, result.frame) == ("failed", 0)

    run(strict())
    run(lenient())


def test_close_ends_the_waiting(twin: AsyncEdge, broker: MemoryBroker) -> None:
    async def main() -> None:
        async with twin as edge:
            await ready(edge)
            broker.pause()
            task = asyncio.create_task(edge.classify(frames(1)[0], PATIENT_MS))
            while (await edge.status())["counts"].get("sent", 0) < 1:
                pass
        assert (await task).why == "deadline"
        broker.resume()

    run(main())
