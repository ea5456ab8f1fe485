"""The SDK against real parts: the device behind it, a worker in this process, links through memory."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ecc_snn
from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_device import control
from ecc_device.clock import SystemClock
from ecc_device.device import Device, DeviceConfig
from ecc_device.frame import Frame
from ecc_device.models import open_active
from ecc_device.results import choose
from ecc_device.runtime import Pending
from ecc_device.statefolder import default_state
from ecc_device.store import Store
from ecc_device.tickets import Ticket
from ecc_model.errors import DeviceError, FrameError, ModelNotFound, StoreLocked
from ecc_snn import Edge, Result
from ecc_snn.cameras import CameraCounts
from ecc_snn.submissions import MAX_CORRECTIONS, Submissions
from support.edges import PATIENCE_S, PATIENT_MS, Gate, Inbox, await_worker, frames
from support.models import DIGITS, TinyModels, write_tiny_models
from support.rows import fill_answered

COUNTS = {"failed": 0, "callback_errors": 0, "corrections_dropped": 0}


def counted(status: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Frames and replaced frames of each camera."""
    return {camera: (found["frames"], found["replaced"]) for camera, found in status["cameras"].items()}


def plain(result: Result) -> Result:
    """Without its stamp, and without the size of a request, which holds the deadline as a number."""
    return replace(result, time_s=0.0, bytes_sent=0)


# ---- what is public ----


def test_public_names_are_pinned() -> None:
    assert ecc_snn.__all__ == [
        "Answer",
        "AsyncEdge",
        "EccError",
        "EccWarning",
        "Edge",
        "Explanation",
        "Result",
        "Stream",
        "__version__",
    ]
    assert sorted(name for name in dir(Edge) if not name.startswith("_")) == [
        "classify",
        "close",
        "notify",
        "on_result",
        "open",
        "status",
        "stream",
        "submit",
    ]


def test_import_starts_nothing() -> None:
    code = (
        "import sys, threading, ecc_snn; "
        "print(threading.active_count(), {'torch', 'paho', 'typer', 'cv2'} & set(sys.modules), ecc_snn.__version__); "
        "import logging; names = ['', *logging.root.manager.loggerDict]; "
        "print([name for name in names if logging.getLogger(name).handlers])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"1 set() {ecc_snn.__version__}\n[]\n"


# ---- classify ----


@pytest.mark.parametrize("with_worker", [False, True])
def test_classify_is_what_the_device_answers(
    tmp_path: Path, models: TinyModels, broker: MemoryBroker, with_worker: bool
) -> None:
    def link() -> MemoryLink | None:
        return MemoryLink(broker, "device") if with_worker else None

    config = DeviceConfig(model=models.edge, state=tmp_path / "device", patience_s=PATIENCE_S)
    with Device(config, link=link()) as device:
        if device.offload is not None:
            assert device.offload.wait_ready(PATIENCE_S)
        expected = [device.runtime.classify(Frame(index, 0.0, pixels, None)) for index, pixels in enumerate(frames(20))]
    with Edge(models.edge, state=tmp_path / "edge", deadline_ms=PATIENT_MS, link=link()) as edge:
        if with_worker:
            await_worker(edge)
        results = [edge.classify(pixels) for pixels in frames(20)]
    assert [plain(result) for result in results] == [plain(result) for result in expected]
    whys = {result.why for result in results}
    assert whys >= {"confident", "cloud answered" if with_worker else "offline"}
    assert [result.frame for result in results] == list(range(20))
    for result in results:
        assert result.answer is (result.cloud if result.stands == "cloud" else result.edge)
        assert (result.bytes_sent > 0, result.bytes_received > 0) == (result.cloud is not None,) * 2
        assert result.latency_s > 0


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 1), (40, 30, 3), (2, 16, 16, 1)])
def test_frames_of_every_shape(tmp_path: Path, models: TinyModels, shape: tuple[int, ...]) -> None:
    with Edge(models.edge, state=tmp_path / "state") as edge:
        result = edge.classify(np.full(shape, 200, np.uint8))
    assert result.label in DIGITS[:6]
    assert result.probabilities == result.edge.probabilities
    assert sum(result.probabilities) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("pixels", "error"),
    [
        (
            np.zeros((16, 16), np.float32),
            "frames are uint8 arrays, this one is float32; convert it to 0-255, from 0 to 1 by "
            "(255 * frame).astype('uint8')",
        ),
        (np.zeros((16,), np.uint8), r"a frame has shape (H, W), (H, W, C) or (T, H, W, C), this one (16,)"),
        (np.zeros((16, 16, 2), np.uint8), "this network takes 1 channels, the frame has 2"),
        (
            [[0]],
            "frames are uint8 arrays, this is no numpy array but of type list; convert it with numpy.asarray(frame)",
        ),
    ],
)
def test_a_frame_that_does_not_fit_is_refused(
    tmp_path: Path, models: TinyModels, pixels: np.ndarray, error: str
) -> None:
    with Edge(models.edge, state=tmp_path / "state") as edge:
        with pytest.raises(FrameError) as caught:
            edge.classify(pixels)
        assert str(caught.value) == error
        assert edge.classify(frames(1)[0]).frame == 1  # its id is not used again


