"""Updates that end at any moment: undocked, killed, without room on the disk. No row is lost, no model broken."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ecc_device.clock import VirtualClock
from ecc_device.learning.manager import UpdateManager
from ecc_device.models import load_version, open_active
from ecc_device.store import Store
from support.models import DIGITS, write_tiny_models
from support.rows import fill_answered

CHILD = Path(__file__).with_name("update_child.py")
ROWS = 144
PATIENCE_S = 240
KINDS = ("undocked", "killed", "learner killed", "disk full")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_tiny_models(tmp_path_factory.mktemp("models"), learnable=True)


@pytest.fixture(scope="module")
def answered(models, tmp_path_factory):
    """A state folder with answered rows and the factory model."""
    folder = tmp_path_factory.mktemp("answered") / "state"
    with Store.open(folder) as store:
        open_active(models.edge, store, folder, 0.0)
        fill_answered(store, models.program)
    return folder


def fresh(answered, folder):
    return Path(shutil.copytree(answered, folder, ignore=shutil.ignore_patterns("lock")))


def manage(store, folder, learner="lwf", **options):
    swap = lambda model, no: None  # noqa: E731
    return UpdateManager(store, folder, VirtualClock(), swap, shadow=None, shadow_frames=0, learner=learner, **options)


def finished(store, folder, learner="lwf"):
    """The version that an update ends with."""
    manager = manage(store, folder, learner)
    manager.handle("charging")
    decision = manager.wait(PATIENCE_S)
    assert decision.accepted, decision.reason
    return store.active_version()


def until_progress(manager, percent):
    """Wait for a learner to come so far."""
    for _ in range(PATIENCE_S * 100):
        if (manager.status()["progress_percent"] or 0) >= percent:
            return
        threading.Event().wait(0.01)
    raise AssertionError("the learner made no progress")


def test_an_update_that_was_undocked_goes_on_and_ends_with_the_same_bits(models, answered, tmp_path):
    with Store.open(fresh(answered, tmp_path / "whole")) as store:
        whole = finished(store, tmp_path / "whole")
    folder = fresh(answered, tmp_path / "state")
    with Store.open(folder) as store:
        manager = manage(store, folder)
        manager.handle("charging")
        until_progress(manager, 10)
        manager.handle("undocked")
        assert manager.wait(PATIENCE_S).reason == "stopped: undocked; the next update goes on from here"
        assert (folder / "update" / "checkpoint").exists()
        assert (store.active_version().no, store.summary().rows["labelled"]) == (1, ROWS)
        fill_answered(store, models.program, [6] * 5)  # answers that came meanwhile are for the update after
    with Store.open(folder) as store:  # the device, too, was switched off
        later = finished(store, folder)
        assert store.summary().rows == {"waiting": 0, "labelled": 5, "learnt": ROWS}
        assert not (folder / "update").exists()
    assert later.sha256 == whole.sha256
    assert later.figures == whole.figures


def test_a_job_of_a_model_that_is_not_active_any_more_is_not_gone_on_with(answered, tmp_path):
    folder = fresh(answered, tmp_path / "state")
    with Store.open(folder) as store:
        manager = manage(store, folder, "analytic")
        manager.handle("charging")
        manager.handle("undocked")
        manager.wait(PATIENCE_S)
        job = folder / "update" / "job.json"
        told = json.loads(job.read_bytes())
        assert told["row_ids"] == list(range(1, ROWS + 1))
        job.write_text(json.dumps(told | {"model": "another.pt", "row_ids": told["row_ids"][:30]}))
        assert finished(store, folder, "analytic").figures["rows"] == ROWS


def test_a_learner_that_does_not_listen_is_killed(answered, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, signal, time\n"
        "if 'ecc_device.learning.child' in ' '.join(sys.orig_argv):\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    print(7, flush=True)\n"
        "    time.sleep(3600)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    folder = fresh(answered, tmp_path / "state")
    with Store.open(folder) as store:
        manager = manage(store, folder)
        manager.handle("charging")
        until_progress(manager, 7)
        manager.handle("undocked")
        assert manager.wait(PATIENCE_S).reason == "stopped: undocked; the next update goes on from here"


def test_an_update_over_its_time_is_given_up(answered, tmp_path):
    folder = fresh(answered, tmp_path / "state")
    with Store.open(folder) as store:
        manager = manage(store, folder, budget_s=0.0)
        manager.handle("charging")
        assert manager.wait(PATIENCE_S).reason == "stopped: longer than 0 s; the rows stay for the next update"
        assert not (folder / "update").exists()


def interrupt(kind, folder, models, learner, moment, rng):
    """Start an update in a process and let `kind` happen to it after `moment` seconds; what it said, if it ended."""
    limit = [str(rng.choice([10_000, 60_000, 200_000, 400_000]))] if kind == "disk full" else []
    command = [sys.executable, str(CHILD), str(folder), str(models.edge), learner, *limit]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(PATIENCE_S, process.kill)
        killer.start()
        assert process.stdout.readline() == "learning\n", process.stderr.read()
        timer = threading.Timer(moment, strike, [kind, process])
        if kind != "disk full":
            timer.start()
        said, complaints = process.communicate()
        timer.cancel()
        killer.cancel()
    assert "Traceback" not in complaints, complaints
    return json.loads(said) if said else None


def strike(kind, process):
    """Undock the device, kill it, or kill its learner alone."""
    victims = [process.pid]
    if kind == "learner killed":
        children = Path(f"/proc/{process.pid}/task").glob("*/children")
        try:
            victims = [int(pid) for path in children for pid in path.read_text().split()]
        except OSError:  # it has ended
            return
    for pid in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1 if kind == "undocked" else signal.SIGKILL)


def check(folder, models):
    """Everything that has to hold whenever the device starts again; whether the rows are learnt."""
    with Store.open(folder) as store:
        assert store.quarantined is None
        model, no = open_active(models.edge, store, folder, 0.0)
        rows = store.summary().rows
        assert rows["labelled"] + rows["learnt"] == ROWS
        assert (rows["learnt"] == ROWS, rows["labelled"] == ROWS) == (no != 1, no == 1)
        assert model.labels == (DIGITS[:6] if no == 1 else DIGITS)
        assert load_version(store.active_version(), folder).sha256 == model.sha256
        return no != 1


def interruptions(count, folder, answered, models, learners, seed):
    """So many interruptions at random moments; how many updates ended in spite of them."""
    rng, ended, longest = random.Random(seed), 0, 1.0
    state = fresh(answered, folder / "0")
    for index in range(count):
        kind, learner = KINDS[index % len(KINDS)], learners[index // len(KINDS) % len(learners)]
        began = time.monotonic()
        said = interrupt(kind, state, models, learner, rng.uniform(0.0, longest), rng)
        if said is not None and said["accepted"]:
            longest = time.monotonic() - began  # the next moments fall anywhere in an update
        if check(state, models):
            ended += 1
            state = fresh(answered, folder / str(index + 1))
    with Store.open(state) as store:
        finished(store, state, learners[0])
    assert check(state, models)
    return ended


def test_interruptions_at_random_moments_lose_no_row_and_break_no_model(models, answered, tmp_path):
    interruptions(24, tmp_path, answered, models, ["analytic"], seed=0)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_very_many_interruptions_lose_no_row_and_break_no_model(models, answered, tmp_path):
    count, seed = int(os.environ.get("ECC_INTERRUPTIONS", "1000")), int(os.environ.get("ECC_SEED", "1"))
    ended = interruptions(count, tmp_path, answered, models, ["analytic", "lwf"], seed)
    print(f"{count} interruptions, {ended} updates ended in spite of them")
