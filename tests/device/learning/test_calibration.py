import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecc_device.calibration import TEMPERATURES, expected_calibration_error, fit_temperature, fit_threshold
from ecc_model.numerics import log, softmax


def test_temperature_recovers_the_factor_by_which_logits_are_overconfident():
    # Two classes, right in three of four rows: the calibrated logit difference is log 3 = 1.0986.
    logits = [[4 * math.log(3.0), 0.0]] * 400
    labels = [0, 0, 0, 1] * 100
    assert fit_temperature(logits, labels) == min(TEMPERATURES, key=lambda t: abs(t - 4.0))


def test_temperature_stays_on_its_grid_when_every_row_is_right():
    assert fit_temperature([[5.0, 0.0]] * 10, [0] * 10) == TEMPERATURES[0]


def row_by_row(logits, labels):
    """The definition, a row at a time."""

    def loss(temperature):
        chosen = [softmax(row, temperature)[label] for row, label in zip(logits, labels, strict=True)]
        return -math.fsum(log(max(p, 1e-12)) for p in chosen)

    return min(TEMPERATURES, key=loss)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_all_rows_at_once_give_the_temperature_of_row_by_row(data):
    rows, classes = data.draw(st.integers(0, 12)), data.draw(st.integers(1, 6))
    most = data.draw(st.sampled_from([0.5, 10.0, 1e4]))  # losses of the last are clipped, and have several minima
    logits = data.draw(arrays(np.float32, (rows, classes), elements=st.floats(-most, most, width=32))).tolist()
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=rows, max_size=rows))
    assert fit_temperature(logits, labels) == row_by_row(logits, labels)


@pytest.mark.parametrize(("accepted", "expected"), [(0.9, 0.9), (0.5, 0.5), (1.0, 1.0), (0.91, 1.0), (0.01, 0.1)])
def test_threshold_leaves_the_asked_share_at_or_below_it(accepted, expected):
    scores = [k / 10 for k in (3, 1, 2, 10, 9, 8, 7, 6, 5, 4)]
    assert fit_threshold(scores, accepted) == expected


def test_calibration_error_of_known_rows():
    # Confidence 0.8 and right in one of two rows, confidence 1.0 and always right.
    probabilities = [[0.8, 0.2], [0.8, 0.2], [1.0, 0.0], [1.0, 0.0]]
    assert expected_calibration_error(probabilities, [0, 1, 0, 0]) == pytest.approx((0.3 * 2) / 4)
