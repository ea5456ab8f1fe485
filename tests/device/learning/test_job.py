from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecc_device.learning.job import (
    MAX_ROWS,
    MIN_ROWS,
    Job,
    Outcome,
    assemble,
    held_out,
    read_job,
    read_outcome,
    write_job,
    write_outcome,
)
from ecc_device.store import Row
from ecc_model.errors import UpdateError

CLOUD = ("a", "b", "c", "d")
LATER = ("e", "d", "c", "b", "a")  # of the same cloud: one more, and in another order
OTHER = ("x", "a")  # of another worker
NAMES = {b"abcd": CLOUD, b"late": LATER, b"else": OTHER}


def row(row_id, label, labels_id=b"abcd"):
    names = NAMES.get(labels_id, CLOUD)
    logits = np.zeros(len(names), "<f4")
    logits[names.index(label)] = 5.0
    return Row(
        row_id, 0.0, bytes(32), bytes([row_id % 256] * 4), "a", "labelled", logits.tobytes(), labels_id, 1.0, 1, None
    )


def rows(**counts):
    labels = [label for label, count in counts.items() for _ in range(count)]
    return [row(index + 1, label) for index, label in enumerate(labels)]


def test_classes_grow_by_what_the_cloud_names_often_enough():
    job, arrays = assemble(Path("m.pt"), ("b", "a"), rows(a=8, b=8, c=5, d=4), NAMES.get, "lwf", 7)
    assert job.labels == ["b", "a", "c"]  # d was named four times only
    assert len(job.row_ids) == 21
    assert arrays["bits"].shape == (21, 4)
    assert arrays["logits"].shape == (21, 3)
    assert arrays["logits"][0].tolist() == [0.0, 5.0, 0.0]  # in the device's order: b, a, c
    assert arrays["held"].sum() == 1 + 1 + 1


def test_rows_whose_names_nobody_told_wait():
    strange = [row(100 + k, "a", b"????") for k in range(30)]
    job, _ = assemble(Path("m.pt"), ("a",), rows(a=20) + strange, NAMES.get, "lwf", 0)
    assert job.row_ids == list(range(1, 21))


def test_rows_with_unusable_logits_wait():
    good = rows(a=20)
    nan = np.array([1.0, np.nan, 0.0, 0.0], "<f4").tobytes()
    broken = [replace(row(100, "a"), logits=nan), replace(row(101, "a"), logits=nan[:15])]
    job, arrays = assemble(Path("m.pt"), ("a",), good + broken, NAMES.get, "lwf", 0)
    assert job.row_ids == list(range(1, 21))
    assert np.isfinite(arrays["logits"]).all()


def test_a_class_that_the_cloud_does_not_know_is_never_the_answer():
    low = np.array([-90.0, -100.0, -100.0, -100.0], "<f4").tobytes()  # softmax knows no origin
    answered = [replace(row(index, "a"), logits=low) for index in range(20)]
    _, arrays = assemble(Path("m.pt"), ("a", "z"), answered, NAMES.get, "lwf", 0)
    assert arrays["logits"].tolist() == [[-90.0, -120.0]] * 20


def test_the_newest_rows_are_learnt_and_the_others_wait():
    job, _ = assemble(Path("m.pt"), ("a",), rows(a=MAX_ROWS + 7), NAMES.get, "lwf", 0)
    assert job.row_ids == list(range(8, MAX_ROWS + 8))


def test_too_few_rows_make_no_update():
    with pytest.raises(UpdateError, match=f"^19 labelled rows to learn from; an update needs {MIN_ROWS}$"):
        assemble(Path("m.pt"), ("a",), rows(a=19), NAMES.get, "lwf", 0)


def test_every_fifth_row_of_each_class_is_held_out():
    labels = np.array([0, 1] * 10 + [2] * 4)
    held = held_out(labels)
    assert np.flatnonzero(held).tolist() == [8, 9, 18, 19]


