"""The shadow run: what it counts, what it decides, and how it goes on after the device has ended."""

import shutil

import pytest

from ecc_device.clock import VirtualClock
from ecc_device.device import Device, DeviceConfig
from ecc_device.frame import Frame
from ecc_device.learning.manager import UpdateManager
from ecc_device.learning.shadow import MAX_STARTS, ShadowRun, chance
from ecc_device.models import open_active, rollback
from ecc_device.results import Answer
from ecc_device.store import Store
from ecc_model import bits
from support.models import DIGITS, class_rows, write_tiny_models
from support.rows import fill_answered

OLD, NEW = ("a", "b"), ("a", "b", "c")
GATE = {"clear_entropy": 0.2, "clear_rows": 100, "clear_changed": 1}


def answer(label, labels, entropy=0.1):
    return Answer(label, (1.0,), labels, entropy)


def run(*answers, gate=GATE):
    """A whole shadow run of (old label, candidate's label, the old one's entropy, how often)."""
    found = ShadowRun(sum(times for *_, times in answers), gate)
    wanted = [
        found.see(answer(old, OLD, entropy), answer(new, NEW))
        for old, new, entropy, times in answers
        for _ in range(times)
    ]
    assert wanted == [True] * (len(wanted) - 1) + [False]
    return found.verdict()


def test_a_candidate_that_agrees_takes_over():
    accepted, reason, figures = run(("a", "a", 0.1, 39), ("a", "b", 0.1, 1), ("a", "b", 0.3, 60))
    assert accepted
    assert reason == "shadow run: 1 of 40 clear answers changed in 100 frames (the gate: 1 of 100)"
    assert figures == {"shadow_frames": 100, "shadow_clear": 40, "shadow_changed": 1, "shadow_new": 0}


def test_a_candidate_that_changes_clear_answers_is_dropped():
    accepted, reason, _ = run(("a", "a", 0.1, 36), ("a", "b", 0.1, 4))
    assert not accepted
    assert reason == "shadow run: 4 of 40 clear answers changed in 40 frames, the gate measured 1 of 100"


def test_what_chance_explains_or_the_budget_covers_is_no_reason():
    assert run(("a", "a", 0.1, 18), ("a", "b", 0.1, 1))[0]  # 5 %, and one row
    gate = GATE | {"clear_rows": 4000, "clear_changed": 4}
    assert run(("a", "a", 0.1, 975), ("a", "b", 0.1, 25), gate=gate)[0]  # certain, and 2.4 points
    assert not run(("a", "a", 0.1, 960), ("a", "b", 0.1, 40), gate=gate)[0]


def test_frames_that_are_taken_for_a_new_class_are_no_change():
    accepted, _, figures = run(("a", "c", 0.1, 10), ("a", "a", 0.1, 20), ("a", "c", 0.3, 70))
    assert accepted
    assert (figures["shadow_clear"], figures["shadow_new"]) == (20, 10)


def test_a_candidate_that_takes_more_than_a_third_of_clear_answers_for_new_classes_is_dropped():
    accepted, reason, figures = run(("a", "c", 0.1, 11), ("a", "a", 0.1, 20))
    assert not accepted
    assert reason == "shadow run: 11 of 31 clear answers were taken for new classes"
    assert (figures["shadow_clear"], figures["shadow_new"]) == (20, 11)
    assert run(("a", "c", 0.1, 4), ("a", "a", 0.3, 20))[0]  # 4 of 4, by chance perhaps
    assert not run(("a", "c", 0.1, 5), ("a", "a", 0.3, 20))[0]


def test_chance_is_fishers():
    assert chance(3, 4, 1, 4) == pytest.approx(17 / 70)  # the lady tasting tea
    assert chance(0, 7, 3, 9) == 1.0
    assert chance(0, 0, 0, 0) == 1.0


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_tiny_models(tmp_path_factory.mktemp("models"), learnable=True)


@pytest.fixture(scope="module")
def judged(models, tmp_path_factory):
    """A state folder in which the gate has accepted a candidate whose shadow run has not begun."""
    folder = tmp_path_factory.mktemp("judged") / "state"
    with Store.open(folder) as store:
        open_active(models.edge, store, folder, 0.0)
        fill_answered(store, models.program)
        manager = make(store, folder, [], lambda *_: None)
        manager.handle("charging")
        decision = manager.wait(200)
        assert (decision.accepted, decision.no, decision.shadow) == (True, 2, 3), decision.reason
        manager.close()
    return folder


@pytest.fixture
def state(judged, tmp_path):
    return shutil.copytree(judged, tmp_path / "state", ignore=shutil.ignore_patterns("lock", "*.sock"))


def make(store, folder, swaps, shadow, frames=3):
    swap = lambda model, no: swaps.append((model.labels, no))  # noqa: E731
    return UpdateManager(store, folder, VirtualClock(), swap, shadow=shadow, shadow_frames=frames, learner="analytic")


def begun(store, folder):
    """A manager after a start, what it swapped, and the listener of its shadow run."""
    swaps, listeners = [], []
    manager = make(store, folder, swaps, lambda model, no, listener: listeners.append((no, listener)))
    manager.open()
    return manager, swaps, listeners


