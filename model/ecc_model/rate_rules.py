"""Which probability the range coder gives to a bit, by the bits coded before it.

Both rules look a probability up in a table of uint16, in units of 1/65536 and never 0. They know nothing of steps and
channels (`ecc_model.rates` does) and are all integers. `native/range_coder.c` reads the same fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import ModelError

Bits = NDArray[np.bool_]
Table = NDArray[np.uint16]

MAX_BITS = 1 << 21
MAX_OFFSETS = 8  # as in range_coder.c


@dataclass(frozen=True, eq=False)
class TableRule:
    """Bit i has the rate `table[contexts[i]]`, or one of a finer context by the bits at `offsets`.

    contexts: uint16 (N,). Bit i lies in cell `places[i]` (uint32 (N,), strictly rising) of `cells` cells that are zero
    elsewhere. Each offset d doubles the contexts: `context = 2 * context + cell[places[i] - d]`.
    `ModelError` where anything leads out of its range.
    """

    table: Table
    contexts: NDArray[np.uint16]
    places: NDArray[np.uint32]
    cells: int
    offsets: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_table(self.table)
        _check(self.contexts, np.uint16, "contexts", self.contexts.shape[:1])
        _check(self.places, np.uint32, "places", self.contexts.shape)
        rising = np.diff(self.places.astype(np.int64)) > 0
        if not (1 <= self.size <= MAX_BITS and rising.all() and self.places[-1] < self.cells):
            raise ModelError(f"places of 1 to {MAX_BITS} bits rise and stay below {self.cells}")
        if len(self.offsets) > MAX_OFFSETS or any(not 1 <= offset <= self.places[0] for offset in self.offsets):
            raise ModelError(f"offsets {self.offsets}: at most {MAX_OFFSETS}, from 1 to the first place")
        if (int(self.contexts.max()) + 1) << len(self.offsets) > len(self.table):
            raise ModelError(f"a rate table of {len(self.table)} entries is too short for its contexts")

    @property
    def size(self) -> int:
        """Number of bits N."""
        return len(self.contexts)

    @cached_property
    def c_fields(self) -> dict[str, int]:
        """Fields of `struct ecc_rule`; its arrays live as long as this rule."""
        return {
            "table": self.table.ctypes.data,
            "table_size": len(self.table),
            "size": self.size,
            "cells": self.cells,
            "contexts": self.contexts.ctypes.data,
            "places": self.places.ctypes.data,
            "offsets": self._offsets.ctypes.data,
            "offset_count": len(self.offsets),
        }

    @cached_property
    def _offsets(self) -> NDArray[np.uint32]:
        return np.array(self.offsets, np.uint32)

    def rates(self, messages: Bits) -> Table:
        """The rates of all bits of the messages (M, n), n <= N."""
        places = self.places[: messages.shape[1]].astype(np.int64)
        cells = np.zeros((len(messages), self.cells), np.bool_)
        cells[:, places] = messages
        index = np.broadcast_to(self.contexts[: len(places)].astype(np.int64), messages.shape)
        for offset in self.offsets:
            index = 2 * index + cells[:, places - offset]
        return self.table[index]

    def follow(self, cells: memoryview, first: int) -> FollowTable:
        """The rule at work on bits that come one by one into `cells`."""
        return FollowTable(self, cells)


@dataclass(frozen=True, eq=False)
class LinearRule:
    """Bit i has the rate `table[middle + bias[i] + the weights of all ones before it]`, clipped to the table.

    middle = len(table) // 2. bias: int16 (N,). weights: int8 (N * (N - 1) / 2,): what bit 0 adds to bits 1 to N - 1,
    then what bit 1 adds to bits 2 to N - 1, and so on. `ModelError` as for `TableRule`.
    """

    table: Table
    bias: NDArray[np.int16]
    weights: NDArray[np.int8]

    def __post_init__(self) -> None:
        _check_table(self.table)
        _check(self.bias, np.int16, "bias", self.bias.shape[:1])
        if not 1 <= self.size <= MAX_BITS:
            raise ModelError(f"rates of {self.size} bits; 1 to {MAX_BITS} are allowed")
        _check(self.weights, np.int8, "weights", (self.size * (self.size - 1) // 2,))

    @property
    def size(self) -> int:
        """Number of bits N."""
        return len(self.bias)

    @property
    def cells(self) -> int:
        """Bits lie beside each other."""
        return self.size

    @cached_property
    def places(self) -> NDArray[np.uint32]:
        """Bits lie beside each other."""
        return np.arange(self.size, dtype=np.uint32)

    @cached_property
    def c_fields(self) -> dict[str, int]:
        """Fields of `struct ecc_rule`; its arrays live as long as this rule."""
        return {
            "table": self.table.ctypes.data,
            "table_size": len(self.table),
            "size": self.size,
            "cells": self.size,
            "bias": self.bias.ctypes.data,
            "weights": self.weights.ctypes.data,
        }

    def rates(self, messages: Bits) -> Table:
        """The rates of all bits of the messages (M, n), n <= N."""
        count = messages.shape[1]
        effects = np.zeros((self.size, self.size))  # float64: exact for any sum of int8
        effects[np.triu_indices(self.size, 1)] = self.weights
        sums = (messages.astype(np.float64) @ effects[:count, :count]).astype(np.int64) + self.bias[:count]
        return cast(Table, self.table[np.clip(sums + len(self.table) // 2, 0, len(self.table) - 1)])

    def follow(self, cells: memoryview, first: int) -> FollowLinear:
        """The rule at work on bits that come one by one into `cells`, where the first ones stand already."""
        return FollowLinear(self, cells, first)


Rule = TableRule | LinearRule


class FollowTable:
    """`TableRule`, bit by bit."""

    def __init__(self, rule: TableRule, cells: memoryview) -> None:
        self._table, self._contexts, self._places = rule.table.data, rule.contexts.data, rule.places.data
        self._offsets, self._cells = rule.offsets, cells

    def rate(self, i: int) -> int:
        """Of bit i, when all before it are in their cells."""
        index, place = self._contexts[i], self._places[i]
        for offset in self._offsets:
            index = 2 * index + self._cells[place - offset]
        return self._table[index]

    def fired(self, i: int) -> None:
        """Bit i is a one: its cell tells."""


class FollowLinear:
    """`LinearRule`, bit by bit."""

    def __init__(self, rule: LinearRule, cells: memoryview, first: int) -> None:
        self._table, self._weights, self._size = rule.table.data, rule.weights, rule.size
        self._sums = rule.bias.astype(np.int64) + len(rule.table) // 2
        for i in range(first):
            if cells[i]:
                self.fired(i)

    def rate(self, i: int) -> int:
        """Of bit i, when all ones before it have fired."""
        return self._table[min(max(int(self._sums[i]), 0), len(self._table) - 1)]

    def fired(self, i: int) -> None:
        """Bit i is a one: what it adds to those after it."""
        start = i * (2 * self._size - i - 1) // 2
        self._sums[i + 1 :] += self._weights[start : start + self._size - i - 1]


def _check(array: NDArray[Any], dtype: type, name: str, shape: tuple[int, ...]) -> None:
    straight = array.flags.c_contiguous and array.flags.aligned  # C reads it as it lies
    if array.dtype != dtype or array.shape != shape or array.ndim != 1 or not straight:
        raise ModelError(f"{name} of {array.dtype} {array.shape} where {np.dtype(dtype)} {shape} belong")


def _check_table(table: Table) -> None:
    _check(table, np.uint16, "a rate table", table.shape[:1])
    if len(table) == 0 or table.min() < 1:
        raise ModelError("a rate table that is empty or holds the rate 0")