def test_a_deadline_of_zero_does_not_wait_for_the_cloud(edge: Edge, broker: MemoryBroker) -> None:
    broker.pause()
    result = edge.classify(frames(1)[0], deadline_ms=0)
    assert (result.stands, result.why, result.cloud) == ("edge", "deadline", None)
    assert result.bytes_sent > 0
    broker.resume()
    assert edge.classify(frames(1)[0], deadline_ms=PATIENT_MS).cloud is not None


class HandClock(SystemClock):
    """Stands still until it is set; says when it was read."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.read = threading.Semaphore(0)

    def monotonic(self) -> float:
        self.read.release()
        return self.now_s


def test_the_deadline_of_the_constructor_is_that_of_every_frame(
    tmp_path: Path, models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    with Edge(models.edge, state=tmp_path / "state", deadline_ms=250, clock=HandClock()) as edge:
        assert edge._device is not None
        begin = edge._device.runtime.begin
        monkeypatch.setattr(
            edge._device.runtime, "begin", lambda frame, until_s: (given.append(until_s), begin(frame, until_s))[1]
        )
        edge.classify(frames(1)[0])
        edge.submit(frames(1)[0])
        edge.classify(frames(1)[0], deadline_ms=0)
    assert sorted(given) == [0.0, 0.25, 0.25]


def test_a_frame_that_waits_for_the_cloud_holds_no_other_up(edge: Edge, broker: MemoryBroker) -> None:
    broker.pause()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(edge.classify, frames(1)[0], PATIENT_MS)
        while edge.status()["counts"].get("sent", 0) == 0:
            pass
        result = edge.classify(frames(2)[1], deadline_ms=0)
        assert (result.why, result.frame) == ("deadline", 1)
        assert not waiting.done()
        broker.resume()
        assert waiting.result(PATIENCE_S).cloud is not None


def test_time_spent_behind_other_threads_counts_against_the_deadline(
    tmp_path: Path, unsure: TinyModels, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three frames come at 0 s, the network takes 0.4 s for the first: 0.2 s are used up, 0.6 s are not."""
    clock, given = HandClock(), {}
    inside, go_on = threading.Event(), threading.Event()
    edge = Edge(unsure.edge, state=tmp_path / "state", link=MemoryLink(broker, "device"), clock=clock)
    with edge, ThreadPoolExecutor(3) as pool:
        await_worker(edge)
        assert edge._device is not None
        runtime, offload = edge._device.runtime, edge._device.offload
        head, wait = runtime.engine.head, offload.wait

        def slow(pixels: np.ndarray, *steps: int) -> np.ndarray:
            inside.set()
            assert go_on.wait(PATIENCE_S)
            return head(pixels, *steps)

        def noted(ticket: Ticket, timeout_s: float) -> None:
            given[ticket.row] = timeout_s
            wait(ticket, PATIENCE_S)

        monkeypatch.setattr(runtime.engine, "head", slow)
        monkeypatch.setattr(offload, "wait", noted)
        first = pool.submit(edge.classify, frames(1)[0], 500)
        assert inside.wait(PATIENCE_S)
        others = [pool.submit(edge.classify, frames(1)[0], deadline_ms) for deadline_ms in (200, 600)]
        while edge._next_id < 3:
            pass
        clock.now_s = 0.4
        go_on.set()
        left = {row.row: given[row.row] for row in (f.result(PATIENCE_S) for f in (first, *others))}
    assert sorted(left.values()) == [pytest.approx(-0.2), pytest.approx(0.1), pytest.approx(0.2)]


# ---- submit and on_result ----


