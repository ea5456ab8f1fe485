"""`strict=False`: what a robot's loop calls raises nothing, warns once at the caller's line, and counts."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import ecc_snn
from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_model.errors import DeviceError, FrameError
from ecc_snn import EccError, EccWarning, Edge
from support.edges import Inbox, await_worker, frames

if TYPE_CHECKING:
    from support.models import TinyModels

# what a frame may be instead of one, and what is said about it
BAD_FRAMES = {
    "float": (np.zeros((16, 16), np.float32), "frames are uint8 arrays, this one is float32; convert it to 0-255"),
    "NaN": (np.full((16, 16), np.nan), "frames are uint8 arrays, this one is float64; convert it to 0-255"),
    "line": (np.zeros((16,), np.uint8), "a frame has shape (H, W), (H, W, C) or (T, H, W, C), this one (16,)"),
    "empty": (np.zeros((0, 16, 1), np.uint8), "sides of a frame are 1 to 4096 pixels, these are 0 x 16"),
    "huge": (np.zeros((4097, 1, 1), np.uint8), "sides of a frame are 1 to 4096 pixels, these are 4097 x 1"),
    "channels": (np.zeros((16, 16, 2), np.uint8), "this network takes 1 channels, the frame has 2"),
    "steps": (np.zeros((5, 16, 16, 1), np.uint8), "a frame with time steps needs 2 of them, this one has 5"),
    "no array": (None, "frames are uint8 arrays, this is no numpy array but of type NoneType; convert it with"),
}


@pytest.fixture
def lenient(tmp_path: Path, models: TinyModels) -> Edge:
    return Edge(models.edge, state=tmp_path / "state", strict=False)


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_a_bad_frame_gives_a_result_that_knows_nothing(lenient: Edge, kind: str) -> None:
    bad, error = BAD_FRAMES[kind]
    with lenient:
        with pytest.warns(EccWarning) as caught:
            result = lenient.classify(bad, camera="front")
        assert str(caught[0].message).startswith(f"FrameError: {error}")
        assert (result.label, result.why, result.stands, result.camera) == ("", "failed", "edge", "front")
        assert (result.entropy, result.ambiguous, result.answer.probability) == (1.0, True, 0.0)
        assert (result.frame, result.cloud, result.row, result.bytes_sent) == (0, None, None, 0)
        assert "no label (edge)" in str(result.explain())
        assert lenient.classify(frames(1)[0]).frame == 1
        assert lenient.status()["failures"] == {"FrameError": 1}


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_a_strict_edge_raises_the_same(tmp_path: Path, models: TinyModels, kind: str) -> None:
    bad, error = BAD_FRAMES[kind]
    with Edge(models.edge, state=tmp_path / "state") as edge, pytest.raises(FrameError) as caught:
        edge.classify(bad)
    assert str(caught.value).startswith(error)


@pytest.mark.parametrize("how", ["reversed", "every second", "transposed"])
def test_a_frame_of_any_stride_is_the_same_frame(tmp_path: Path, models: TinyModels, how: str) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (32, 32, 1), np.uint8)
    view = {"reversed": whole[::-1, ::-1], "every second": whole[::2, ::2], "transposed": whole.swapaxes(0, 1)}[how]
    assert not view.flags.c_contiguous
    with Edge(models.edge, state=tmp_path / "state") as edge:
        assert edge.classify(view).edge == edge.classify(np.ascontiguousarray(view)).edge


def test_each_line_is_warned_once_and_everything_is_counted(lenient: Edge) -> None:
    with lenient, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = inspect.currentframe().f_lineno + 1
        [lenient.classify(None) for _ in range(5)]
        lenient.classify(None, deadline_ms=-1)
        lenient.notify("parked")
        assert lenient.status()["failures"] == {"FrameError": 5, "DeviceError": 2}
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, first), (__file__, first + 1), (__file__, first + 2)]
    assert [w.category for w in caught] == [EccWarning] * 3
    assert [str(w.message) for w in caught] == [
        f"{said} (strict=False: said once for this line, counted in status()['failures'])"
        for said in (
            "FrameError: frames are uint8 arrays, this is no numpy array but of type NoneType; convert it with "
            "numpy.asarray(frame)",
            "DeviceError: a deadline of -1 ms; give 0 (do not wait) or more",
            "DeviceError: 'parked' is not an event; a device knows: charging, undocked, offline, online",
        )
    ]


def test_nothing_is_raised_when_the_edge_is_not_open(lenient: Edge) -> None:
    with pytest.warns(EccWarning, match=r"^DeviceError: this Edge is not open; use it as: with Edge"):
        assert lenient.classify(frames(1)[0]).why == "failed"
    with lenient:
        assert lenient.classify(frames(1)[0]).why != "failed"
    with pytest.warns(EccWarning, match=r"^DeviceError: this Edge is closed; make a new one"):
        assert lenient.classify(frames(1)[0]).why == "failed"
    with pytest.warns(EccWarning, match=r"^DeviceError: this Edge is closed"):
        assert lenient.submit(frames(1)[0]) == -1
    with pytest.warns(EccWarning, match=r"^DeviceError: this Edge is closed"):
        status = lenient.status()
    assert status == {"cameras": {}, "failures": {"DeviceError": 4}}


def test_an_error_that_is_nobodys_does_not_stop_the_loop_either(lenient: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    with lenient:
        assert lenient._device is not None
        monkeypatch.setattr(lenient._device.runtime.engine, "exit", lambda *_: 1 // 0)
        with pytest.warns(EccWarning, match=r"^ZeroDivisionError: "):
            assert lenient.classify(frames(1)[0]).why == "failed"
        monkeypatch.undo()
        assert lenient.classify(frames(1)[0]).label
        assert lenient._under_way == 0


def test_a_submitted_frame_that_fails_reaches_the_callbacks(lenient: Edge, caplog: pytest.LogCaptureFixture) -> None:
    inbox = Inbox()
    with lenient:
        lenient.on_result(inbox)
        ids = []
        for count, pixels in enumerate((frames(1)[0], None, np.zeros((4, 4, 4), np.uint8), frames(1)[0]), 1):
            ids.append(lenient.submit(pixels, camera="front"))
            inbox.wait(count)
        status = lenient.status()
    assert ids == [0, 1, 2, 3]
    assert [(r.frame, r.camera, r.why == "failed", r.entropy == 1.0) for r in inbox.results] == [
        (0, "front", False, False),
        (1, "front", True, True),
        (2, "front", True, True),
        (3, "front", False, False),
    ]
    assert (status["failures"], status["submit"]["failed"]) == ({"FrameError": 2}, 2)
    assert [record.getMessage() for record in caplog.records if record.name == "ecc_snn"] == [
        "a submitted frame failed: frames are uint8 arrays, this one is object; convert it to 0-255 "
        "(said once, later ones are only counted)"
    ]


def test_a_frame_that_fails_while_the_cloud_is_asked_reaches_the_callbacks(
    tmp_path: Path, unsure: TinyModels, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox()
    with Edge(unsure.edge, state=tmp_path / "state", strict=False, link=MemoryLink(broker, "device")) as edge:
        await_worker(edge)
        edge.on_result(inbox)
        assert edge._device is not None
        monkeypatch.setattr(edge._device.runtime, "finish", lambda _: 1 // 0)
        edge.submit(frames(1)[0])
        result = inbox.wait(1)[0]
        assert (result.frame, result.why, edge.status()["failures"]) == (0, "failed", {"ZeroDivisionError": 1})


def test_ctrl_c_still_ends_the_loop(lenient: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with lenient:
        assert lenient._device is not None
        monkeypatch.setattr(lenient._device.runtime.engine, "exit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lenient.classify(frames(1)[0])


NO_EVENT = "is not an event; a device knows: charging, undocked, offline, online"
# what a program may get wrong -> what it is told
WRONG_TYPES = {
    "no event": (lambda edge: edge.notify(None), f"'None' {NO_EVENT}"),
    "an event's number": (lambda edge: edge.notify(0), f"'0' {NO_EVENT}"),
    "a list as event": (lambda edge: edge.notify(["charging"]), f"'['charging']' {NO_EVENT}"),
    "deadline as text": (
        lambda edge: edge.classify(frames(1)[0], deadline_ms="50"),
        "a deadline of 50 is of type str; give a number of milliseconds",
    ),
    "callback": (lambda edge: edge.on_result(5), "5 cannot be called; give on_result a function that takes a result"),
}


@pytest.mark.parametrize("case", WRONG_TYPES)
def test_a_wrong_type_is_a_typed_error(tmp_path: Path, models: TinyModels, case: str) -> None:
    call, text = WRONG_TYPES[case]
    with Edge(models.edge, state=tmp_path / "state") as edge, pytest.raises(DeviceError) as caught:
        call(edge)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"budget": 5}, "'5' is not a budget; give a share of the frames, e.g. 5%, or bytes, e.g. 2MB/h"),
        ({"deadline_ms": "50"}, "a deadline of 50 is of type str; give a number of milliseconds"),
        ({"deadline_ms": None}, "a deadline of None is of type NoneType; give a number of milliseconds"),
        (
            {"learner": "guess"},
            "there is no learner 'guess'; choose one of: auto, analytic, lwf, both, lwf-plain, none",
        ),
        ({"shadow": -1}, "a shadow run of -1 frames; give 0 (none) or more"),
        ({"shadow": "9"}, "a shadow run of 9 frames; give 0 (none) or more"),
    ],
)
def test_an_option_that_is_wrong_is_a_typed_error(
    tmp_path: Path, models: TinyModels, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(DeviceError) as caught:
        Edge(models.edge, state=tmp_path / "state", **options).open()
    assert str(caught.value) == text


def test_how_it_learns_is_the_programs_choice(tmp_path: Path, models: TinyModels) -> None:
    with Edge(models.edge, state=tmp_path / "state", learner="none", shadow=0) as edge:
        edge.notify("charging")
        assert edge.status()["update"] == {"running": False, "progress_percent": None, "shadow": None, "last": None}


def test_what_is_wrong_from_the_start_is_raised(tmp_path: Path) -> None:
    with pytest.raises(EccError, match="no such model file"):
        Edge(tmp_path / "nowhere.pt", state=tmp_path / "state", strict=False).open()
    with pytest.raises(DeviceError, match="a deadline of -1 ms"):
        Edge(tmp_path / "nowhere.pt", strict=False, deadline_ms=-1)


def test_warnings_are_no_part_of_the_tree_of_errors() -> None:
    assert issubclass(EccWarning, UserWarning)
    assert not issubclass(EccWarning, ecc_snn.EccError)
