"""How many time steps go first, and from which margin on they do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecc_tools.leading_fitting import MOST_LOST, fit_leading, fit_margin, margins, part_bytes
from support.rate_tables import rate_table, sample

SHAPE = (3, 4, 4, 4)
TABLE = rate_table("channel", SHAPE)
COUNT = 1000


def flags(*ones: int, count: int = COUNT) -> np.ndarray:
    found = np.zeros(count, np.bool_)
    found[list(ones)] = True
    return found


def test_the_margin_is_the_smallest_that_loses_too_little() -> None:
    sure = np.arange(COUNT) / COUNT
    everywhere = ~flags()
    assert fit_margin(sure, everywhere, everywhere) == 0.0, "nothing is lost by leading steps"
    assert fit_margin(sure, ~flags(700), everywhere) == 0.0, "one of a thousand may be"
    assert fit_margin(sure, ~flags(100, 300, 700), everywhere) == 0.301
    assert fit_margin(sure, ~flags(998, 999), everywhere) == 0.999
    assert fit_margin(sure, ~flags(*range(990, 1000)), everywhere) == 0.999
    assert fit_margin(np.repeat([0.25, 0.5], 500), ~flags(1, 2), everywhere) == 0.5, "equal margins go together"
    assert fit_margin(np.ones(COUNT), ~flags(1, 2), everywhere) is None
    assert fit_margin(sure, everywhere, ~flags(5, 6)) == 0.0, "leading steps may be the better ones"


@given(seed=st.integers(0, 10**6), kinds=st.integers(1, 300))
def test_from_the_margin_on_no_larger_one_loses_more(seed: int, kinds: int) -> None:
    chance = np.random.default_rng(seed)
    sure = chance.integers(0, kinds, 300) / kinds
    alone, whole = chance.random(300) < 0.3 + 0.7 * sure, chance.random(300) < 0.9
    limit = fit_margin(sure, alone, whole)
    if limit is None:
        limit = 2.0

    def lost(margin: float) -> int:
        return int(whole.sum() - np.where(sure < margin, whole, alone).sum())

    assert all(lost(margin) <= MOST_LOST * 300 for margin in (limit, *sure[sure >= limit]))
    smaller = np.unique(sure[sure < limit])
    assert len(smaller) == 0 or lost(float(smaller[-1])) > MOST_LOST * 300


def logits_of(right: np.ndarray, labels: np.ndarray, size: np.ndarray | float) -> np.ndarray:
    """Logits of four classes that name the label where `right`, else the next one, by `size`."""
    found = np.zeros((len(labels), 4), np.float32)
    found[np.arange(len(labels)), np.where(right, labels, (labels + 1) % 4)] = size
    return found


def test_the_number_of_steps_with_the_fewest_bytes_is_taken() -> None:
    chance = np.random.default_rng(0)
    codes, labels = sample(TABLE, 1, COUNT), chance.integers(0, 4, COUNT)
    hard = {1: chance.random(COUNT) < 0.9, 2: chance.random(COUNT) < 0.1}

    def alone(steps: int) -> np.ndarray:  # wrong and unsure where it is hard
        return logits_of(~hard[steps], labels, np.where(hard[steps], 1.0, 9.0))

    info = fit_leading(codes, TABLE, logits_of(~flags(), labels, 9.0), alone, labels)
    assert info is not None
    assert (info.steps, info.more) == (2, pytest.approx(hard[2].mean(), abs=0.001))
    sure = margins(alone(2) / np.float32(info.temperature))
    np.testing.assert_array_equal(sure < info.margin, hard[2])


def test_where_nearly_all_need_the_rest_nothing_goes_first() -> None:
    chance = np.random.default_rng(0)
    codes, labels = sample(TABLE, 1, COUNT), chance.integers(0, 4, COUNT)
    guesses = chance.random(COUNT) < 0.25
    assert (
        fit_leading(codes, TABLE, logits_of(~flags(), labels, 9.0), lambda _: logits_of(guesses, labels, 2.0), labels)
        is None
    )


def test_bytes_of_parts_are_those_of_requests() -> None:
    codes = sample(TABLE, 2, 20)
    sizes = part_bytes(codes, TABLE, 1)
    # array, id, features_id, steps, budget; of the rest also what is known
    around = 1 + 3 + 6 + 1 + 2
    for first, rest, whole, code in zip(*sizes, codes, strict=True):
        assert whole == around + 2 + 1 + len(TABLE.encode(code))
        assert first == around + 2 + 1 + min(len(TABLE.encode(code[:1])), 8)
        assert rest == around + 1 + 2 + 1 + min(len(TABLE.encode(code, 1)), 16)