def test_submit_answers_through_the_callback(tmp_path: Path, models: TinyModels) -> None:
    inbox, other = Inbox(), Inbox()
    with Edge(models.edge, state=tmp_path / "state") as edge:
        edge.on_result(inbox)
        edge.on_result(other)
        expected = [edge.classify(pixels) for pixels in frames(3)]
        for count, pixels in enumerate(frames(3), 1):
            assert edge.submit(pixels) == 2 + count
            inbox.wait(count)
        other.wait(3)
        status = edge.status()
        assert (status["submit"], counted(status)) == (COUNTS, {"": (3, 0)})
    assert [result.frame for result in inbox.results] == [3, 4, 5]
    assert [(r.edge, r.why) for r in inbox.results] == [(r.edge, r.why) for r in expected]
    assert other.results == inbox.results


def test_the_newest_submitted_frame_wins(tmp_path: Path, models: TinyModels) -> None:
    gate, inbox = Gate(), Inbox()
    with Edge(models.edge, state=tmp_path / "state") as edge:
        edge.on_result(gate)
        edge.on_result(inbox)
        first = edge.submit(frames(1)[0])
        assert gate.reached.wait(PATIENCE_S)
        ids = [edge.submit(pixels) for pixels in frames(4)]
        assert counted(edge.status()) == {"": (5, 3)}
        gate.opened.set()
        inbox.wait(2)
    assert [result.frame for result in inbox.results] == [first, ids[-1]]


def test_a_submitted_frame_is_copied(tmp_path: Path, models: TinyModels) -> None:
    gate, inbox = Gate(), Inbox()
    buffer = frames(1)[0]
    with Edge(models.edge, state=tmp_path / "state") as edge:
        expected = edge.classify(buffer)
        edge.on_result(gate)
        edge.on_result(inbox)
        edge.submit(buffer)
        assert gate.reached.wait(PATIENCE_S)
        edge.submit(buffer)
        buffer[:] = 255  # the camera writes its next frame there
        gate.opened.set()
        inbox.wait(2)
    assert inbox.results[1].edge == expected.edge


def test_close_still_classifies_the_frame_that_waits(tmp_path: Path, models: TinyModels) -> None:
    inbox = Inbox()
    with Edge(models.edge, state=tmp_path / "state") as edge:
        edge.on_result(inbox)
        last = edge.submit(frames(1)[0])
    assert [result.frame for result in inbox.results] == [last]


def test_close_does_not_wait_for_the_cloud(edge: Edge, broker: MemoryBroker) -> None:
    broker.pause()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(edge.classify, frames(1)[0], PATIENT_MS)
        while edge.status()["counts"].get("sent", 0) == 0:
            pass
        edge.close()
        result = waiting.result(PATIENCE_S)
    broker.resume()
    assert (result.stands, result.why) == ("edge", "deadline")
    assert result.latency_s < PATIENCE_S


