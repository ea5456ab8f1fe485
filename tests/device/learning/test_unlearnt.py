"""Recalibration and the exam, on rows that no learner has seen."""

from dataclasses import replace

import numpy as np
import pytest

from ecc_device.calibration import fit_temperature, fit_threshold
from ecc_device.learning.unlearnt import Unlearnt, unlearnt_rows
from ecc_model.modelfile import GuardSet
from ecc_model.numerics import normalized_entropy, softmax
from support.guards import edge_model, row


def some(seed=0):
    """40 judging rows of three classes, 12 held-out ones of which half are of a fourth class; logits that often err."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([rng.integers(0, 3, 46), np.full(6, 3)])
    logits = (rng.normal(0, 2, (52, 4)) + 3 * np.eye(4)[labels]).astype(np.float32)
    logits[40:46] = 0.0  # nothing could be less sure
    return Unlearnt(np.zeros((52, 16), np.uint8), labels, 40, 3, 0.9), logits


def test_the_temperature_is_fitted_on_all_rows_and_the_threshold_without_those_picked_for_being_hard():
    rows, logits = some()
    temperature, threshold = rows.calibrate(logits)
    assert temperature == fit_temperature(logits.tolist(), rows.labels.tolist())
    scores = [normalized_entropy(softmax(one, temperature)) for one in logits.tolist()]
    assert threshold == fit_threshold(scores[:40] + scores[46:])
    assert threshold != fit_threshold(scores)
    assert replace(rows, accepted=0.5).calibrate(logits) == (temperature, fit_threshold(scores[:40] + scores[46:], 0.5))


def test_a_class_that_a_model_does_not_know_counts_as_wrong():
    rows = Unlearnt(np.zeros((2, 16), np.uint8), np.array([0, 3]), 1, 3, 0.9)
    sure = np.array([[50, 0, 0], [50, 0, 0]], np.float32)
    assert rows.calibration_error(sure, 1.0) == pytest.approx(0.5)
    assert rows.calibration_error(np.array([[50, 0, 0, 0], [0, 0, 0, 50]], np.float32), 1.0) == pytest.approx(0.0)


def test_the_exam_tells_known_and_held_out_rows_apart():
    rows = Unlearnt(np.zeros((4, 16), np.uint8), np.array([0, 1, 2, 3]), 2, 3, 0.9)
    before = np.eye(3, dtype=np.float32)[[0, 0, 2, 2]]
    exam = rows.exam(before, np.eye(4, dtype=np.float32)[[0, 1, 0, 3]], np.array([False]))
    assert exam.factory.tolist() == [False]
    assert (exam.known_before.tolist(), exam.known_after.tolist()) == ([True, False], [True, True])
    assert (exam.held_before.tolist(), exam.held_after.tolist()) == ([True, False], [False, True])
    assert exam.known_class.tolist() == [0, 1]


def test_judging_rows_come_first_and_replayed_or_learnt_rows_not_at_all():
    guard = GuardSet(np.stack([row(0), row(1), row(2)]), np.array([0, 1, 2], np.int32), np.array([0, 1, 1], np.uint8))
    arrays = {
        "bits": np.stack([row(3), row(4)]),
        "logits": np.array([[9, 0, 0, 0], [0, 0, 0, 9]], np.float32),
        "held": np.array([0, 1], np.uint8),
    }
    found = unlearnt_rows(edge_model(guard), arrays)
    np.testing.assert_array_equal(found.rows, np.stack([row(1), row(2), row(4)]))
    assert (found.labels.tolist(), found.judging, found.classes) == ([1, 2, 3], 2, 3)
