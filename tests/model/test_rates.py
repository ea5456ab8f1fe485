"""Rate tables: which spikes share a rate, what they save, and what a model file may hold of them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecc_model import rates, safetensors
from ecc_model.errors import ModelError, WireError
from ecc_model.rate_rules import LinearRule, TableRule
from ecc_model.rates import LINEAR, NEIGHBOURS, RateTable, from_records, table_size, tables, to_records
from support.rate_tables import KINDS, SHAPE, rate_table, sample

CELLS = list(itertools.product(*map(range, SHAPE)))


def context(spikes: np.ndarray, cell: tuple[int, ...], kind: str) -> int:
    """Where a spike's rate stands, straight from the words in the module's table."""
    t, c, y, x = cell
    group, *names = kind.split("+")
    _, channels, height, width = SHAPE
    index = t * channels + c
    if group == "position":
        index = (index * height + y) * width + x
    for name in names:
        before = {
            "step": spikes[t - 1, c, y, x] if t else False,
            "map": spikes[t, c - 1, y, x] if c else spikes[t - 1, channels - 1, y, x] if t else False,
            "up": spikes[t, c, y - 1, x] if y else False,
            "left": spikes[t, c, y, x - 1] if x else False,
        }[name]
        index = 2 * index + int(before)
    return index


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != LINEAR])
def test_spikes_share_rates_as_the_kind_says(kind: str) -> None:
    table = rate_table(kind)
    for spikes in sample(table, 1, 3):
        expected = [table.rule.table[context(spikes, cell, kind)] for cell in CELLS]
        assert table.rule.rates(spikes.reshape(1, -1))[0].tolist() == expected


def test_linear_rates_are_sums_of_the_spikes_before() -> None:
    table = rate_table(LINEAR)
    rule = table.rule
    assert isinstance(rule, LinearRule)
    spikes = sample(table, 2)[0].reshape(-1)
    weights = np.zeros((rule.size, rule.size), np.int64)
    weights[np.triu_indices(rule.size, 1)] = rule.weights
    for i, rate in enumerate(rule.rates(spikes[None])[0]):
        total = rule.bias[i] + sum(weights[j, i] for j in range(i) if spikes[j])
        assert rate == rule.table[min(max(len(rule.table) // 2 + total, 0), len(rule.table) - 1)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), st.tuples(*[st.integers(1, 4)] * 4), st.integers(0, 1000), st.data())
def test_spikes_come_back(kind: str, shape: tuple[int, ...], seed: int, data: st.DataObject) -> None:
    table = rate_table(kind, shape, seed)
    spikes = np.random.default_rng(seed).random(shape) < data.draw(st.floats(0, 1))
    back = table.decode(table.encode(spikes), shape[0])
    assert (back.dtype, back.shape) == (np.bool_, shape)
    np.testing.assert_array_equal(back, spikes)
    if shape[0] > 1:
        first = data.draw(st.integers(1, shape[0] - 1))
        np.testing.assert_array_equal(table.decode(table.encode(spikes[:first]), first), spikes[:first])
        rest = table.encode(spikes, known=first)
        np.testing.assert_array_equal(table.decode(rest, shape[0], spikes[:first]), spikes)


def test_order_is_that_of_the_shape_not_of_the_memory() -> None:
    table = rate_table("position+up")
    spikes = sample(table, 3)[0]
    turned = np.ascontiguousarray(spikes.transpose(3, 2, 1, 0)).transpose(3, 2, 1, 0)
    assert table.encode(turned) == table.encode(spikes)
    np.testing.assert_array_equal(table.decode(table.encode(turned), 2), spikes)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_the_code_length_and_at_most_eight_bits(kind: str) -> None:
    table = rate_table(kind)
    messages = sample(table, 4, 20)
    lengths = table.code_lengths(messages)
    assert lengths.tolist() == [table.code_length(spikes) for spikes in messages]
    for spikes, length in zip(messages, lengths, strict=True):
        assert 8 * len(table.encode(spikes)) < length + 8
        steps = table.code_length(spikes[:1])
        assert 0 < steps < length


def test_code_length_is_the_sum_of_the_surprises() -> None:
    table = tables((1, 1, 1, 2), "position", np.array([16384, 32768], np.uint16))
    assert table.code_length(np.array([True, True]).reshape(1, 1, 1, 2)) == 3.0
    assert table.code_length(np.array([False, True]).reshape(1, 1, 1, 2)) == pytest.approx(1.0 - math.log2(0.75))


@pytest.mark.parametrize("kind", KINDS)
def test_records_come_back_from_a_model_file(kind: str) -> None:
    table = rate_table(kind)
    stored = safetensors.load(safetensors.dump(to_records(table)))
    again = from_records(SHAPE, kind, stored)
    assert (again.shape, again.kind) == (SHAPE, kind)
    for spikes in sample(table, 6, 5):
        data = table.encode(spikes)
        assert again.encode(spikes) == data
        np.testing.assert_array_equal(again.decode(data, 2), spikes)


def test_records_that_lie_askew_in_a_file_are_read() -> None:
    records = to_records(rate_table(LINEAR))
    raw = bytearray(1 + records["bias"].nbytes)
    raw[1:] = records["bias"].tobytes()
    askew = np.frombuffer(raw, np.uint8)[1:].view(np.int16)
    assert not askew.flags.aligned
    spikes = sample(rate_table(LINEAR), 6)[0]
    table = from_records(SHAPE, LINEAR, records | {"bias": askew})
    assert table.encode(spikes) == rate_table(LINEAR).encode(spikes)


def ints(count: int, value: int = 5) -> np.ndarray:
    return np.full(count, value, np.int32)


LINEAR_RECORDS = to_records(rate_table(LINEAR))


@pytest.mark.parametrize(
    ("shape", "kind", "records", "text"),
    [
        (SHAPE, "channel", {}, "rates of kind 'channel' with the records []; ['table'] belong there"),
        (
            SHAPE,
            "channel",
            {"table": ints(6), "bias": ints(6)},
            "rates of kind 'channel' with the records ['bias', 'table']",
        ),
        (SHAPE, LINEAR, {"table": ints(6)}, "rates of kind 'linear' with the records ['table']"),
        (SHAPE, "channel", {"table": ints(5)}, "(5,) rates of kind channel for a code of shape (2, 3, 4, 5)"),
        (SHAPE, "channel+up", {"table": ints(6)}, "(6,) rates of kind channel+up for a code of shape"),
        (SHAPE, "channel", {"table": ints(6, 0)}, "rates are int32 from 1 to 65535"),
        (SHAPE, "channel", {"table": ints(6, 65536)}, "rates are int32 from 1 to 65535"),
        (SHAPE, "channel", {"table": ints(6).astype(np.float32)}, "rates are int32 from 1 to 65535"),
        (SHAPE, "channel", {"table": ints(6).reshape(2, 3)}, "rates are int32 from 1 to 65535"),
        (SHAPE, "", {"table": ints(6)}, "rates of the unknown kind ''"),
        (SHAPE, "pixel", {"table": ints(6)}, "rates of the unknown kind 'pixel'"),
        (SHAPE, "channel+down", {"table": ints(6)}, "rates of the unknown kind 'channel+down'"),
        (SHAPE, "channel+left+up", {"table": ints(24)}, "rates of the unknown kind 'channel+left+up'"),
        (SHAPE, "channel+up+up", {"table": ints(24)}, "rates of the unknown kind 'channel+up+up'"),
        ((2, 3, 4), "channel", {"table": ints(6)}, "rates for a code of shape (2, 3, 4); it is (T, C, H, W)"),
        ((2, 3, 4, 0), "channel", {"table": ints(6)}, "rates for a code of shape (2, 3, 4, 0); it is (T, C, H, W)"),
        ((17, 1, 1, 1), "channel", {"table": ints(17)}, "rates for a code of shape (17, 1, 1, 1); it is (T, C, H, W)"),
        ((2, 2**20, 2, 1), "channel", {"table": ints(6)}, "rates for a code of shape (2, 1048576, 2, 1)"),
        ((2, 2**16, 1, 1), "channel", {"table": ints(6)}, "at most 65536 contexts are allowed"),
        ((1, 1, 512, 512), "position", {"table": ints(6)}, "at most 65536 contexts are allowed"),
        (
            (1, 1, 32, 33),
            LINEAR,
            LINEAR_RECORDS,
            "linear rates for a code of shape (1, 1, 32, 33); it may have 1024 spikes",
        ),
        ((2, 3, 4, 4), LINEAR, LINEAR_RECORDS, "linear rates of (120,) spikes for a code of shape (2, 3, 4, 4)"),
        (SHAPE, LINEAR, LINEAR_RECORDS | {"bias": ints(120)}, "bias of int32 (120,) where int16 (120,) belong"),
        (SHAPE, LINEAR, LINEAR_RECORDS | {"weights": ints(9)}, "weights of int32 (9,) where int8 (7140,) belong"),
        (SHAPE, LINEAR, LINEAR_RECORDS | {"bias": np.zeros((), np.int16)}, "linear rates of () spikes"),
    ],
)
def test_records_that_lie(shape: Any, kind: str, records: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(ModelError) as raised:
        from_records(shape, kind, records)
    assert text in str(raised.value)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"table": np.zeros(8, np.uint16)}, "a rate table that is empty or holds the rate 0"),
        ({"table": np.zeros(0, np.uint16)}, "a rate table that is empty or holds the rate 0"),
        ({"table": np.ones(7, np.uint16)}, "a rate table of 7 entries is too short for its contexts"),
        ({"contexts": np.array([0, 1, 0, 4], np.uint16)}, "a rate table of 8 entries is too short for its contexts"),
        ({"contexts": np.zeros(4, np.int64)}, "contexts of int64 (4,) where uint16 (4,) belong"),
        ({"places": np.array([3, 4, 5], np.uint32)}, "places of uint32 (3,) where uint32 (4,) belong"),
        ({"places": np.array([3, 4, 4, 5], np.uint32)}, "places of 1 to 2097152 bits rise and stay below 9"),
        ({"places": np.array([3, 4, 5, 9], np.uint32)}, "places of 1 to 2097152 bits rise and stay below 9"),
        ({"contexts": np.zeros(0, np.uint16), "places": np.zeros(0, np.uint32)}, "places of 1 to 2097152 bits"),
        ({"offsets": (0,)}, "offsets (0,): at most 8, from 1 to the first place"),
        ({"offsets": (4,)}, "offsets (4,): at most 8, from 1 to the first place"),
        ({"offsets": (1,) * 9}, "at most 8, from 1 to the first place"),
    ],
)
def test_rules_that_lead_out_of_their_tables_are_refused(changed: dict[str, Any], text: str) -> None:
    good: dict[str, Any] = {
        "table": np.ones(8, np.uint16),
        "contexts": np.array([0, 1, 2, 3], np.uint16),
        "places": np.array([3, 4, 6, 8], np.uint32),
        "cells": 9,
        "offsets": (3,),
    }
    assert TableRule(**good).size == 4
    with pytest.raises(ModelError) as raised:
        TableRule(**(good | changed))
    assert text in str(raised.value)


@pytest.mark.parametrize(
    "shape",
    [(3, 3, 4, 5), (2, 3, 5, 4), (2, 3, 4), (2, 3, 4, 5, 1), (0, 3, 4, 5)],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_spikes_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    table = rate_table("channel")
    text = rf"^spikes of shape \({', '.join(map(str, shape))}\) do not fit a rate table for \(2, 3, 4, 5\)$"
    for attempt in (table.encode, table.code_length):
        with pytest.raises(WireError, match=text):
            attempt(np.zeros(shape, np.bool_))
    with pytest.raises(WireError, match=text):
        table.decode(b"\0", 2, np.zeros(shape, np.bool_))


def test_steps_beyond_the_table_are_refused() -> None:
    table: RateTable = rate_table("channel")
    for steps in (0, 3, 2**40):
        with pytest.raises(WireError, match=rf"^spikes of shape \({steps}, 3, 4, 5\) do not fit a rate table"):
            table.decode(b"\0", steps)
    with pytest.raises(WireError, match="of them known"):
        table.encode(np.zeros(SHAPE, np.bool_), known=2)


def test_names_of_neighbours_are_in_their_order() -> None:
    for size in range(len(NEIGHBOURS) + 1):
        for names in itertools.combinations(NEIGHBOURS, size):
            assert table_size(SHAPE, "+".join(("channel", *names))) == 6 << size
            assert rates.table_size(SHAPE, "+".join(("position", *names))) == 120 << size
