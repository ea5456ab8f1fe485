import math

import pytest

from ecc_device.calibration import TEMPERATURES, expected_calibration_error, fit_temperature, fit_threshold


def test_temperature_recovers_the_factor_by_which_logits_are_overconfident():
    # Two classes, right in three of four rows: the calibrated logit difference is log 3 = 1.0986.
    logits = [[4 * math.log(3.0), 0.0]] * 400
    labels = [0, 0, 0, 1] * 100
    assert fit_temperature(logits, labels) == min(TEMPERATURES, key=lambda t: abs(t - 4.0))


def test_temperature_stays_on_its_grid_when_every_row_is_right():
    assert fit_temperature([[5.0, 0.0]] * 10, [0] * 10) == TEMPERATURES[0]


@pytest.mark.parametrize(("accepted", "expected"), [(0.9, 0.9), (0.5, 0.5), (1.0, 1.0), (0.91, 1.0), (0.01, 0.1)])
def test_threshold_leaves_the_asked_share_at_or_below_it(accepted, expected):
    scores = [k / 10 for k in (3, 1, 2, 10, 9, 8, 7, 6, 5, 4)]
    assert fit_threshold(scores, accepted) == expected


def test_calibration_error_of_known_rows():
    # Confidence 0.8 and right in one of two rows, confidence 1.0 and always right.
    probabilities = [[0.8, 0.2], [0.8, 0.2], [1.0, 0.0], [1.0, 0.0]]
    assert expected_calibration_error(probabilities, [0, 1, 0, 0]) == pytest.approx((0.3 * 2) / 4)
