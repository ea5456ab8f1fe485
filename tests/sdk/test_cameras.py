"""Several cameras on one device, and streams: the newest frame wins, turns are fair, drops are counted."""

from __future__ import annotations

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_device.clock import VirtualClock
from ecc_device.frame import Frame
from ecc_device.sources import save_npz
from ecc_model.errors import DeviceError, SourceError
from ecc_snn import EccWarning, Edge, Result
from ecc_snn.cameras import CameraCounts, Slots
from ecc_snn.testing import SimulatedCamera
from support.edges import PATIENCE_S, PATIENT_MS, Gate, Inbox, await_worker, frames

if TYPE_CHECKING:
    from support.models import TinyModels


@pytest.fixture
def alone(tmp_path: Path, models: TinyModels) -> Edge:
    return Edge(models.edge, state=tmp_path / "state")


def counted(edge: Edge) -> dict[str, tuple[int, int]]:
    """Frames and replaced frames of each camera."""
    return {camera: (found["frames"], found["replaced"]) for camera, found in edge.status()["cameras"].items()}


def frame(index: int, camera: str) -> Frame:
    return Frame(index, 0.0, np.zeros((1, 1, 1), np.uint8), None, camera)


# ---- the queue of one ----


def test_cameras_take_turns_and_the_newest_frame_of_each_wins() -> None:
    counts = CameraCounts(VirtualClock())
    slots = Slots(counts)
    for index, camera in enumerate(["left", "right", "left", "left", "rear"]):
        slots.put(frame(index, camera))
    assert [(f.index, f.camera) for f in iter(slots.take, None)] == [(3, "left"), (1, "right"), (4, "rear")]
    assert {name: (found["frames"], found["replaced"]) for name, found in counts.to_record().items()} == {
        "left": (3, 2),
        "right": (1, 0),
        "rear": (1, 0),
    }


def test_a_fast_camera_does_not_starve_a_slow_one() -> None:
    slots = Slots(CameraCounts(VirtualClock()))
    taken = []
    for index in range(100):
        slots.put(frame(index, "fast"))
        if index % 10 == 0:
            slots.put(frame(index, "slow"))
        taken.append(slots.take().camera)
        slots.put(frame(index, "fast"))
    assert taken.count("slow") == 10
    assert max(len(run) for run in "".join(name[0] for name in taken).split("f")) == 1


def test_the_age_of_a_cameras_newest_frame() -> None:
    clock = VirtualClock(5.0)
    counts = CameraCounts(clock)
    counts.came("front", replaced=False)
    clock.advance_to(7.5)
    assert counts.to_record() == {"front": {"frames": 1, "replaced": 0, "age_s": 2.5}}


# ---- submit ----


def test_submitted_frames_of_two_cameras(alone: Edge) -> None:
    gate, inbox = Gate(), Inbox()
    with alone:
        alone.on_result(gate)
        alone.on_result(inbox)
        alone.submit(frames(1)[0], camera="left")
        assert gate.reached.wait(PATIENCE_S)
        ids = [alone.submit(pixels, camera=camera) for pixels in frames(3) for camera in ("left", "right")]
        assert counted(alone) == {"left": (4, 2), "right": (3, 2)}
        gate.opened.set()
        inbox.wait(3)
    assert [(result.frame, result.camera) for result in inbox.results] == [
        (0, "left"),
        (ids[-2], "left"),
        (ids[-1], "right"),
    ]


def test_a_camera_whose_frame_waits_for_the_cloud_holds_no_other_up(
    tmp_path: Path, unsure: TinyModels, broker: MemoryBroker
) -> None:
    """Both frames are asked about before an answer to either has come."""
    inbox = Inbox()
    link = MemoryLink(broker, "device")
    with Edge(unsure.edge, state=tmp_path / "state", link=link, deadline_ms=PATIENT_MS) as edge:
        await_worker(edge)
        edge.on_result(inbox)
        broker.pause()
        for camera in ("left", "right"):
            edge.submit(frames(1)[0], camera=camera)
        while edge.status()["counts"].get("sent", 0) < 2:
            pass
        assert inbox.results == []
        broker.resume()
        results = inbox.wait(2)
    assert [result.camera for result in results] == ["left", "right"]
    assert all(result.cloud is not None for result in results)