def test_a_callback_that_raises_is_logged_once_and_counted(
    tmp_path: Path, models: TinyModels, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()

    def broken(result: Result) -> None:
        raise (SystemExit, ZeroDivisionError, SystemExit)[result.frame]("of the robot's own code")

    with Edge(models.edge, state=tmp_path / "state") as edge:
        edge.on_result(broken)
        edge.on_result(inbox)
        for count, pixels in enumerate(frames(3), 1):
            edge.submit(pixels)
            inbox.wait(count)
        assert edge.status()["submit"] == COUNTS | {"callback_errors": 3}
    said = [record for record in caplog.records if record.name == "ecc_snn"]
    assert [record.getMessage() for record in said] == [
        'an on_result callback failed: SystemExit("of the robot\'s own code") (said once, later ones are only counted)'
    ]
    assert said[0].levelno == logging.ERROR
    assert said[0].exc_info is not None


def test_a_submitted_frame_that_does_not_fit_is_logged_and_counted(
    tmp_path: Path, models: TinyModels, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Inbox()
    edge = Edge(models.edge, state=tmp_path / "state")
    with edge:
        edge.on_result(inbox)
        edge.submit(np.zeros((16, 16, 2), np.uint8))
    assert edge._submissions.counts() == COUNTS | {"failed": 1}
    assert inbox.results == []
    said = [record for record in caplog.records if record.name == "ecc_snn"]
    assert [record.getMessage() for record in said] == [
        "a submitted frame failed: this network takes 1 channels, the frame has 2 "
        "(said once, later ones are only counted)"
    ]
    assert said[0].exc_info is None


def test_frames_that_fail_do_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    taken = threading.Semaphore(0)
    errors = [FrameError("of a wrong shape"), MemoryError(), FrameError("of a wrong shape")]

    def classify(frame: Frame) -> Pending:
        taken.release()
        raise errors[frame.index]

    def finish(_: Pending) -> Result:
        raise AssertionError("no frame was begun")

    submissions = Submissions(classify, finish, lambda *_: None, SystemClock(), CameraCounts(SystemClock()))
    submissions.start()
    for index in range(3):
        submissions.submit(Frame(index, 0.0, np.zeros((1, 1, 1), np.uint8), None))
        assert taken.acquire(timeout=PATIENCE_S)
    submissions.close()
    assert submissions.counts() == COUNTS | {"failed": 3}
    assert [record.getMessage() for record in caplog.records] == [
        "a submitted frame failed: of a wrong shape (said once, later ones are only counted)"
    ]


def test_a_callback_may_use_and_close_the_edge(tmp_path: Path, models: TinyModels) -> None:
    inner: list[Result] = []
    closed = threading.Event()
    edge = Edge(models.edge, state=tmp_path / "state")

    def stop(result: Result) -> None:
        inner.append(edge.classify(frames(1)[0]))
        edge.close()
        closed.set()

    edge.on_result(stop)
    with edge:
        edge.submit(frames(1)[0])
        assert closed.wait(PATIENCE_S)
    assert [result.frame for result in inner] == [1]
    with Store.open(tmp_path / "state"):  # the folder is free again
        pass


# ---- late answers ----


@pytest.mark.parametrize("how", ["classify", "submit"])
def test_a_late_answer_corrects_the_frame(edge: Edge, broker: MemoryBroker, how: str) -> None:
    inbox = Inbox()
    edge.on_result(inbox)
    broker.pause()
    if how == "classify":
        first = edge.classify(frames(1)[0], deadline_ms=0)
    else:
        edge.submit(frames(1)[0])
        first = inbox.wait(1)[0]
    assert (first.why, first.cloud) == ("deadline", None)
    broker.resume()
    corrected = inbox.wait(1 if how == "classify" else 2)[-1]
    assert corrected.cloud is not None
    stands, why = choose(first.edge, corrected.cloud)
    received = corrected.bytes_received
    assert corrected == replace(first, cloud=corrected.cloud, stands=stands, why=why, bytes_received=received)
    assert (corrected.frame, received > 0) == (0, True)
    assert edge.status()["counts"]["late"] == 1


def test_a_correction_never_runs_on_the_links_thread(edge: Edge, broker: MemoryBroker) -> None:
    asked: list[Result] = []
    done = threading.Event()

    def ask_again(_: Result) -> None:
        asked.append(edge.classify(frames(1)[0], deadline_ms=PATIENT_MS))  # needs the link to go on
        done.set()

    edge.on_result(ask_again)
    broker.pause()
    edge.classify(frames(1)[0], deadline_ms=0)
    broker.resume()
    assert done.wait(PATIENCE_S)
    assert asked[0].cloud is not None


def test_corrections_that_find_no_room_are_counted(tmp_path: Path, models: TinyModels) -> None:
    with Edge(models.edge, state=tmp_path / "state") as edge:
        result = edge.classify(frames(1)[0])
    clock = SystemClock()
    submissions = Submissions(lambda _: None, lambda _: result, lambda *_: None, clock, CameraCounts(clock))
    gate, inbox = Gate(), Inbox()
    submissions.on_result(gate)
    submissions.on_result(inbox)
    submissions.start()
    submissions.correct(result)
    assert gate.reached.wait(PATIENCE_S)
    for frame in range(MAX_CORRECTIONS + 2):
        submissions.correct(replace(result, frame=frame))
    assert submissions.counts() == COUNTS | {"corrections_dropped": 2}
    gate.opened.set()
    submissions.close()
    assert [result.frame for result in inbox.results] == [0, *range(2, MAX_CORRECTIONS + 2)]


# ---- learning and status ----


def test_charging_leads_to_a_decision_in_the_status(tmp_path: Path) -> None:
    models = write_tiny_models(tmp_path, learnable=True)
    state = tmp_path / "state"
    with Store.open(state) as store:
        open_active(models.edge, store, state, 0.0)
        fill_answered(store, models.program)
    with Edge(models.edge, state=state) as edge:
        assert edge.status()["labels"] == list(DIGITS[:6])
        edge.notify("charging")
        assert edge._device is not None
        edge._device.updates.wait(120)
        status = edge.status()
        assert status["update"]["last"]["accepted"], status["update"]["last"]["reason"]
        assert (status["update"]["running"], status["model_no"]) == (False, 1)
        assert status["update"]["shadow"] == {"no": 2, "seen": 0, "frames": 100}
        for pixels in frames(100):
            assert edge.classify(pixels).model_no == 1
        status = edge.status()
        assert (status["update"]["shadow"], status["update"]["last"]["accepted"]) == (None, True)
        assert (status["model_no"], status["labels"]) == (2, list(DIGITS))
        assert edge.classify(frames(1)[0]).model_no == 2


def test_the_commands_reach_an_edge_through_its_state_folder(tmp_path: Path, models: TinyModels) -> None:
    with Edge(models.edge, state=tmp_path / "state", device="robot-7") as edge:
        edge.classify(frames(1)[0])
        status = control.ask(tmp_path / "state", "status")
        assert status == edge.status()
        assert (status["submit"], status["cameras"], status["failures"]) == (COUNTS, {}, {})
        edge.submit(frames(1)[0], camera="front")
        assert counted(control.ask(tmp_path / "state", "status")) == {"front": (1, 0)}
        assert (status["device"], status["frames"], status["connected"]) == ("robot-7", 1, False)
        assert status["health"] == {"offline": "no broker given; working alone"}


def test_the_state_folder_is_that_of_the_commands(
    tmp_path: Path, models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ECC_STATE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_state("arm") == tmp_path / ".local" / "state" / "ecc-snn" / "arm"
    with Edge(models.edge, device="arm"):
        assert control.ask(default_state("arm"), "status")["device"] == "arm"
    monkeypatch.setenv("ECC_STATE", str(tmp_path / "given"))
    with Edge(models.edge):
        assert control.ask(tmp_path / "given", "status")["device"] == "device"


# ---- many threads ----


def test_four_threads_at_once(edge: Edge) -> None:
    inbox = Inbox()
    edge.on_result(inbox)
    everyone = threading.Barrier(4)
    pixels = frames(10)
    expected = [edge.classify(frame, deadline_ms=PATIENT_MS) for frame in pixels]

    def use(_: int) -> list[Result]:
        everyone.wait(PATIENCE_S)
        results = []
        for frame in pixels:
            results.append(edge.classify(frame, deadline_ms=PATIENT_MS))
            edge.submit(frame)
            edge.status()
        return results

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(use, range(4)))
    for results in got:
        assert [(r.edge, r.cloud, r.stands) for r in results] == [(r.edge, r.cloud, r.stands) for r in expected]
        ids = [result.frame for result in results]
        assert ids == sorted(ids)
    edge._submissions.close()
    status = edge.status()
    submitted_count, replaced = counted(status)[""]
    assert (status["submit"], submitted_count) == (COUNTS, 40)
    answered = {result.frame for results in got for result in results}
    submitted = {result.frame for result in inbox.results}
    assert len(submitted) == 40 - replaced
    assert len(answered) == 40
    assert answered | submitted <= set(range(10, 90))
    assert not answered & submitted
    assert edge.status()["frames"] == 10 + 40 + len(submitted)


def test_close_while_other_threads_classify(edge: Edge) -> None:
    started = threading.Barrier(4)
    texts: list[str] = []

    def use() -> None:
        edge.classify(frames(1)[0])
        started.wait(PATIENCE_S)
        try:
            while True:
                edge.classify(frames(1)[0])
        except DeviceError as error:
            texts.append(str(error))

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait(PATIENCE_S)
    edge.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert texts == ["this Edge is closed; make a new one"] * 3


def test_close_waits_for_the_frame_that_is_being_classified(
    tmp_path: Path, models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    edge = Edge(models.edge, state=tmp_path / "state").open()
    device = edge._device
    assert device is not None
    close, begin = device.close, device.runtime.begin

    def slow(frame: Frame, until_s: float) -> Pending:
        inside.set()
        assert go_on.wait(PATIENCE_S)
        return begin(frame, until_s)

    monkeypatch.setattr(device.runtime, "begin", slow)
    monkeypatch.setattr(device, "close", lambda: (closed.set(), close()))
    with ThreadPoolExecutor(2) as pool:
        classified = pool.submit(edge.classify, frames(1)[0])
        assert inside.wait(PATIENCE_S)
        closing = pool.submit(edge.close)
        assert not closed.wait(0.2)
        go_on.set()
        assert classified.result(PATIENCE_S).frame == 0
        closing.result(PATIENCE_S)
    assert closed.is_set()


# ---- errors ----


@pytest.mark.parametrize(
    "use",
    [
        lambda edge: edge.classify(frames(1)[0]),
        lambda edge: edge.submit(frames(1)[0]),
        lambda edge: edge.notify("charging"),
        lambda edge: edge.status(),
    ],
)
def test_an_edge_that_is_not_open(tmp_path: Path, models: TinyModels, use) -> None:
    edge = Edge(models.edge, state=tmp_path / "state")
    with pytest.raises(DeviceError, match=r"^this Edge is not open; use it as: with Edge\(\.\.\.\) as edge$"):
        use(edge)
    with edge:
        use(edge)
        with pytest.raises(DeviceError, match=r"^this Edge is open already; open it once$"):
            edge.open()
    edge.close()
    with pytest.raises(DeviceError, match=r"^this Edge is closed; make a new one$"):
        use(edge)
    with pytest.raises(DeviceError, match=r"^this Edge is closed; make a new one$"):
        edge.open()


def test_a_second_edge_on_one_state_folder(tmp_path: Path, models: TinyModels) -> None:
    state = tmp_path / "state"
    second = Edge(models.edge, state=state)
    with Edge(models.edge, state=state) as first:
        with pytest.raises(StoreLocked) as caught:
            second.open()
        assert first.classify(frames(1)[0]).frame == 0
    number = (state / "lock").read_text().strip()
    text = f"{state}: in use by process {number}; stop that process, or choose another state folder"
    assert str(caught.value) == text
    with second:  # nothing of the failed attempt is in the way
        assert second.classify(frames(1)[0]).frame == 0


def test_a_failed_start_gives_the_state_folder_back(tmp_path: Path, models: TinyModels) -> None:
    state = tmp_path / "state"
    (state / "control.sock").mkdir(parents=True)
    with pytest.raises(DeviceError, match=r"control\.sock: not a socket, where the control socket goes; remove it$"):
        Edge(models.edge, state=state).open()
    (state / "control.sock").rmdir()
    with Edge(models.edge, state=state):
        pass


@pytest.mark.parametrize("deadline_ms", [-1, float("nan"), float("inf")])
def test_a_deadline_that_is_none(tmp_path: Path, models: TinyModels, deadline_ms: float) -> None:
    text = rf"^a deadline of {deadline_ms} ms; give 0 \(do not wait\) or more$"
    with pytest.raises(DeviceError, match=text):
        Edge(models.edge, deadline_ms=deadline_ms)
    with Edge(models.edge, state=tmp_path / "state") as edge, pytest.raises(DeviceError, match=text):
        edge.classify(frames(1)[0], deadline_ms=deadline_ms)


def test_one_tree_of_errors(tmp_path: Path, models: TinyModels) -> None:
    with pytest.raises(ecc_snn.EccError, match=r"nowhere\.pt: no such model file; check the path") as caught:
        Edge(tmp_path / "nowhere.pt", state=tmp_path / "state").open()
    assert isinstance(caught.value, ModelNotFound)
    with pytest.raises(ecc_snn.EccError, match=r"^'parked' is not an event; a device knows: charging, undocked"):  # noqa: SIM117
        with Edge(models.edge, state=tmp_path / "state") as edge:
            edge.notify("parked")
    with pytest.raises(ecc_snn.EccError, match=r"is another machine and mqtt:// is not encrypted"):
        Edge(models.edge, "mqtt://broker.example", state=tmp_path / "state").open()


# ---- a clock that jumps ----


class SetClock(SystemClock):
    """The machine's clock, whose wall time somebody sets."""

    set_s = 0.0

    def now(self) -> float:
        return super().now() + self.set_s


def test_a_clock_that_is_set_changes_stamps_and_nothing_else(
    tmp_path: Path, unsure: TinyModels, broker: MemoryBroker
) -> None:
    clock, link = SetClock(), MemoryLink(broker, "device")
    with Edge(unsure.edge, state=tmp_path / "state", link=link, clock=clock, deadline_ms=PATIENT_MS) as edge:
        await_worker(edge)
        results = []
        for clock.set_s in (0.0, 86_400.0, -86_400.0, 0.0):
            results.append(edge.classify(frames(1)[0]))
        assert edge.status()["counts"]["answered"] == 4
    assert {(result.why, result.cloud) for result in results} == {(results[0].why, results[0].cloud)}
    assert results[0].cloud is not None
    days = [round((result.time_s - results[0].time_s) / 86_400) for result in results]
    assert days == [0, 1, -1, 0]
    assert [result.frame for result in results] == [0, 1, 2, 3]
