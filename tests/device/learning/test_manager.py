import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ecc_device.clock import VirtualClock
from ecc_device.learning.manager import UpdateManager
from ecc_device.learning.recipes import DEFAULT
from ecc_device.models import open_active, rollback
from ecc_device.store import Store
from ecc_model.errors import DeviceError, ModelError, StoreError, StoreFull
from ecc_model.modelfile import labels_id
from support.models import DIGITS, class_rows, write_tiny_models
from support.rows import UPLOADS, fill_answered

FAULTS = Path(__file__).parents[3] / "docs" / "faults.md"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_tiny_models(tmp_path_factory.mktemp("models"), learnable=True)


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Model files as they were before there were statistics in them."""
    return write_tiny_models(tmp_path_factory.mktemp("bare"), learnable=True, statistics=False)


def no_shadow(*_):
    raise AssertionError("the shadow run is switched off")


@contextlib.contextmanager
def running(models, folder, learner):
    """A store with the factory model active and 144 answered rows, and where swaps are noted."""
    with Store.open(folder) as store:
        open_active(models.edge, store, folder, 0.0)
        fill_answered(store, models.program)
        swaps = []
        manager = UpdateManager(
            store,
            folder,
            VirtualClock(),
            lambda model, no: swaps.append((model.labels, no)),
            shadow=no_shadow,
            shadow_frames=0,
            learner=learner,
        )
        yield store, manager, swaps, folder
        manager.close()


@pytest.fixture
def device(tmp_path, models):
    """With the learner that is fastest."""
    with running(models, tmp_path / "state", "analytic") as found:
        yield found


def test_charging_makes_a_new_model_from_what_the_cloud_answered(device, models):
    store, manager, swaps, folder = device
    manager.handle("charging")
    decision = manager.wait(120)
    assert decision.accepted, decision.reason
    assert decision.no == 2
    assert decision.figures["new_classes"] == ["6", "7", "8", "9"]
    assert decision.figures["rows"] == 144
    assert swaps == [(DIGITS, 2)]
    assert store.summary().rows == {"waiting": 0, "labelled": 0, "learnt": 144}
    active = store.active_version()
    assert (active.no, active.parent, active.figures["reason"]) == (2, 1, decision.reason)
    model, no = open_active(models.edge, store, folder, 0.0)
    assert (model.labels, no) == (DIGITS, 2)
    assert model.program.features_id == models.program.features_id
    assert not (folder / "update").exists()

    manager.handle("charging")
    again = manager.wait(60)
    assert again.reason == "0 labelled rows to learn from; an update needs 20"

    model, no = rollback(store, folder)
    assert (model.labels, no) == (DIGITS[:6], 1)
    with pytest.raises(DeviceError, match=r"^there is no earlier model to go back to$"):
        rollback(store, folder)


def test_undocking_stops_the_update_and_keeps_the_rows(device):
    store, manager, swaps, _ = device
    manager.handle("charging")
    manager.handle("undocked")
    decision = manager.wait(60)
    assert decision.reason == "stopped: undocked; the next update goes on from here"
    assert f"`{decision.reason}`" in FAULTS.read_text()
    assert swaps == []
    assert store.summary().rows["labelled"] == 144
    assert store.active_version().no == 1


@pytest.mark.parametrize(
    "failure", ["MemoryError", 'RuntimeError("DefaultCPUAllocator: can\'t allocate memory: 78643200 bytes")']
)
def test_a_learner_without_memory_leaves_everything_as_it_was(tmp_path, models, monkeypatch, failure):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "torch.py").write_text(f"raise {failure}")
    with running(models, tmp_path / "state", "lwf") as (store, manager, swaps, _):
        manager.handle("offline")
        decision = manager.wait(60)
        assert decision.reason == (
            "the learner failed (exit 1): the update needs more than 2048 MiB; learn from fewer rows"
        )
        assert swaps == []
        assert store.summary().rows["labelled"] == 144


def test_rows_that_were_turned_down_are_not_learnt_again(device):
    store, manager, _, _ = device
    ids = [row.id for row in store.labelled(store.active_version().features_id)]
    figures = {"last_row": ids[-1]}
    no = store.add_version(
        file="x.pt", sha256="0", features_id=bytes(32), parent=1, figures=figures, time_s=0.0, row_ids=ids
    )
    store.reject(no, figures)
    manager.handle("charging")
    assert manager.wait(60).reason == "these rows were turned down before (version 2); waiting for new answers"


def test_new_answers_to_older_rows_are_learnt_after_an_update_was_turned_down(tmp_path, models):
    folder, features = tmp_path / "state", bytes.fromhex(models.program.features_id)

    def answer(rows):
        for row_id, label in rows:
            logits = 6.0 * np.eye(10, dtype="<f4")[label]
            assert store.answer(row_id, logits.tobytes(), labels_id(DIGITS), 1.0) == "stored"

    with Store.open(folder) as store:
        open_active(models.edge, store, folder, 0.0)
        store.put_labels(labels_id(DIGITS), DIGITS)
        packed = class_rows(models.program, UPLOADS, seed=3)
        rows = [(store.add(0.0, features, bits, "0"), label) for bits, label in zip(packed, UPLOADS, strict=True)]
        answer(rows[-24:])
        manager = UpdateManager(
            store, folder, VirtualClock(), lambda *_: None, shadow=no_shadow, shadow_frames=0, learner="analytic"
        )
        said = []
        for _ in range(2):
            manager.handle("charging")
            said.append(manager.wait(100).reason)
        assert said[0].startswith("cannot tell: 216 judging rows")
        assert said[1] == "these rows were turned down before (version 2); waiting for new answers"
        answer(rows[:-24])
        manager.handle("charging")
        decision = manager.wait(100)
        assert decision.accepted, decision.reason
        assert decision.figures["rows"] == 144
        manager.close()


def test_rows_that_an_earlier_version_turned_down_are_tried_once_more(device):
    """Its store does not say which rows they were."""
    store, manager, _, _ = device
    figures = {"last_row": 144}
    no = store.add_version(file="x.pt", sha256="0", features_id=bytes(32), parent=1, figures=figures, time_s=0.0)
    store.reject(no, figures)
    manager.handle("charging")
    assert manager.wait(100).accepted


def test_a_model_on_trial_when_the_device_died_is_turned_down(device, models):
    store, _, _, folder = device
    store.add_version(
        file="x.pt", sha256="0", features_id=bytes(32), parent=1, figures={"rows": 7, "last_row": 9}, time_s=0.0
    )
    store.begin_trial(2)
    _, no = open_active(models.edge, store, folder, 0.0)
    assert no == 1
    figures = store.versions()[1].figures
    assert figures == {"rows": 7, "reason": "the device stopped before the model was confirmed"}


def test_an_altered_model_is_refused_by_name(device, models):
    store, _, _, folder = device
    file = folder / "models" / store.active_version().file
    other = write_tiny_models(folder, seed=5)
    file.write_bytes(other.edge.read_bytes())
    with pytest.raises(ModelError, match=r"altered since it was learnt; go back with: ecc-device rollback$"):
        open_active(models.edge, store, folder, 0.0)


def test_another_factory_model_replaces_what_was_learnt_from_the_first(device, models, tmp_path):
    store, _, _, folder = device
    (tmp_path / "other").mkdir()
    other = write_tiny_models(tmp_path / "other", seed=5)
    model, no = open_active(other.edge, store, folder, 0.0)
    assert (no, model.program.features_id) == (2, other.program.features_id)
    assert store.active_version().no == 2
    with pytest.raises(
        DeviceError, match=r"^model 1 came from another factory file; start the device with that --model$"
    ):
        rollback(store, folder)
    assert store.active_version().no == 2


KILLED = """
import sys, threading
from pathlib import Path
from ecc_device.clock import VirtualClock
from ecc_device.learning.manager import UpdateManager
from ecc_device.models import open_active
from ecc_device.store import Store
folder = Path(sys.argv[1])
store = Store.open(folder)
stage = sys.argv[3]
def say(*_):
    print("now", flush=True)
    threading.Event().wait()
