"""Rate tables for tests, and codes that fire as they say."""

from __future__ import annotations

import math

import numpy as np

from ecc_model import rates
from ecc_model.bits import Spikes
from ecc_model.rates import LINEAR, RateTable, Shape
from support.rules import linear_rule, numbers

SHAPE = (2, 3, 4, 5)
KINDS = ("channel", "position", "channel+step+map+up+left", "position+up", "channel+step+left", LINEAR)


def rate_table(kind: str, shape: Shape = SHAPE, seed: int = 5) -> RateTable:
    """Rates from 2 % to 40 %, for a linear table from all to nothing."""
    if kind == LINEAR:
        rule = linear_rule(math.prod(shape), seed)
        return rates.linear(shape, rule.table, rule.bias, rule.weights)
    table = (1300 + numbers(rates.table_size(shape, kind), seed, 25_000)).astype(np.uint16)
    return rates.tables(shape, kind, table)


def sample(table: RateTable, seed: int, count: int = 1) -> Spikes:
    """Codes (count, T, C, H, W) of spikes that fire at the table's rates."""
    chance = np.random.default_rng(seed)
    flat = np.zeros((count, math.prod(table.shape)), np.bool_)
    for i in range(flat.shape[1]):
        flat[:, i] = 65536 * chance.random(count) < table.rule.rates(flat[:, : i + 1])[:, i]
    return flat.reshape(count, *table.shape)
