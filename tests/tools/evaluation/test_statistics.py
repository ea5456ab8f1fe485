"""Figures with their uncertainty, by hand and beside scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecc_device.calibration import expected_calibration_error
from ecc_tools.evaluation.statistics import calibration_error, confusion, mcnemar, paired, reliability, wilson


@pytest.mark.parametrize(
    ("hits", "n", "interval"),
    [
        (8, 10, (0.4902, 0.9433)),  # centre (0.8 + 0.19207) / 1.38415, reach 0.22657
        (81, 263, (0.2553, 0.3662)),  # Newcombe 1998, table I
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (29, 29, (0.8830, 1.0)),
        (0, 0, (0.0, 1.0)),
    ],
)
def test_wilsons_interval(hits: int, n: int, interval: tuple[float, float]) -> None:
    assert wilson(hits, n) == pytest.approx(interval, abs=5e-5)


@settings(deadline=None)
@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilsons_interval_is_scipys(counts: tuple[int, int]) -> None:
    stats = pytest.importorskip("scipy.stats")
    hits, n = counts
    theirs = stats.binomtest(hits, n).proportion_ci(0.95, method="wilson")
    assert wilson(hits, n) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1.0),
    ],
)
def test_mcnemars_exact_test(first: int, second: int, p: float) -> None:
    assert mcnemar(first, second) == p


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemars_exact_test_is_scipys_binomial_test(first: int, second: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.binomtest(first, first + second, 0.5).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(theirs, rel=1e-9)


def test_many_discordant_pairs_stay_a_number() -> None:
    assert 0 < mcnemar(5300, 4700) < 1e-8


def pairs(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = (both, first, second, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_two_models_are_compared_frame_by_frame() -> None:
    found = paired(*pairs(70, 12, 4, 14))
    assert (found.n, found.both, found.only_first, found.only_second, found.neither) == (100, 70, 12, 4, 14)
    assert found.difference_points == 8.0
    assert found.p_value == mcnemar(12, 4)
    # 8 / 102 -+ 1.96 sqrt(12 + 4 + 1 - 64 / 102) / 102
    assert found.interval_points == pytest.approx((100 * (0.078431 - 0.077754), 100 * (0.078431 + 0.077754)), abs=1e-3)


def test_equal_models_differ_by_nothing_within_an_interval() -> None:
    found = paired(*pairs(30, 0, 0, 10))
    assert (found.difference_points, found.p_value) == (0.0, 1.0)
    assert found.interval_points == pytest.approx((-100 * 1.96 / 42, 100 * 1.96 / 42), abs=1e-3)


def test_an_interval_ends_where_differences_end() -> None:
    assert paired(*pairs(0, 1, 0, 0)).interval_points[1] == 100.0


PROBABILITIES = [[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [1.0, 0.0]]
LABELS = [0, 1, 1, 0]


def test_the_reliability_diagram_has_equal_bins_of_confidence() -> None:
    bins = reliability(PROBABILITIES, LABELS, bins=5)
    assert [(cell.low, cell.high) for cell in bins] == [(0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 1.0)]
    assert [cell.n for cell in bins] == [0, 0, 0, 1, 3]
    assert (bins[3].confidence, bins[3].accuracy) == (0.7, 1.0)
    assert bins[4].confidence == pytest.approx(2.8 / 3)
    assert bins[4].accuracy == pytest.approx(2 / 3)


def test_the_calibration_error_is_the_gap_of_each_bin_by_its_share() -> None:
    assert calibration_error(reliability(PROBABILITIES, LABELS, bins=5)) == pytest.approx(0.3 / 4 + 0.8 / 4)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1))
def test_the_calibration_error_is_that_of_the_devices_gate(rows: list[tuple[float, int]]) -> None:
    probabilities, labels = [[p, 1 - p] for p, _ in rows], [label for _, label in rows]
    theirs = expected_calibration_error(probabilities, labels, bins=15)
    assert calibration_error(reliability(probabilities, labels)) == pytest.approx(theirs, abs=1e-12)


def test_confusion_has_a_row_for_each_true_class() -> None:
    counts = confusion(np.array([0, 0, 2, 2, 2]), np.array([0, 1, 2, 0, 0]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [2, 0, 1]]
