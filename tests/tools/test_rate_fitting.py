"""Fitting rates: the kind that codes unseen messages best, and smallest; rates close to what was drawn."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ecc_model.errors import CompileError
from ecc_model.rates import LINEAR, tables, to_records
from ecc_tools import rate_fitting
from ecc_tools.rate_fitting import fit_kind, fit_rates
from support.rate_tables import SHAPE, rate_table, sample

TABLES = ("channel", "position", "channel+left", "position+step+up", "channel+step+map+up+left")


def drawn(kind: str, count: int, seed: int = 1) -> np.ndarray:
    """Messages whose spikes really depend on what the kind says: rates far from each other."""
    table = rate_table(kind)
    rates = np.where(np.arange(len(table.rule.table)) * 7 % 5 < 2, 3000, 30_000).astype(np.uint16)
    return sample(tables(SHAPE, kind, rates), seed, count)


@pytest.mark.parametrize("kind", TABLES)
def test_the_kind_that_made_the_messages_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_fitting, "MAX_LINEAR_BITS", 0)
    assert fit_rates(drawn(kind, 1500)).kind == kind


def test_spikes_that_depend_on_all_before_them_are_fitted_by_weights() -> None:
    chance = np.random.default_rng(3)
    groups = chance.random((800, 30)) < 0.2
    order = chance.permutation(120)
    codes = (np.repeat(groups, 4, axis=1)[:, order] ^ (chance.random((800, 120)) < 0.02)).reshape(-1, *SHAPE)
    table = fit_rates(codes[:600])
    assert table.kind == LINEAR
    by_position = fit_kind(codes[:600], "position")
    assert table.code_lengths(codes[600:]).mean() < 0.6 * by_position.code_lengths(codes[600:]).mean()


def test_noise_takes_the_smallest_table() -> None:
    assert fit_rates(np.random.default_rng(4).random((200, *SHAPE)) < 0.3).kind == "channel"


@pytest.mark.parametrize("kind", TABLES)
def test_rates_are_those_of_the_messages(kind: str) -> None:
    codes = drawn(kind, 4000)
    true = np.unique(np.where(np.arange(5) < 2, 3000, 30_000))
    fitted = fit_kind(codes, kind).rule.table.astype(int)
    off = np.abs(fitted[:, None] - true).min(axis=1)
    assert np.median(off) < 1500


def test_rates_are_smoothed_towards_the_coarser_ones_and_never_impossible() -> None:
    codes = np.zeros((10, *SHAPE), np.bool_)
    codes[:, 0] = True
    table = fit_kind(codes, "position").rule.table.reshape(2, 3, 20).astype(int)
    # the whole fires at 600.5 in 1201, a step's channel at (200 + 4 * that) in 204, a position at (10 + 4 * that) in 14
    whole = 600.5 / 1201
    expected = (10 + 4 * (200 + 4 * whole) / 204) / 14
    assert np.all(table[0] == round(65536 * expected))
    assert np.all(table[1] == round(65536 * (1 - expected)))
    silent = fit_kind(np.zeros((100_000, 1, 1, 1, 1), np.bool_), "channel").rule.table
    assert silent.tolist() == [1]


def test_weights_of_one_spike_on_another_are_its_log_odds() -> None:
    chance = np.random.default_rng(6)
    first = chance.random(20_000) < 0.5
    second = chance.random(20_000) < np.where(first, 0.8, 0.3)
    table = fit_kind(np.stack([first, second], axis=1).reshape(-1, 1, 1, 1, 2), LINEAR)
    records = to_records(table)
    alone, after = (math.log(p / (1 - p)) for p in (second[~first].mean(), second[first].mean()))
    assert records["bias"][0] / 32 == pytest.approx(0.0, abs=0.06)
    assert records["bias"][1] / 32 == pytest.approx(alone, abs=0.03)
    assert records["weights"][0] / 32 == pytest.approx(after - alone, abs=0.05)
    middle = len(records["table"]) // 2
    assert records["table"][middle] == 32768
    assert records["table"][middle + 32] == round(65536 / (1 + math.exp(-1)))


def test_fitting_is_the_same_every_time() -> None:
    codes = sample(rate_table("channel+left"), 9, 200)
    one, two = (to_records(fit_rates(codes)) for _ in range(2))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_messages_too_large_for_rates_by_position_or_weights_have_rates_by_channel() -> None:
    codes = np.random.default_rng(7).random((4, 1, 2, 200, 200)) < 0.1
    table = fit_rates(codes)
    assert table.kind.startswith("channel")
    assert table.code_length(codes[0]) == pytest.approx(80_000 * 0.469, rel=0.02)


def test_too_few_messages_are_refused() -> None:
    with pytest.raises(CompileError, match=r"^rates cannot be fitted to 1 messages; give more validation frames$"):
        fit_rates(np.zeros((1, *SHAPE), np.bool_))