swap = say if stage == "swap" else lambda *_: None
learner = "analytic" if stage == "swap" else "lwf"
manager = UpdateManager(store, folder, VirtualClock(), swap, shadow=None, shadow_frames=0, learner=learner)
model, no = open_active(Path(sys.argv[2]), store, folder, 0.0)
manager.handle("charging")
while stage == "learning" and not manager.status()["progress_percent"]:
    threading.Event().wait(0.01)
if stage == "learning":
    print("now", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("stage", ["learning", "swap"])
def test_sigkill_during_an_update_leaves_the_old_model_and_all_rows(tmp_path, models, stage):
    folder = tmp_path / "state"
    with Store.open(folder) as store:
        open_active(models.edge, store, folder, 0.0)
        fill_answered(store, models.program)
    command = [sys.executable, "-c", KILLED, str(folder), str(models.edge), stage]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(120, process.kill)
        killer.start()
        assert process.stdout.readline() == "now\n"
        killer.cancel()
        os.kill(process.pid, signal.SIGKILL)
    with Store.open(folder) as store:
        _, no = open_active(models.edge, store, folder, 0.0)
        assert no == 1
        assert store.summary().rows == {"waiting": 0, "labelled": 144, "learnt": 0}
        manager = UpdateManager(
            store, folder, VirtualClock(), lambda *_: None, shadow=no_shadow, shadow_frames=0, learner="analytic"
        )
        manager.handle("charging")
        assert manager.wait(120).accepted
        assert store.summary().rows["learnt"] == 144


def test_a_disk_that_fails_ends_the_update_with_a_reason(device):
    store, manager, swaps, folder = device
    (folder / "update").write_text("in the way")
    manager.handle("charging")
    decision = manager.wait(60)
    assert decision.reason == f"{folder / 'update'}: File exists; the rows stay for the next update"
    assert swaps == []
    assert store.summary().rows["labelled"] == 144


def test_a_model_that_cannot_be_confirmed_is_taken_back(device, monkeypatch):
    store, manager, swaps, _ = device

    def full(*_):
        raise StoreFull("the disk is full")

    monkeypatch.setattr(store, "confirm", full)
    manager.handle("charging")
    assert manager.wait(120).reason == "the disk is full"
    assert swaps == [(DIGITS, 2), (DIGITS[:6], 1)]
    assert store.summary().rows["labelled"] == 144
    monkeypatch.undo()
    manager.handle("charging")
    assert manager.wait(120).accepted
    assert [version.state for version in store.versions()] == ["previous", "rejected", "active"]
    assert store.versions()[1].figures["reason"] == "the model could not be confirmed"


def test_a_closed_manager_starts_nothing(device):
    _, manager, _, _ = device
    manager.close()
    manager.handle("charging")
    assert manager.status() == {"running": False, "progress_percent": None, "shadow": None, "last": None}


def test_a_rejected_candidate_leaves_no_file(device, monkeypatch):
    store, manager, _, folder = device
    strict = "import ecc_device.learning.gate as gate\ngate.MIN_JUDGE_ROWS = 10_000\n"
    (folder.parent / "sitecustomize.py").write_text(strict)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    manager.handle("charging")
    decision = manager.wait(120)
    assert (decision.accepted, decision.no) == (False, 2)
    assert decision.reason.startswith("cannot tell: 216 judging rows (of 10000)")
    assert [path.name for path in (folder / "models").iterdir()] == [store.active_version().file]


def test_a_damaged_earlier_model_is_not_gone_back_to(device):
    store, manager, _, folder = device
    factory = store.active_version()
    manager.handle("charging")
    assert manager.wait(120).accepted
    (folder / "models" / factory.file).unlink()
    with pytest.raises(ModelError, match=r"damaged or gone since it was kept; go back with: ecc-device rollback$"):
        rollback(store, folder)
    assert store.active_version().no == 2


def test_a_state_folder_without_room_for_a_model_is_named(tmp_path, models):
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "models").write_text("in the way")
    with Store.open(folder) as store, pytest.raises(StoreError, match=r"models: no model can be kept there"):
        open_active(models.edge, store, folder, 0.0)