def test_until_the_last_frame_the_old_model_answers_and_the_rows_wait(state):
    with Store.open(state) as store:
        manager, swaps, [(no, listener)] = begun(store, state)
        told = []
        manager.on_decision(lambda accepted, reason: told.append((accepted, reason)))
        assert no == 2
        for seen in range(2):
            assert manager.status()["shadow"] == {"no": 2, "seen": seen, "frames": 3}
            assert listener(answer("0", DIGITS[:6], 0.0), answer("0", DIGITS))
        assert (swaps, store.active_version().no, store.summary().rows["learnt"]) == ([], 1, 0)
        assert not listener(answer("0", DIGITS[:6], 0.0), answer("0", DIGITS))
        assert (swaps, store.active_version().no, store.summary().rows["learnt"]) == ([(DIGITS, 2)], 2, 144)
        assert manager.status()["shadow"] is None
        [(accepted, reason)] = told
        assert accepted
        assert "; shadow run: 0 of 3 clear answers changed in 3 frames (the gate: " in reason
        figures = store.active_version().figures
        assert (figures["shadow_frames"], figures["reason"], "row_ids" in figures) == (3, reason, False)
        assert manager.wait().figures == figures
        assert not listener(answer("0", DIGITS[:6], 0.0), answer("0", DIGITS))  # a frame that was under way


def test_a_candidate_that_contradicts_is_dropped_and_its_rows_are_not_tried_again(state):
    with Store.open(state) as store:
        manager, swaps, [(_, listener)] = begun(store, state)
        for _ in range(3):
            listener(answer("0", DIGITS[:6], 0.0), answer("1", DIGITS))
        reason = manager.wait().reason
        assert reason.startswith("shadow run: 3 of 3 clear answers changed in 3 frames, the gate measured ")
        assert (swaps, store.active_version().no) == ([], 1)
        assert store.summary().rows["labelled"] == 144
        dropped = store.versions()[1]
        assert (dropped.state, dropped.figures["reason"]) == ("rejected", reason)
        assert len(list((state / "models").iterdir())) == 1
        manager.handle("charging")
        assert manager.wait(60).reason == "these rows were turned down before (version 2); waiting for new answers"


def test_the_next_update_waits_for_the_end_of_the_shadow_run(state):
    with Store.open(state) as store:
        manager, _, listeners = begun(store, state)
        manager.handle("charging")
        assert manager.wait(60).reason == "a candidate is in its shadow run; the next update starts after it"
        assert len(listeners) == 1


def test_a_shadow_run_that_was_cut_off_begins_again(state):
    for _ in range(2):
        with Store.open(state) as store:
            manager, _, [(no, listener)] = begun(store, state)
            assert listener(answer("0", DIGITS[:6], 0.0), answer("1", DIGITS))
            assert manager.status()["shadow"] == {"no": 2, "seen": 1, "frames": 3}
            manager.close()
            assert not listener(answer("0", DIGITS[:6], 0.0), answer("1", DIGITS))
            assert (no, store.versions()[1].state, store.versions()[1].figures.get("shadow_starts")) == (
                *(2, "candidate"),
                None,
            )


def test_a_candidate_with_which_the_device_dies_every_time_is_dropped(state):
    for started in range(MAX_STARTS + 1):
        with Store.open(state) as store:
            _, _, listeners = begun(store, state)
            assert len(listeners) == (started < MAX_STARTS)
    with Store.open(state) as store:
        dropped = store.versions()[1]
        assert (dropped.state, dropped.figures["reason"]) == (
            "rejected",
            "the device died 5 times during its shadow run",
        )


def test_a_candidate_whose_file_is_damaged_keeps_no_device_from_starting(state):
    with Store.open(state) as store:
        (state / "models" / store.versions()[1].file).write_bytes(b"PK")
        _, _, listeners = begun(store, state)
        assert listeners == []
        assert (
            store.versions()[1]
            .figures["reason"]
            .endswith("damaged or gone since it was kept; go back with: ecc-device rollback")
        )


def test_rollback_drops_a_candidate_in_its_shadow_run(state):
    with Store.open(state) as store:
        manager, swaps, [(_, listener)] = begun(store, state)
        manager.drop_shadow()
        assert rollback(store, state)[1] == 1
        assert not listener(answer("0", DIGITS[:6], 0.0), answer("0", DIGITS))
        assert (swaps, store.active_version().no) == ([], 1)
        assert store.versions()[1].figures["reason"] == "rolled back during its shadow run"


def test_a_shadow_run_that_is_switched_off_meanwhile_ends_at_once(state):
    with Store.open(state) as store:
        swaps = []
        make(store, state, swaps, None, frames=0).open()
        assert (swaps, store.active_version().no, store.summary().rows["learnt"]) == ([(DIGITS, 2)], 2, 144)


def known_frames(models, count):
    labels = [index % 6 for index in range(count)]
    rows = [bits.unpack(row, models.program.split_shape) for row in class_rows(models.program, labels, seed=11)]
    shape = models.program.input
    pixels = bytes(shape.height * shape.width * shape.channels)
    for index, spikes in enumerate(rows):
        yield Frame(index, float(index), spikes_frame(pixels, shape), None, spikes=spikes)


def spikes_frame(pixels, shape):
    import numpy as np

    return np.frombuffer(pixels, np.uint8).reshape(shape.height, shape.width, shape.channels)


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_device_swaps_after_exactly_as_many_frames_each_time(state, models, restarts):
    config = DeviceConfig(model=models.edge, state=state, shadow=8)
    for _ in range(restarts):
        with Device(config, clock=VirtualClock()) as device:
            for frame in known_frames(models, 5):
                assert device.runtime.classify(frame).model_no == 1
            assert device.status()["update"]["shadow"] == {"no": 2, "seen": 5, "frames": 8}
    with Device(config, clock=VirtualClock()) as device:
        results = [device.runtime.classify(frame) for frame in known_frames(models, 12)]
        assert [result.model_no for result in results] == [1] * 8 + [2] * 4
        assert results[-1].edge.labels == DIGITS
        assert device.store.active_version().figures["shadow_frames"] == 8
        assert device.rollback()[1] == 1
        assert device.store.versions()[1].state == "rolled-back"
