"""Novelty: bits away from known rows, by hand, in numpy 1's way and in numpy 2's, and on the scale of known rows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecc_device import novelty
from ecc_device.evidence import Evidence, Known
from ecc_device.filters import filter_threshold, make_filter
from ecc_device.novelty import EntropyNoveltyFilter, NoveltyFilter, Scale, count_ones, pair_distances, to_words
from ecc_model import bits
from ecc_model.errors import DeviceError
from ecc_model.numerics import normalized_entropy
from support.guards import PROGRAM, guarded, row

# class 0: pairwise distances 2, 4 and 6, in the mean 4; class 1: one row; class 2: none
ROWS = [(0, row(0, 1)), (0, row(0, 2)), (0, row(1, 3, 4, 5)), (1, row(100))]
JUDGING = [(0, row(0)), (0, row(0, 1, 2, 3)), (1, row(100, 101, 102)), (1, row(*range(90, 128)))]
packed_rows = st.integers(1, 40).flatmap(
    lambda width: st.lists(st.binary(min_size=width, max_size=width), min_size=1, max_size=12)
)


def as_array(rows: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.stack([np.frombuffer(one, np.uint8) for one in rows])


def seen(packed: NDArray[np.uint8], probabilities: Sequence[float] = (0.8, 0.1, 0.1)) -> Evidence:
    return Evidence(0, [0.0] * 3, 1.0, probabilities, bits.unpack(packed.tobytes(), PROGRAM.split_shape))


@pytest.fixture(params=[True, False], ids=["popcount", "table"])
def _counting(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param and not hasattr(np, "bitwise_count"):
        pytest.skip("numpy 1 counts by its table")
    monkeypatch.setattr(novelty, "_HAS_POPCOUNT", request.param)


@pytest.mark.usefixtures("_counting")
@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (row(0, 1), 0.0),  # the same as a known row
        (row(0), 1 / 5),
        (row(0, 1, 2, 3), 2 / 6),
        (row(127), 3 / 7),
    ],
)
def test_values_by_hand(packed: NDArray[np.uint8], expected: float) -> None:
    assert NoveltyFilter(guarded(ROWS)).score(seen(packed)) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("predicted", [1, 2])
def test_a_class_without_two_different_rows_is_compared_with_all_of_them(predicted: int) -> None:
    probabilities = [float(index == predicted) for index in range(3)]
    spread, pairs = pair_distances(np.stack([packed for _, packed in ROWS]))
    assert (spread, pairs) == (12 + 3 + 3 + 5, 6)
    found = NoveltyFilter(guarded(ROWS)).score(seen(row(0), probabilities))
    assert found == pytest.approx(1 / (1 + spread / pairs), abs=1e-15)


def test_the_rows_that_judge_are_not_compared_with() -> None:
    filter_ = NoveltyFilter(guarded(ROWS, JUDGING))
    assert filter_.score(seen(JUDGING[0][1])) > 0.0


def test_the_threshold_is_the_quantile_of_the_judging_rows() -> None:
    known = guarded(ROWS, JUDGING)
    filter_ = make_filter("novelty", known)
    scores = [filter_.score(evidence) for evidence in known.judging()]
    assert len(set(scores)) > 2
    assert filter_threshold(filter_, known) == max(scores)  # 90 % of four are four


@pytest.mark.parametrize("name", ["novelty", "entropy+novelty"])
def test_a_guard_set_with_nothing_to_replay_is_refused(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        make_filter(name, guarded([], JUDGING))
    assert str(caught.value) == (
        "vgg9.pt: its guard set has no rows to replay, which the filter 'novelty' compares with; "
        "compile the model again, or choose another filter"
    )


def test_a_guard_set_with_nothing_to_judge_gives_no_scale() -> None:
    with pytest.raises(DeviceError) as caught:
        make_filter("entropy+novelty", guarded(ROWS))
    assert str(caught.value) == (
        "vgg9.pt: its guard set has no rows to judge with, which the filter 'entropy+novelty' needs; "
        "compile the model again, or choose another filter"
    )


@given(st.lists(st.integers(0, 127), unique=True, max_size=60), st.integers(0, 127))
def test_the_score_rises_with_the_distance_and_stays_in_range(on: list[int], more: int) -> None:
    filter_ = NoveltyFilter(guarded([(0, row()), (0, row(*range(64, 128)))]))
    scores = [filter_.score(seen(row(*range(count)))) for count in range(33)]
    assert all(a < b for a, b in itertools.pairwise(scores))
    assert 0.0 <= filter_.score(seen(row(*on, more))) < 1.0


def test_where_all_known_rows_are_one_any_other_is_new() -> None:
    filter_ = NoveltyFilter(guarded([(0, row(5)), (0, row(5))]))
    assert (filter_.score(seen(row(5))), filter_.score(seen(row(6)))) == (0.0, 1.0)


@pytest.mark.usefixtures("_counting")
@pytest.mark.parametrize("width", [1, 7, 8, 9, 128])
def test_ones_are_counted_whatever_the_width(width: int) -> None:
    packed = np.random.default_rng(width).integers(0, 256, (5, width), np.uint8)
    assert count_ones(to_words(packed)).tolist() == np.unpackbits(packed, axis=1).sum(axis=1).tolist()


@given(packed_rows)
def test_the_sum_of_all_pairs_is_that_of_each(rows: list[bytes]) -> None:
    packed = as_array(rows)
    each = sum(int(np.unpackbits(a ^ b).sum()) for index, a in enumerate(packed) for b in packed[:index])
    assert pair_distances(packed) == (each, len(rows) * (len(rows) - 1) // 2)


def test_a_scale_is_zero_at_the_median_and_a_half_at_the_quantile() -> None:
    scale = Scale.fit([float(number) for number in range(1, 11)])
    assert (scale(5.0), scale(9.0), scale(1.0), scale(1e9)) == (0.0, 0.5, -0.5, pytest.approx(1.0))
    flat = Scale.fit([0.25, 0.25])
    assert (flat(0.25), flat(0.3), flat(0.0)) == (0.0, 1.0, -1.0)


def test_the_sum_of_both_by_hand() -> None:
    known = guarded(ROWS, JUDGING)
    alone, both = NoveltyFilter(known), EntropyNoveltyFilter(known)
    entropy, new = (
        Scale.fit([normalized_entropy(e.probabilities) for e in known.judging()]),
        Scale.fit([alone.score(e) for e in known.judging()]),
    )
    evidence = seen(row(127), (0.5, 0.25, 0.25))
    expected = entropy(normalized_entropy(evidence.probabilities)) + new(alone.score(evidence))
    assert both.score(evidence) == 0.5 + expected / 4
    assert 0.0 <= both.score(evidence) <= 1.0


def test_each_part_alone_moves_the_sum() -> None:
    both = EntropyNoveltyFilter(guarded(ROWS, JUDGING))
    near_sure, near_unsure = seen(row(0, 1)), seen(row(0, 1), (0.4, 0.3, 0.3))
    far_sure = seen(row(*range(60, 100)))
    assert both.score(near_sure) < both.score(near_unsure)
    assert both.score(near_sure) < both.score(far_sure)


def test_scores_are_pinned() -> None:
    """Fractions of small integers: the same bits on every machine."""
    known = guarded(ROWS, JUDGING)
    assert NoveltyFilter(known).score(seen(row(127))) == 3 / 7
    assert EntropyNoveltyFilter(known).score(seen(row(127))) == 0.7829783309367301


def test_judging_rows_run_through_the_exit_once() -> None:
    known = guarded(ROWS, JUDGING)
    calls = []
    engine = known._engine
    known._engine = type("Counting", (), {"exit": lambda self, split: calls.append(1) or engine.exit(split)})()
    first = [evidence.logits for evidence in known.judging()]
    assert [evidence.logits for evidence in known.judging()] == first
    assert len(calls) == len(JUDGING)
    assert isinstance(known, Known)