@pytest.fixture
def no_torch(tmp_path, monkeypatch):
    """The child finds no torch."""
    missing = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
    (tmp_path / "torch.py").write_text(missing)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


NO_TORCH = (
    "the learner failed (exit 1): on-device learning needs the package 'torch'; "
    "install it with: pip install 'ecc-snn[learn]'"
)


@pytest.mark.parametrize("learner", ["lwf", "both"])
@pytest.mark.usefixtures("no_torch")
def test_without_torch_the_reason_is_the_command_that_installs_it(tmp_path, models, learner):
    with running(models, tmp_path / "state", learner) as (store, manager, _, _):
        manager.handle("charging")
        assert manager.wait(60).reason == NO_TORCH
        assert store.summary().rows["labelled"] == 144


@pytest.mark.usefixtures("no_torch")
def test_without_torch_a_device_learns_in_closed_form(tmp_path, models):
    with running(models, tmp_path / "state", DEFAULT) as (_, manager, swaps, _):
        manager.handle("charging")
        decision = manager.wait(60)
        assert decision.accepted, decision.reason
        assert [one["learner"] for one in decision.figures["candidates"]] == ["analytic"]
        assert swaps == [(DIGITS, 2)]


@pytest.mark.usefixtures("no_torch")
def test_without_torch_and_statistics_there_is_nothing_to_learn_with(tmp_path, bare):
    with running(bare, tmp_path / "state", DEFAULT) as (_, manager, _, _):
        manager.handle("charging")
        assert manager.wait(60).reason == NO_TORCH