# ---- streams ----


def test_a_recording_gives_every_frame_in_order(alone: Edge, tmp_path: Path) -> None:
    save_npz(tmp_path / "ten.npz", np.stack(frames(10)))
    with alone:
        expected = [alone.classify(pixels) for pixels in frames(10)]
        results = list(alone.stream(str(tmp_path / "ten.npz")))
    assert [(result.edge, result.score) for result in results] == [(result.edge, result.score) for result in expected]
    assert [result.frame for result in results] == list(range(10, 20))


def test_a_path_is_a_source_as_its_text_is(alone: Edge, tmp_path: Path) -> None:
    save_npz(tmp_path / "two.npz", np.stack(frames(2)))
    with alone:
        assert [result.frame for result in alone.stream(tmp_path / "two.npz")] == [0, 1]
        assert [result.camera for result in alone.stream({"front": tmp_path / "two.npz"})] == ["front"] * 2


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (frames(2), "list"),
        (iter(frames(2)), "list_iterator"),
        (np.stack(frames(2)), "ndarray"),
        (0, "int"),
        (None, "NoneType"),
        ({"front": frames(2)}, "list"),
    ],
)
def test_what_is_no_source_is_refused(alone: Edge, source: object, what: str) -> None:
    with alone, pytest.raises(SourceError) as caught:
        alone.stream(source)
    assert str(caught.value) == (
        f"a stream reads what ecc-device start takes as --source, or a Source, and this is of type {what}; "
        "of frames that you hold, call classify for each"
    )


def test_recordings_of_two_cameras_come_in_the_order_of_their_times(alone: Edge, tmp_path: Path) -> None:
    for name, offset in (("left", 0.0), ("right", 0.05)):
        save_npz(tmp_path / f"{name}.npz", np.stack(frames(3)), times=offset + np.arange(3) / 10)
    with alone, alone.stream({name: str(tmp_path / f"{name}.npz") for name in ("right", "left")}) as stream:
        assert [result.camera for result in stream] == ["left", "right"] * 3


def test_a_camera_gives_its_newest_frames_and_counts_the_others(alone: Edge) -> None:
    with alone:
        results = list(alone.stream(SimulatedCamera(frames(200))))
        came, replaced = counted(alone)[""]
    assert (came, len(results)) == (200, 200 - replaced)
    ids = [result.frame for result in results]
    assert ids == sorted(set(ids))
    assert ids[-1] == 199  # the newest one is never lost


def test_two_cameras_in_one_stream_take_turns(alone: Edge) -> None:
    cameras = {name: SimulatedCamera(frames(5), paced=True) for name in ("left", "right")}
    seen = []
    with alone:
        stream = alone.stream(cameras)
        for _ in range(5):
            for camera in cameras.values():
                camera.show()
            seen += [next(stream).camera, next(stream).camera]
        assert next(stream, None) is None
        assert counted(alone) == {"left": (5, 0), "right": (5, 0)}
    assert seen.count("left") == seen.count("right") == 5


def test_a_camera_that_vanishes(alone: Edge) -> None:
    with alone:
        stream = alone.stream({"front": SimulatedCamera(frames(9), vanishes_at=3, paced=True, name="camera:0")})
        cameras = stream._readers[0].source
        for _ in range(3):
            cameras.show()
            next(stream)
        cameras.show()
        with pytest.raises(SourceError, match=r"^camera:0: no frame after 3 frames; check its cable and start again$"):
            next(stream)
        assert next(stream, None) is None
        assert alone.classify(frames(1)[0]).label  # the device goes on


def test_a_camera_that_vanishes_from_a_robot_that_must_go_on(tmp_path: Path, models: TinyModels) -> None:
    lost, good = SimulatedCamera(frames(9), vanishes_at=1), SimulatedCamera(frames(20), paced=True)
    with Edge(models.edge, state=tmp_path / "state", strict=False) as edge:
        stream = edge.stream({"lost": lost, "good": good})
        assert next(stream).camera == "lost"
        seen: list[Result] = []
        good.show(20)
        with pytest.warns(EccWarning, match=r"^SourceError: camera: no frame after 1 frames; check its cable"):
            seen += list(stream)
        assert {result.camera for result in seen} == {"good"}
        assert edge.status()["failures"] == {"SourceError": 1}


