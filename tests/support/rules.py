"""Rules of the range coder for tests: made by arithmetic alone, so that golden bytes depend on nothing else."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecc_model.rate_rules import LinearRule, Rule, TableRule

MAX_SIZE = 200


def numbers(count: int, seed: int, below: int) -> NDArray[np.int64]:
    """`count` numbers from 0 to `below` - 1 by Knuth's linear congruence modulo 2^64."""
    state, drawn = seed, []
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        drawn.append((state >> 33) % below)
    return np.array(drawn, np.int64)


def table_rule(size: int, seed: int, *, offsets: tuple[int, ...] = (), extreme: bool = False) -> TableRule:
    """Up to eight contexts; `extreme`: rates near 0 and 1."""
    groups = 1 + seed % 8
    rates = 1 + numbers(groups << len(offsets), seed, 65535)
    if extreme:
        rates = np.where(rates % 2 == 0, 1 + rates % 9, 65535 - rates % 9)
    places = 20 + np.cumsum(numbers(size, seed + 1, 2) + 1)
    return TableRule(
        rates.astype(np.uint16),
        numbers(size, seed + 2, groups).astype(np.uint16),
        places.astype(np.uint32),
        int(places[-1]) + 1,
        offsets,
    )


def linear_rule(size: int, seed: int) -> LinearRule:
    """Every bit moves every later one; sums leave the table at both ends."""
    return LinearRule(
        (1 + np.arange(705) * 93).astype(np.uint16),
        (numbers(size, seed, 400) - 250).astype(np.int16),
        (numbers(size * (size - 1) // 2, seed + 1, 101) - 50).astype(np.int8),
    )


def bits_of(size: int, seed: int, percent: int) -> NDArray[np.bool_]:
    """Bits (size,), about `percent` % of them ones."""
    return numbers(size, seed, 100) < percent


def all_rules(size: int, seed: int) -> dict[str, Rule]:
    """One rule of each sort."""
    return {
        "plain": table_rule(size, seed),
        "extreme": table_rule(size, seed, extreme=True),
        "neighbours": table_rule(size, seed, offsets=(1, 7, 20)),
        "linear": linear_rule(size, seed),
    }


NAMES = tuple(all_rules(1, 0))


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Any rule of up to `MAX_SIZE` bits."""
    size, seed = draw(st.integers(1, MAX_SIZE)), draw(st.integers(0, 2**32))
    return all_rules(size, seed)[draw(st.sampled_from(NAMES))]