def test_a_job_comes_back_as_it_was_written(tmp_path):
    job, arrays = assemble(Path("m.pt"), ("a",), rows(a=20, b=6), NAMES.get, "lwf", 3)
    write_job(tmp_path / "update", job, arrays)
    again, arrays_again = read_job(tmp_path / "update")
    assert again == job
    assert all(np.array_equal(arrays[name], arrays_again[name]) for name in arrays)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"model": 1}'])
def test_a_damaged_job_is_named(tmp_path, damage):
    write_job(tmp_path / "update", Job(model="m", labels=["a"], row_ids=[], learner="lwf", seed=0), {})
    (tmp_path / "update" / "job.json").write_bytes(damage)
    with pytest.raises(UpdateError, match=r"update: not a complete update job"):
        read_job(tmp_path / "update")


def test_an_outcome_is_whole_or_not_there(tmp_path):
    with pytest.raises(UpdateError, match=r"^the learner left no valid outcome"):
        read_outcome(tmp_path)
    outcome = Outcome(accepted=True, reason="fine", sha256="0", figures={"rows": 3}, probe=[[0.5, 1.0]], row_ids=[7])
    write_outcome(tmp_path, outcome)
    assert read_outcome(tmp_path) == outcome
    (tmp_path / "outcome.json").write_bytes(b'{"accepted": true')
    with pytest.raises(UpdateError, match=r"^the learner left no valid outcome"):
        read_outcome(tmp_path)


def test_slots_follow_the_clouds_list_in_whatever_order_classes_were_seen():
    ways = [rows(a=10, c=6, d=6), rows(d=6, c=6, a=10)]
    jobs = [assemble(Path("m.pt"), ("b", "a"), way, NAMES.get, "lwf", 0)[0] for way in ways]
    assert [job.labels for job in jobs] == [["b", "a", "c", "d"]] * 2


def test_a_list_that_grows_and_is_reordered_means_the_same_names():
    early = [row(index, "ab"[index % 2]) for index in range(12)]
    late = [row(12 + index, "aec"[index % 3], b"late") for index in range(18)]
    job, arrays = assemble(Path("m.pt"), ("a", "b"), early + late, NAMES.get, "lwf", 0)
    assert job.labels == ["a", "b", "c", "e"]
    named = arrays["logits"].argmax(axis=1)
    assert [job.labels[index] for index in named] == [*("ab" * 6), *("aec" * 6)]
    assert arrays["logits"][0].tolist() == [5.0, 0.0, 0.0, -25.0]  # that cloud did not know e


def test_another_workers_list_adds_its_own_names():
    ours = [row(index, "a") for index in range(14)]
    others = [row(14 + index, "x", b"else") for index in range(6)]
    job, arrays = assemble(Path("m.pt"), ("a", "b"), ours + others, NAMES.get, "lwf", 0)
    assert job.labels == ["a", "b", "x"]
    assert arrays["logits"][-1].tolist() == [0.0, -25.0, 5.0]
    assert arrays["logits"][0].tolist() == [5.0, 0.0, -25.0]


def test_rows_of_which_the_cloud_is_unsure_wait_and_name_no_class():
    even = np.array([0.0, 0.0, 1.09, 0.0], "<f4").tobytes()  # c with 49.8 %
    odds = np.array([0.0, 0.0, 1.11, 0.0], "<f4").tobytes()  # c with 50.3 %
    answers = rows(a=20) + [replace(row(50 + index, "a"), logits=even) for index in range(9)]
    job, _ = assemble(Path("m.pt"), ("a",), answers, NAMES.get, "lwf", 0)
    assert (job.labels, len(job.row_ids), job.unsure) == (["a"], 20, 9)
    job, _ = assemble(Path("m.pt"), ("a",), [replace(one, logits=odds) for one in answers], NAMES.get, "lwf", 0)
    assert (job.labels, job.unsure) == (["a", "c"], 0)