def test_a_model_file_without_statistics_learns_by_gradients(tmp_path, bare):
    with running(bare, tmp_path / "state", DEFAULT) as (store, manager, swaps, folder):
        manager.handle("charging")
        decision = manager.wait(200)
        assert decision.accepted, decision.reason
        assert [one["learner"] for one in decision.figures["candidates"]] == ["lwf"]
        assert swaps == [(DIGITS, 2)]
        model, _ = open_active(bare.edge, store, folder, 0.0)
        assert (model.statistics, model.program.format) == (None, 4)
    with running(bare, tmp_path / "other", "analytic") as (_, manager, _, _):
        manager.handle("charging")
        assert manager.wait(60).reason == (
            "the learner failed (exit 1): the model file has no statistics to learn from in closed form; "
            "learn with: --learner lwf"
        )


def test_the_default_makes_three_candidates_and_takes_the_one_that_the_gate_prefers(tmp_path, models):
    with running(models, tmp_path / "state", DEFAULT) as (store, manager, _, folder):
        manager.handle("charging")
        decision = manager.wait(200)
        assert decision.accepted, decision.reason
        candidates = decision.figures["candidates"]
        assert [one["learner"] for one in candidates] == ["analytic", "lwf", "both"]
        ranks = [(one["held_agreement_after"], -one["known_loss_points"]) for one in candidates]
        assert decision.figures["learner"] == candidates[ranks.index(max(ranks))]["learner"]
        assert store.versions()[-1].figures["learner"] == decision.figures["learner"]
        model, _ = open_active(models.edge, store, folder, 0.0)
        assert model.manifest.provenance["learner"] == decision.figures["learner"]


def test_a_learner_whose_device_is_gone_does_nothing(tmp_path):
    command = [sys.executable, "-m", "ecc_device.learning.child", str(tmp_path), "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "process 1, which wanted this update, has ended\n")
    assert list(tmp_path.iterdir()) == []
