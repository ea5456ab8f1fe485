"""The SDK against real parts: the device behind it, a worker in this process, links through memory."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ecc_snn
from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_cloud.model import CloudModel
from ecc_cloud.worker import Worker
from ecc_device import control
from ecc_device.device import Device, DeviceConfig
from ecc_device.frame import Frame
from ecc_device.models import open_active
from ecc_device.results import choose
from ecc_device.statefolder import default_state
from ecc_device.store import Store
from ecc_model.errors import DeviceError, FrameError, ModelNotFound, StoreLocked
from ecc_snn import Edge, Result
from ecc_snn.submissions import MAX_CORRECTIONS, Submissions
from support.models import DIGITS, TinyModels, write_tiny_models
from support.rows import fill_answered

PATIENCE_S = 30.0
PATIENT_MS = 1000 * PATIENCE_S
COUNTS = {"frames": 0, "replaced": 0, "corrections_dropped": 0, "failed": 0, "callback_errors": 0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Models whose edge is unsure about some random frames."""
    return write_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def unsure(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Models whose edge is unsure about every frame."""
    return write_tiny_models(tmp_path_factory.mktemp("unsure"), threshold=0.0)


@pytest.fixture
def broker(models: TinyModels) -> Iterator[MemoryBroker]:
    """A broker with a worker behind it, for both pairs of models: they differ in the threshold only."""
    broker = MemoryBroker()
    worker = Worker(CloudModel(models.cloud), MemoryLink(broker, "ecc-cloud-0"))
    worker.start()
    yield broker
    worker.close()


@pytest.fixture
def edge(tmp_path: Path, unsure: TinyModels, broker: MemoryBroker) -> Iterator[Edge]:
    """An open Edge that asks the worker about every frame."""
    with Edge(unsure.edge, state=tmp_path / "state", link=MemoryLink(broker, "device")) as edge:
        await_worker(edge)
        yield edge


def await_worker(edge: Edge) -> None:
    assert edge._device is not None
    assert edge._device.offload is not None
    assert edge._device.offload.wait_ready(PATIENCE_S)


def frames(count: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 1), np.uint8))


def plain(result: Result) -> Result:
    """Without its stamp, and without the size of a request, which holds the deadline as a number."""
    return replace(result, time_s=0.0, bytes_sent=0)


class Inbox:
    """A callback that keeps what it gets, and can be waited on."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self._changed = threading.Condition()

    def __call__(self, result: Result) -> None:
        with self._changed:
            self.results.append(result)
            self._changed.notify_all()

    def wait(self, count: int) -> list[Result]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.results) >= count, PATIENCE_S)
            return list(self.results)


class Gate:
    """A callback that stops the thread that calls it until it is opened."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, _: Result) -> None:
        self.reached.set()
        assert self.opened.wait(PATIENCE_S)


# ---- what is public ----


def test_public_names_are_pinned() -> None:
    assert ecc_snn.__all__ == ["Answer", "EccError", "Edge", "Result", "__version__"]
    assert sorted(name for name in dir(Edge) if not name.startswith("_")) == [
        "classify",
        "close",
        "notify",
        "on_result",
        "open",
        "status",
        "submit",
    ]


def test_import_starts_nothing() -> None:
    code = (
        "import sys, threading, ecc_snn; "
        "print(threading.active_count(), 'torch' in sys.modules, 'typer' in sys.modules, ecc_snn.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"1 False False {ecc_snn.__version__}\n"


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
        (np.zeros((16, 16), np.float32), "frames are uint8 arrays, this one is float32; convert it before classifying"),
        (np.zeros((16,), np.uint8), r"a frame has shape (H, W), (H, W, C) or (T, H, W, C), this one (16,)"),
        (np.zeros((16, 16, 2), np.uint8), "this network takes 1 channels, the frame has 2"),
        ([[0]], "frames are uint8 arrays, this one is list; convert it before classifying"),
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


class HandClock:
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
    monkeypatch.setattr("ecc_snn.edge.time", HandClock())
    with Edge(models.edge, state=tmp_path / "state", deadline_ms=250) as edge:
        assert edge._device is not None
        monkeypatch.setattr(edge._device.runtime, "classify", lambda _, deadline_s: given.append(deadline_s))
        edge.classify(frames(1)[0])
        edge.submit(frames(1)[0])
        edge.classify(frames(1)[0], deadline_ms=0)
    assert sorted(given) == [0.0, 0.25, 0.25]


def test_time_spent_behind_other_threads_counts_against_the_deadline(
    tmp_path: Path, models: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, given = HandClock(), []
    inside, go_on = threading.Event(), threading.Event()

    def slow(frame: Frame, deadline_s: float) -> None:
        given.append(deadline_s)
        inside.set()
        assert go_on.wait(PATIENCE_S)

    with Edge(models.edge, state=tmp_path / "state") as edge, ThreadPoolExecutor(3) as pool:
        assert edge._device is not None
        monkeypatch.setattr(edge._device.runtime, "classify", slow)
        monkeypatch.setattr("ecc_snn.edge.time", clock)
        first = pool.submit(edge.classify, frames(1)[0], 500)
        assert inside.wait(PATIENCE_S)
        others = [pool.submit(edge.classify, frames(1)[0], deadline_ms) for deadline_ms in (200, 600)]
        for _ in range(4):  # twice by the first frame, once by each of the others, which then wait
            assert clock.read.acquire(timeout=PATIENCE_S)
        clock.now_s = 0.4
        go_on.set()
        for future in (first, *others):
            future.result(PATIENCE_S)
    assert given[0] == 0.5
    assert sorted(given[1:]) == [0.0, pytest.approx(0.2)]


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
        assert edge.status()["submit"] == COUNTS | {"frames": 3}
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
        assert edge.status()["submit"] == COUNTS | {"frames": 5, "replaced": 3}
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
        assert edge.status()["submit"] == COUNTS | {"frames": 3, "callback_errors": 3}
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
    assert edge._submissions.counts() == COUNTS | {"frames": 1, "failed": 1}
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

    def classify(frame: Frame) -> Result:
        taken.release()
        raise errors[frame.index]

    submissions = Submissions(classify)
    submissions.start()
    for index in range(3):
        submissions.submit(Frame(index, 0.0, np.zeros((1, 1, 1), np.uint8), None))
        assert taken.acquire(timeout=PATIENCE_S)
    submissions.close()
    assert submissions.counts() == COUNTS | {"frames": 3, "failed": 3}
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
    submissions, gate, inbox = Submissions(lambda _: result), Gate(), Inbox()
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
        assert (status["update"]["running"], status["model_no"]) == (False, 2)
        assert status["labels"] == list(DIGITS)
        assert edge.classify(frames(1)[0]).model_no == 2


def test_the_commands_reach_an_edge_through_its_state_folder(tmp_path: Path, models: TinyModels) -> None:
    with Edge(models.edge, state=tmp_path / "state", device="robot-7") as edge:
        edge.classify(frames(1)[0])
        status = control.ask(tmp_path / "state", "status")
        assert status | {"submit": COUNTS} == edge.status()
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
    submit = edge.status()["submit"]
    assert submit == COUNTS | {"frames": 40, "replaced": submit["replaced"]}
    answered = {result.frame for results in got for result in results}
    submitted = {result.frame for result in inbox.results}
    assert len(submitted) == 40 - submit["replaced"]
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
    close, classify = device.close, device.runtime.classify

    def slow(frame: Frame, deadline_s: float) -> Result:
        inside.set()
        assert go_on.wait(PATIENCE_S)
        return classify(frame, deadline_s)

    monkeypatch.setattr(device.runtime, "classify", slow)
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
