"""Models: candidate, trial, active, previous, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ecc_device.store import Store
from ecc_device.versions import Version
from ecc_model.errors import DeviceError

FEATURES = bytes(range(32))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        yield opened


def candidate(store: Store, parent: int | None = None) -> int:
    return store.add_version(
        file="models/2.pt", sha256="a" * 64, features_id=FEATURES, parent=parent, figures={"lost": 0.5}, time_s=7.0
    )


def activate(store: Store, parent: int | None = None) -> int:
    no = candidate(store, parent)
    store.begin_trial(no)
    store.confirm(no, [])
    return no


def states(store: Store) -> list[str]:
    return [version.state for version in store.versions()]


def active_no(store: Store) -> int | None:
    active = store.active_version()
    return None if active is None else active.no


def test_a_new_device_has_no_model(store: Store) -> None:
    assert store.active_version() is None
    assert store.trial_version() is None
    assert store.versions() == []


def test_a_candidate_is_recorded_and_not_active(store: Store) -> None:
    assert candidate(store) == 1
    assert store.versions() == [Version(1, "models/2.pt", "a" * 64, FEATURES, None, "candidate", 7.0, {"lost": 0.5})]
    assert active_no(store) is None


def test_the_old_model_stays_active_during_a_trial(store: Store) -> None:
    old = activate(store)
    new = candidate(store, parent=old)
    store.begin_trial(new)
    trial = store.trial_version()
    assert trial is not None
    assert (trial.no, trial.parent, active_no(store)) == (new, old, old)


def test_confirming_swaps_models_and_marks_rows_in_one_step(store: Store) -> None:
    answered, waiting = (store.add(float(k), FEATURES, b"x", "a") for k in range(2))
    store.answer(answered, bytes(8), b"abcd", 2.0)
    old = activate(store)
    new = candidate(store, parent=old)
    store.begin_trial(new)
    store.confirm(new, [answered, waiting, 999])
    assert states(store) == ["previous", "active"]
    assert store.trial_version() is None
    rows = [store.row(row_id) for row_id in (answered, waiting)]
    assert [(row.state, row.version_no) for row in rows if row] == [("learnt", new), ("waiting", None)]


def test_rows_know_the_latest_candidate_that_was_made_from_them(store: Store) -> None:
    ids = [store.add(float(k), FEATURES, b"x", "a") for k in range(3)]
    for row_id in ids:
        store.answer(row_id, bytes(8), b"abcd", 2.0)

    def made(row_ids: list[int]) -> int:
        return store.add_version(
            file="a", sha256="", features_id=FEATURES, parent=None, figures={}, time_s=0.0, row_ids=row_ids
        )

    first, second = made(ids[:2]), made(ids[1:])
    assert (store.unlearnt_rows(first), store.unlearnt_rows(second)) == ({1}, {2, 3})
    store.begin_trial(second)
    store.confirm(second, [2])
    assert (store.unlearnt_rows(first), store.unlearnt_rows(second)) == ({1}, {3})


def test_a_failed_confirm_changes_nothing(store: Store) -> None:
    row_id = store.add(0.0, FEATURES, b"x", "a")
    store.answer(row_id, bytes(8), b"abcd", 2.0)
    old = activate(store)
    new = candidate(store, parent=old)
    store.begin_trial(new)

    def ids() -> Iterator[int]:
        yield row_id
        raise RuntimeError("the learner's list broke off")

    with pytest.raises(RuntimeError, match="broke off"):
        store.confirm(new, ids())
    assert states(store) == ["active", "trial"]
    row = store.row(row_id)
    assert row is not None
    assert row.state == "labelled"


def test_a_rejected_candidate_keeps_its_figures(store: Store) -> None:
    old = activate(store)
    for on_trial in (False, True):
        no = candidate(store, parent=old)
        if on_trial:
            store.begin_trial(no)
        store.reject(no, {"lost": 9.5})
        assert store.versions()[-1].state == "rejected"
        assert store.versions()[-1].figures == {"lost": 9.5}
    assert active_no(store) == old


def test_rollback_goes_back_one_model_at_a_time(store: Store) -> None:
    for parent in (None, 1, 2):
        activate(store, parent)
    store.rollback(2)
    assert states(store) == ["previous", "active", "rolled-back"]
    store.rollback(1)
    assert states(store) == ["active", "rolled-back", "rolled-back"]


@pytest.mark.parametrize("how", [Store.rollback, Store.resume])
def test_only_what_was_active_before_becomes_active_again(store: Store, how: Callable[[Store, int], None]) -> None:
    activate(store)
    activate(store, 1)
    candidate(store, 2)
    store.reject(candidate(store, 2), {})
    for no, state in ((2, "active"), (3, "candidate"), (4, "rejected")):
        with pytest.raises(DeviceError, match=rf"^model {no} is {state}, not previous; "):
            how(store, no)
    with pytest.raises(DeviceError, match=r"^there is no model 9; "):
        how(store, 9)
    assert states(store) == ["previous", "active", "candidate", "rejected"]


def test_a_model_that_is_resumed_leaves_the_other_to_be_resumed(store: Store) -> None:
    activate(store)
    activate(store)
    store.resume(1)
    assert states(store) == ["active", "previous"]
    store.resume(2)
    assert states(store) == ["previous", "active"]


def test_rollback_after_a_new_update_goes_to_its_parent(store: Store) -> None:
    activate(store)
    activate(store, 1)
    store.rollback(1)
    activate(store, 1)
    assert states(store) == ["previous", "rolled-back", "active"]
    store.rollback(1)
    assert states(store) == ["active", "rolled-back", "rolled-back"]


def test_a_trial_is_found_at_the_next_start(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        old = activate(store)
        new = candidate(store, parent=old)
        store.begin_trial(new)
    with Store.open(tmp_path) as store:
        trial = store.trial_version()
        assert trial is not None
        assert (trial.no, active_no(store)) == (new, old)


def test_steps_out_of_order_are_refused(store: Store) -> None:
    no = candidate(store)
    with pytest.raises(DeviceError, match=r"^model 1 is candidate, not trial; `ecc-device status` lists them$"):
        store.confirm(no, [])
    with pytest.raises(DeviceError, match=r"^there is no model 5; `ecc-device status` lists them$"):
        store.begin_trial(5)
    store.begin_trial(no)
    second = candidate(store)
    with pytest.raises(DeviceError, match=r"^model 1 is still on trial; confirm or reject it first$"):
        store.begin_trial(second)
    store.confirm(no, [])
    with pytest.raises(DeviceError, match=r"^model 1 is active, not candidate or trial; "):
        store.reject(no, {})


def test_a_model_learnt_from_one_that_was_rolled_back_is_not_confirmed(store: Store) -> None:
    first = activate(store)
    second = activate(store, parent=first)
    new = candidate(store, parent=second)
    store.begin_trial(new)
    store.rollback(first)
    with pytest.raises(DeviceError, match=r"^model 2 is rolled-back, not active; `ecc-device status` lists them$"):
        store.confirm(new)
    assert states(store) == ["active", "rolled-back", "trial"]
