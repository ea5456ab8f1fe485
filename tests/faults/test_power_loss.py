"""SIGKILL of a whole device, at any write and in the middle of an update: cases 34 and 41 of the catalogue."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from commands import Robot, assert_invariants, eventually

from ecc_device.models import open_active
from ecc_device.store import Store
from ecc_model.modelfile import labels_id
from support.brokers import BrokerProcess
from support.models import DIGITS, TinyModels, class_rows
from support.processes import run
from support.workers import ScriptedWorker, logits

UPLOADS = [6, 7, 8, 9] * 30 + [0, 1, 2, 3, 4, 5] * 4
FRAMES = 12


@pytest.fixture(scope="module")
def strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: a system call cannot be made to kill")
    if subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here: a system call cannot be made to kill")


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("syscall", ["pwrite64", "fdatasync"])
def test_a_device_killed_at_a_write_starts_again_with_all_it_printed(
    mosquitto: BrokerProcess,
    recording: Callable[..., Path],
    robot: Robot,
    worker: Callable[[], ScriptedWorker],
    syscall: str,
) -> None:
    """One life after the other on the same folder, each killed at a later call, until one gets through."""
    worker()
    nth, kills, code = 1, 0, -signal.SIGKILL
    while code != 0:
        inject = ["-e", f"trace={syscall}", "-e", f"inject={syscall}:signal=SIGKILL:when={nth}"]
        wrap = ["strace", "-f", "-qq", "-o", os.devnull, *inject]
        source = recording(FRAMES, 50.0, stays=False)
        code = robot.start(source, "--broker", mosquitto.url, wrap=wrap).end(None)
        assert code in (0, -signal.SIGKILL), robot.run.errors
        kills += code != 0
        if robot.results:
            assert_invariants(robot, {}, kills=kills)
        nth = nth + 1 if nth < 3 else 2 * nth + 1
    assert kills >= 2
    robot.start(recording(1), "--broker", mosquitto.url)
    eventually(lambda: robot.run.output and not robot.rows("waiting"), "an answer to every row")
    assert robot.run.end() == 0
    assert_invariants(robot, {}, kills=kills)
    assert len(robot.rows("labelled")) == len(robot.rows()) >= len(robot.results)


@pytest.fixture
def pupil(models: TinyModels, robot: Robot) -> Robot:
    """A device whose buffer holds what an update needs."""
    features = bytes.fromhex(models.program.features_id)
    with Store.open(robot.state) as store:
        open_active(robot.model, store, robot.state, 0.0)
        store.put_labels(labels_id(DIGITS), DIGITS)
        for row, label in zip(class_rows(models.program, UPLOADS, seed=3), UPLOADS, strict=True):
            store.answer(store.add(0.0, features, row, "0"), logits(label), labels_id(DIGITS), 1.0)
    return robot


def test_a_device_killed_in_an_update_starts_again_with_the_old_model_and_all_rows(
    pupil: Robot, recording: Callable[..., Path]
) -> None:
    pupil.start(recording(1))
    rows = pupil.rows()
    told = run("ecc-device", "notify", "charging", "--state", pupil.state)
    assert (told.returncode, told.stdout, told.stderr) == (0, "told device: charging\n", "")
    (learner,) = eventually(lambda: psutil.Process(pupil.run.popen.pid).children(), "the learner")
    eventually(lambda: pupil.status()["update"]["progress_percent"], "some progress")
    learner.suspend()  # it cannot end by itself now, only with its parent
    try:
        assert pupil.run.end(signal.SIGKILL) == -signal.SIGKILL
        assert psutil.wait_procs([learner], timeout=10)[1] == []
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            learner.kill()

    pupil.start(recording(1))
    pupil.run.wait_output(1)
    assert pupil.results[-1]["model_no"] == 1
    status = pupil.status()
    assert (status["model_no"], status["labels"]) == (1, list(DIGITS[:6]))
    assert status["update"] == {"running": False, "progress_percent": None, "last": None, "shadow": None}
    assert rows.items() <= pupil.rows().items()
    assert pupil.run.end() == 0
    with Store.open(pupil.state, read_only=True) as store:
        assert [(version.no, version.state) for version in store.versions()] == [(1, "active")]
    assert_invariants(pupil, {"offline: no broker given; working alone": 2}, kills=1, earlier=len(UPLOADS))