def test_a_camera_that_stalls_is_waited_for_and_its_age_tells(alone: Edge) -> None:
    camera = SimulatedCamera(frames(3), stalls_at=1)
    with alone, ThreadPoolExecutor(1) as pool:
        stream = alone.stream({"front": camera})
        assert next(stream).frame == 0
        waiting = pool.submit(next, stream, None)
        assert camera.stalled.wait(PATIENCE_S)
        first = alone.status()["cameras"]["front"]["age_s"]
        while alone.status()["cameras"]["front"]["age_s"] <= first:
            pass
        assert not waiting.done()
        camera.resume()
        assert waiting.result(PATIENCE_S).frame >= 1


def test_a_camera_that_freezes_shows_the_same_picture(alone: Edge) -> None:
    camera = SimulatedCamera(frames(6), freezes_at=3, paced=True)
    with alone:
        stream, results = alone.stream(camera), []
        for _ in range(6):
            camera.show()
            results.append(next(stream))
    assert results[2].edge == results[3].edge == results[5].edge
    assert results[1].edge != results[2].edge


def test_a_camera_that_changes_its_size(alone: Edge) -> None:
    pictures = [np.full((side, side + 3, 1), 90, np.uint8) for side in (16, 40, 7)]
    camera = SimulatedCamera(pictures, paced=True)
    with alone:
        stream, results = alone.stream(camera), []
        for _ in pictures:
            camera.show()
            results.append(next(stream))
        expected = [alone.classify(picture) for picture in pictures]
    assert [result.edge for result in results] == [result.edge for result in expected]


def test_closing_the_edge_ends_a_stream_that_waits(alone: Edge) -> None:
    camera = SimulatedCamera(frames(3), stalls_at=0)
    with ThreadPoolExecutor(1) as pool:
        with alone:
            waiting = pool.submit(list, alone.stream(camera))
            assert camera.stalled.wait(PATIENCE_S)
        assert waiting.result(PATIENCE_S) == []
    camera.close()


def test_a_source_that_was_opened_by_the_stream_is_closed_by_it(
    alone: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()
    camera = SimulatedCamera(frames(3))
    monkeypatch.setattr(camera, "close", closed.set)
    monkeypatch.setattr("ecc_snn.stream.open_source", lambda _: camera)
    with alone:
        assert 1 <= len(list(alone.stream("camera:0"))) <= 3
    assert closed.is_set()


def test_a_stream_that_nobody_holds_lets_its_camera_go(alone: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = threading.Event()
    camera = SimulatedCamera(frames(3), paced=True)
    monkeypatch.setattr(camera, "close", closed.set)
    monkeypatch.setattr("ecc_snn.stream.open_source", lambda _: camera)
    with alone:
        camera.show()
        for result in alone.stream("camera:0"):
            assert result.frame == 0
            break
        gc.collect()
        camera.show()
        assert closed.wait(PATIENCE_S)


def test_what_cannot_be_streamed(alone: Edge, tmp_path: Path) -> None:
    save_npz(tmp_path / "one.npz", np.stack(frames(1)))
    with pytest.raises(DeviceError, match=r"^this Edge is not open"):
        alone.stream("camera:0")
    with alone:
        with pytest.raises(SourceError, match=r"nowhere\.npz: no such file or folder"):
            alone.stream("nowhere.npz")
        with pytest.raises(SourceError, match=r"^cameras and recordings do not mix in one stream; open a stream for"):
            alone.stream({"left": SimulatedCamera(frames(1)), "right": str(tmp_path / "one.npz")})
        with pytest.raises(DeviceError, match=r"^a deadline of -1 ms"):
            alone.stream(str(tmp_path / "one.npz"), deadline_ms=-1)


def test_a_recording_that_breaks_off_in_the_middle(alone: Edge) -> None:
    class Broken(SimulatedCamera):
        live = False

    with alone:
        stream = alone.stream(Broken(frames(5), vanishes_at=2, name="old.mp4"))
        assert [next(stream).frame, next(stream).frame] == [0, 1]
        with pytest.raises(SourceError, match=r"^old\.mp4: no frame after 2 frames"):
            next(stream)
        assert next(stream, None) is None
