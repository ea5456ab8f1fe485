import numpy as np
import pytest

from ecc_device.engines import NumpyEngine
from ecc_tools.collaboration import Answers, Frames, curve, learner_row, uploads_needed
from support.models import DIGITS, write_tiny_models


def answers(entropy, edge, sent):
    return Answers(np.array(entropy), np.array(edge, bool), np.array(sent, bool))


FOUR = answers([0.9, 0.1, 0.8, 0.2], edge=[0, 1, 0, 1], sent=[1, 1, 1, 0])


def test_the_curve_sends_the_most_ambiguous_frames_first():
    line = curve(FOUR, threshold=0.5)
    assert line.accuracy.tolist() == [0.5, 0.75, 1.0, 0.75, 0.75]
    assert line.operating == 2


@pytest.mark.parametrize(("accuracy", "needed"), [(0.5, 0), (0.75, 1), (0.76, 2), (1.0, 2), (1.01, None)])
def test_the_fewest_uploads_that_reach_an_accuracy(accuracy, needed):
    assert uploads_needed(curve(FOUR, 0.5), accuracy) == needed


def test_a_learners_row_is_in_percent_and_counts_losses_on_known_classes_only():
    known = np.array([False, True, False, True])
    worse = answers([0.9, 0.6, 0.1, 0.2], edge=[1, 0, 1, 1], sent=[1, 1, 1, 1])
    row = learner_row("x", worse, known, FOUR, 0.5, 0.75, 1.0)
    assert (row.edge_accuracy, row.known_loss_points, row.upload_rate) == (75.0, 50.0, 50.0)
    assert (row.upload_rate_not_recalibrated, row.collab_accuracy, row.uploads_needed) == (75.0, 100.0, 2)


def test_frames_ask_the_cloud_through_the_encoder(tmp_path):
    models = write_tiny_models(tmp_path)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (8, 16, 16, 1), dtype=np.uint8)
    asked = Frames(models.program, models.cloud, frames, np.arange(8) % 6, DIGITS)
    found = asked.ask(models.program, DIGITS[:6], 1.0)
    engine = NumpyEngine(models.program)
    edge = [int(engine.exit(engine.head(frame)).argmax()) for frame in frames]
    assert found.edge_right.tolist() == [label == index % 6 for index, label in enumerate(edge)]
    assert len(asked.cloud) == 8
    assert all(answer.labels == DIGITS for answer in asked.cloud)
