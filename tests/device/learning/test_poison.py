"""Clouds that are wrong, by accident or on purpose: what a device that learns from them loses of what it knew."""

import numpy as np
import pytest

from ecc_device.learning.candidate import make_candidate
from ecc_device.learning.gate import MAX_LOSS_POINTS
from ecc_device.learning.job import assemble
from ecc_device.learning.lesson import exit_logits
from ecc_device.store import Row
from ecc_model.errors import UpdateError
from ecc_model.modelfile import labels_id, read_edge
from support.models import DIGITS, class_rows, write_tiny_models
from support.rows import UPLOADS

KNOWN = [index % 6 for index in range(300)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_tiny_models(tmp_path_factory.mktemp("models"), learnable=True)


@pytest.fixture(scope="module")
def known(models):
    """Rows of known classes that nothing was learnt or judged with."""
    return np.stack([np.frombuffer(row, np.uint8) for row in class_rows(models.program, KNOWN, seed=50)])


def answered(models, labels, told, factor=1.0):
    """Rows of classes `labels` that the cloud calls `told`, its logits times `factor`."""
    features = bytes.fromhex(models.program.features_id)
    logits = (factor * 6.0 * np.eye(10))[told].astype("<f4")
    return [
        Row(index + 1, 0.0, features, bits, "0", "labelled", values.tobytes(), labels_id(DIGITS), 1.0, 1, None)
        for index, (bits, values) in enumerate(zip(class_rows(models.program, labels, seed=3), logits, strict=True))
    ]


def flipped(labels, share, seed=0):
    """The labels, a share of them replaced by others."""
    rng = np.random.default_rng(seed)
    told = np.array(labels)
    wrong = rng.random(len(told)) < share
    told[wrong] = (told[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    return told


def update(models, folder, rows, learner):
    """The update that a device would make of these rows."""
    job, arrays = assemble(models.edge, DIGITS[:6], rows, {labels_id(DIGITS): DIGITS}.get, learner, 0)
    return make_candidate(folder, job, arrays, lambda share: None)


def lost_points(models, folder, outcome, known):
    """Points of accuracy on known rows that the device loses by this update; none by one that the gate turns down."""
    if not outcome.accepted:
        return 0.0
    before, after = (exit_logits(read_edge(path).program, known) for path in (models.edge, folder / "candidate.pt"))
    return 100 * float((before.argmax(axis=1) == KNOWN).mean() - (after.argmax(axis=1) == KNOWN).mean())


STREAMS = {"new": UPLOADS, "known": [index % 6 for index in range(144)]}
ATTACKS = {
    "10 % flips": lambda labels: flipped(labels, 0.1),
    "20 % flips": lambda labels: flipped(labels, 0.2),
    "30 % flips": lambda labels: flipped(labels, 0.3),
    "all flipped": lambda labels: flipped(labels, 1.0),
    "one known class": lambda labels: np.full(len(labels), 1),
    "one new class": lambda labels: np.full(len(labels), 7),
    "two classes swapped": lambda labels: np.array([{0: 1, 1: 0}.get(label, label) for label in labels]),
}


@pytest.mark.parametrize("learner", ["analytic", "lwf"])
@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("stream", STREAMS)
def test_wrong_labels_cost_known_classes_no_more_than_is_allowed(models, known, tmp_path, stream, attack, learner):
    labels = STREAMS[stream]
    try:
        outcome = update(models, tmp_path, answered(models, labels, ATTACKS[attack](labels)), learner)
    except UpdateError:  # the edge clearly contradicts so many rows that too few are left
        return
    assert lost_points(models, tmp_path, outcome, known) <= MAX_LOSS_POINTS


@pytest.mark.parametrize("learner", ["analytic", "lwf"])
def test_flips_of_a_tenth_leave_most_of_the_gain(models, known, tmp_path, learner):
    outcome = update(models, tmp_path, answered(models, UPLOADS, flipped(UPLOADS, 0.1)), learner)
    assert outcome.accepted, outcome.reason
    fresh = [6 + index % 4 for index in range(200)]
    rows = np.stack([np.frombuffer(row, np.uint8) for row in class_rows(models.program, fresh, seed=51)])
    learnt = exit_logits(read_edge(tmp_path / "candidate.pt").program, rows).argmax(axis=1) == fresh
    assert learnt.mean() >= 0.9
    assert lost_points(models, tmp_path, outcome, known) <= 1.0


@pytest.mark.parametrize("learner", ["analytic", "lwf"])
def test_logits_beyond_all_measure_teach_what_their_labels_say(models, known, tmp_path, learner):
    outcome = update(models, tmp_path, answered(models, UPLOADS, UPLOADS, factor=1e4 / 6), learner)
    assert outcome.accepted, outcome.reason
    assert outcome.figures["unsure"] == 0
    assert lost_points(models, tmp_path, outcome, known) <= 1.0


def test_logits_that_say_nothing_teach_nothing(models):
    rows = answered(models, UPLOADS, UPLOADS, factor=1e-3)
    with pytest.raises(UpdateError, match=r"^0 labelled rows to learn from, 144 others of which the cloud is unsure; "):
        assemble(models.edge, DIGITS[:6], rows, {labels_id(DIGITS): DIGITS}.get, "analytic", 0)


def test_a_cloud_that_is_unsure_of_some_rows_is_believed_in_the_others(models, tmp_path):
    sure, unsure = answered(models, UPLOADS, UPLOADS), answered(models, UPLOADS, UPLOADS, factor=0.3)
    rows = [unsure[index] if index % 3 == 0 else row for index, row in enumerate(sure)]
    outcome = update(models, tmp_path, rows, "analytic")
    assert outcome.accepted, outcome.reason
    assert (outcome.figures["rows"], outcome.figures["unsure"]) == (96, 48)
    assert outcome.row_ids == [row.id for index, row in enumerate(rows) if index % 3]
