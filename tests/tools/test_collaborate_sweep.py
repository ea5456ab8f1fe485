"""Points of the curves by hand: four frames, of which the edge has two right and the cloud three."""

import dataclasses

import numpy as np
import pytest

from ecc_device.evidence import Evidence
from ecc_device.filters import RandomFilter
from ecc_tools.collaborate.observe import CloudSide, EdgeSide, Observed
from ecc_tools.collaborate.sweep import COLUMNS, at, by_rate, by_threshold, operating

NONE = np.zeros((0,), bool)


def observed(scores, edge_right, cloud_right, standing_right, thresholds=None):
    """Scores: filter -> (S, N). Frame k takes 10 (k + 1) bytes and k + 1 mJ on the link; encoding 0.5 mJ."""
    count = len(edge_right)
    edge = EdgeSide([], NONE, scores, thresholds or {}, mj=1.0, encoder_mj=0.5)
    numbers = np.arange(1.0, count + 1)
    cloud = CloudSide([], [], 10 * numbers, bytes_down=8, upload_mj=0.5, link_mj=numbers, mj=7.0)
    flags = (np.array(right, bool) for right in (edge_right, cloud_right, standing_right))
    return Observed(edge, cloud, *flags)


SCORES = {"entropy": np.array([[0.9, 0.1, 0.8, 0.2]])}
FOUR = observed(SCORES, edge_right=[0, 1, 0, 1], cloud_right=[1, 1, 1, 0], standing_right=[1, 1, 1, 1])


def test_a_point_by_hand():
    point = at(FOUR, "entropy", 0.5, [SCORES["entropy"][0] > 0.5])
    assert dataclasses.astuple(point) == (
        *("entropy", 0.5, 0.5, 1.0, 1.0, 2.0, 2.0),
        *(10.0, 4.0),  # (10 + 30) / 4 bytes up, half of 8 down
        *(1.25, 1.0, 3.5),  # edge 1 + half of 0.5, link (1 + 3) / 4, cloud half of 7
    )


def test_the_cloud_may_stand_where_the_device_would_not_let_it():
    point = at(FOUR, "entropy", 0.15, [SCORES["entropy"][0] > 0.15])
    assert (point.upload_rate, point.accuracy, point.accuracy_cloud_stands) == (0.75, 1.0, 0.75)
    assert (point.improvement, point.improvement_cloud_stands) == (2.0, 1.0)


def test_no_improvement_where_the_cloud_is_not_better():
    equal = observed(SCORES, [0, 1, 0, 1], [1, 0, 1, 0], [1, 1, 1, 0])
    assert at(equal, "entropy", 0.5, [SCORES["entropy"][0] > 0.5]).improvement is None


def test_thresholds_from_0_to_1_send_less_and_less():
    points = by_threshold(FOUR)
    assert [point.threshold for point in points] == [step / 100 for step in range(101)]
    rates = [point.upload_rate for point in points]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[15], rates[80], rates[100]) == (1.0, 0.75, 0.25, 0.0)  # 0.8 is not above 0.8


def test_rates_send_the_highest_scores_first_and_of_equal_ones_the_earlier():
    points = by_rate(FOUR)
    assert [point.upload_rate for point in points][::25] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [point.accuracy for point in points][::25] == [0.5, 0.75, 1.0, 1.0, 1.0]
    tied = observed({"entropy": np.zeros((1, 4))}, [0, 0, 1, 1], [1, 0, 1, 1], [1, 0, 1, 1])
    assert [point.accuracy for point in by_rate(tied)][::25] == [0.5, 0.75, 0.75, 0.75, 0.75]


def test_a_constant_filter_has_one_rate():
    constant = {"cloud-only": np.full((1, 4), 2.0), "edge-only": np.full((1, 4), -1.0)}
    points = by_rate(observed(constant, [0, 1, 0, 1], [1, 1, 1, 0], [1, 1, 1, 1]))
    assert [(p.filter, p.upload_rate, p.accuracy) for p in points] == [("cloud-only", 1.0, 1.0), ("edge-only", 0, 0.5)]


def test_each_filter_works_at_its_own_threshold():
    both = SCORES | {"random": np.array([[0.9, 0.8, 0.1, 0.2], [0.0, 0.1, 0.2, 0.3]]), "edge-only": -np.ones((1, 4))}
    own = {"entropy": [0.85], "random": [0.5, 0.25], "edge-only": [0.85]}
    points = operating(observed(both, [0, 1, 0, 1], [1, 1, 1, 0], [1, 1, 1, 1], own))
    assert [(p.filter, p.threshold, p.upload_rate) for p in points] == [
        ("entropy", 0.85, 0.25),
        ("random", 0.375, 0.375),  # two of four and one of four
        ("edge-only", None, 0.0),
    ]


def test_a_random_filter_wins_its_share_of_what_there_is_to_win():
    """Expected: `edge + rate (standing - edge)`, at every threshold and rate; here 0.4 + rate 0.3."""
    frames, seeds = 300, 100
    spikes = np.zeros((1, 1, 1, 1), bool)
    draws = [
        [RandomFilter(seed).score(Evidence(frame, [], 1.0, [], spikes)) for frame in range(frames)]
        for seed in range(seeds)
    ]
    right = np.arange(frames) % 10
    drawn = observed({"random": np.array(draws)}, right < 4, right < 8, right < 7)
    for point in by_threshold(drawn):
        assert point.upload_rate == pytest.approx(1 - point.threshold, abs=0.01)
        assert point.accuracy == pytest.approx(0.4 + 0.3 * point.upload_rate, abs=0.01)
    for point in by_rate(drawn):
        assert point.accuracy == pytest.approx(0.4 + 0.3 * point.upload_rate, abs=0.01)
        assert point.improvement == pytest.approx(0.75 * point.upload_rate, abs=0.025)


def test_columns_say_what_kind_their_figures_are():
    expected = ["filter", "threshold", "upload_rate", "accuracy", "accuracy_cloud_stands"]
    expected += ["improvement", "improvement_cloud_stands", "bytes_up", "bytes_down"]
    expected += ["edge_mj_modelled", "link_mj_assumed", "cloud_mj_modelled"]
    assert list(COLUMNS) == expected
