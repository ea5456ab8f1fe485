"""Which answers of the cloud an update does not believe yet."""

import numpy as np
import pytest

from ecc_device.learning.clear import clarity, clear_level, contradicted
from ecc_device.learning.doubt import believe
from ecc_device.learning.job import Job, held_out
from ecc_model.errors import UpdateError
from ecc_model.modelfile import read_edge
from support.models import DIGITS, class_rows, write_tiny_models


def sure_of(labels, logit, classes=3):
    """Logits (R, classes), as sure of each label as `logit` says."""
    return (np.array(logit)[:, None] * np.eye(classes)[labels]).astype(np.float32)


def test_a_clear_answer_is_as_sure_as_half_of_the_judging_rows():
    judging = sure_of([0, 1, 2, 0], [1.0, 8.0, 4.0, 2.0])
    level = clear_level(judging, 1.0)
    edge = sure_of([0, 0, 0], [3.9, 4.0, 9.0])
    cloud = sure_of([1, 1, 1], [9.0, 9.0, 9.0])
    assert contradicted(edge, cloud, 1.0, level).tolist() == [False, True, True]


def test_a_new_class_and_the_same_class_contradict_nothing():
    edge = sure_of([0, 0, 0], [9.0, 9.0, 9.0])
    cloud = sure_of([3, 0, 2], [9.0, 9.0, 9.0], classes=4)
    assert contradicted(edge, cloud, 1.0, 0.5).tolist() == [False, False, True]


def test_without_judging_rows_nothing_is_clear():
    level = clear_level(np.zeros((0, 3), np.float32), 1.0)
    assert not contradicted(sure_of([0], [90.0]), sure_of([1], [90.0]), 1.0, level).any()


def test_what_a_candidate_changes_in_clear_answers():
    before = sure_of([0, 1, 2, 0, 1, 2], [9.0, 9.0, 9.0, 9.0, 1.0, 1.0])
    after = sure_of([0, 2, 3, 0, 2, 2], [9.0] * 6, classes=4)  # the third is taken for a new class, the fifth unclear
    found = clarity(before, after, 1.0)
    assert (found.rows, found.changed) == (3, 1)
    assert found.entropy == clear_level(before, 1.0)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_tiny_models(tmp_path_factory.mktemp("models"), learnable=True)


def job_of(models, labels, told):
    """Rows of classes `labels` that the cloud says are `told`."""
    rows = np.stack([np.frombuffer(row, np.uint8) for row in class_rows(models.program, labels, seed=3)])
    told = np.array(told)
    job = Job(
        model=str(models.edge), labels=list(DIGITS), row_ids=list(range(100, 100 + len(labels))), learner="", seed=0
    )
    return job, {"bits": rows, "logits": 6.0 * np.eye(10, dtype=np.float32)[told], "held": held_out(told)}


def test_rows_that_contradict_the_edge_wait(models):
    model = read_edge(models.edge)
    labels = [0, 1, 2, 3, 4, 5] * 10
    told = [1 if index < 30 else label for index, label in enumerate(labels)]  # 25 rows are wrong
    believed = believe(model, *job_of(models, labels, told))
    gone = sorted(set(range(60)) - {row - 100 for row in believed.job.row_ids})
    assert believed.contradicted == len(gone) >= 3
    assert all(told[row] != labels[row] for row in gone)
    kept = [row - 100 for row in believed.job.row_ids]
    assert believed.arrays["logits"].argmax(axis=1).tolist() == [told[row] for row in kept]
    assert (len(believed.judging), len(believed.held)) == (216, int(believed.arrays["held"].sum()))


def test_a_cloud_that_is_wrong_about_all_makes_no_update(models):
    labels = [0, 2, 3, 4, 5] * 6
    with pytest.raises(UpdateError, match=r"^\d+ labelled rows to learn from, \d+ others contradict clear answers of"):
        believe(read_edge(models.edge), *job_of(models, labels, [1] * 30))
