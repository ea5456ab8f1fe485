"""Rate tables: how often each spike of a code fires, as the range coder needs it.

A table belongs to one bottleneck encoder and travels in the edge and the cloud model file, as integers only, so both
sides code alike on every processor. Its kind says which spikes share a rate:

| kind                        | a spike's rate depends on                                             |
|-----------------------------|-----------------------------------------------------------------------|
| `channel`                   | its step and channel                                                  |
| `position`                  | its step, channel, row and column                                     |
| either `+step+map+up+left`  | also on some spikes coded before it, named in this order (`NEIGHBOURS`) |
| `linear`                    | all spikes coded before it, by the sum of their weights                |

Spikes are coded in C order of (T, C, H, W), so leading steps can be sent alone, and later ones to a receiver that has
the leading ones.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_model import rangecoder
from ecc_model.bits import Spikes
from ecc_model.errors import ModelError, WireError
from ecc_model.program import MAX_STEPS
from ecc_model.rangecoder import ONE
from ecc_model.rate_rules import MAX_BITS, LinearRule, Rule, TableRule

LINEAR = "linear"
GROUPS = ("channel", "position")
MAX_LINEAR_BITS = 1024  # their weights take 512 KiB
MAX_CONTEXTS = 1 << 16  # of a uint16

# name -> how many (steps, channels, rows, columns) before a spike its neighbour lies; outside of the code nothing fires
NEIGHBOURS = {"step": (1, 0, 0, 0), "map": (0, 1, 0, 0), "up": (0, 0, 1, 0), "left": (0, 0, 0, 1)}

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class RateTable:
    """The rates of one encoder's spikes. Made by `tables`, `linear` or `from_records`, which check everything.

    shape: (T, C, H, W) of a whole code.
    """

    shape: Shape
    kind: str
    rule: Rule

    def encode(self, spikes: Spikes, known: int = 0) -> bytes:
        """Range coded bytes of spikes (t, C, H, W), t <= T; the receiver knows the first `known` steps already."""
        self._check_shape(spikes.shape)
        return rangecoder.encode(self.rule, np.ascontiguousarray(spikes).reshape(-1), known * self._step)

    def decode(self, data: bytes, steps: int, known: Spikes | None = None) -> Spikes:
        """Spikes (steps, C, H, W) of which the first are `known` (steps already received); inverse of `encode`.

        `WireError` for bytes that `encode` would not make, and for shapes that are not this table's.
        """
        self._check_shape((steps, *self.shape[1:]))
        if known is not None:
            self._check_shape(known.shape)
            known = np.ascontiguousarray(known).reshape(-1)
        return rangecoder.decode(self.rule, data, steps * self._step, known).reshape(steps, *self.shape[1:])

    def code_length(self, spikes: Spikes) -> float:
        """Bits that spikes (t, C, H, W) take under these rates: `-sum log2 p`. For reports: not the same everywhere."""
        return float(self.code_lengths(spikes[None])[0])

    def code_lengths(self, messages: Spikes) -> NDArray[np.float64]:
        """`code_length` of each of the messages (N, t, C, H, W)."""
        self._check_shape(messages.shape[1:])
        flat = messages.reshape(len(messages), -1)
        rates = self.rule.rates(flat).astype(np.float64) / ONE
        lengths: NDArray[np.float64] = -np.log2(np.where(flat, rates, 1.0 - rates)).sum(axis=1)
        return lengths

    @property
    def _step(self) -> int:
        return math.prod(self.shape[1:])

    def _check_shape(self, shape: Shape) -> None:
        if len(shape) != 4 or shape[1:] != self.shape[1:] or not 1 <= shape[0] <= self.shape[0]:
            raise WireError(f"spikes of shape {tuple(shape)} do not fit a rate table for {self.shape}")


def tables(shape: Shape, kind: str, table: NDArray[np.uint16]) -> RateTable:
    """A table of `table_size(shape, kind)` rates, each 1 to 65535 in units of 1/65536; `ModelError` if it is none."""
    group, names = _parse(shape, kind)
    steps, channels, height, width = shape
    sides = (
        channels * (height + 1) * (width + 1),
        (height + 1) * (width + 1),
        width + 1,
        1,
    )  # zeros above, on the left
    t, c, y, x = np.indices(shape)
    places = (t + 1) * sides[0] + c * sides[1] + (y + 1) * sides[2] + x + 1
    contexts = np.arange(math.prod(shape)) // (1 if group == "position" else height * width)
    offsets = tuple(sum(a * b for a, b in zip(NEIGHBOURS[name], sides, strict=True)) for name in names)
    if table.shape != (table_size(shape, kind),):
        raise ModelError(f"{table.shape} rates of kind {kind} for a code of shape {shape}")
    rule = TableRule(
        table, contexts.astype(np.uint16), places.reshape(-1).astype(np.uint32), (steps + 1) * sides[0] + 1, offsets
    )
    return RateTable(shape, kind, rule)


def table_size(shape: Shape, kind: str) -> int:
    """Number of rates in a table of `kind`, which is not `linear`."""
    group, names = _parse(shape, kind)
    return (math.prod(shape) if group == "position" else shape[0] * shape[1]) << len(names)


def linear(shape: Shape, table: NDArray[np.uint16], bias: NDArray[np.int16], weights: NDArray[np.int8]) -> RateTable:
    """Rates by sums of weights (see `rate_rules.LinearRule`); `ModelError` if anything does not fit."""
    _check_code(shape)
    if math.prod(shape) > MAX_LINEAR_BITS:
        raise ModelError(f"linear rates for a code of shape {shape}; it may have {MAX_LINEAR_BITS} spikes at most")
    if bias.shape != (math.prod(shape),):
        raise ModelError(f"linear rates of {bias.shape} spikes for a code of shape {shape}")
    return RateTable(shape, LINEAR, LinearRule(table, bias, weights))


def to_records(table: RateTable) -> dict[str, NDArray[Any]]:
    """The arrays of a table for a model file, beside its kind and shape; inverse of `from_records`."""
    records: dict[str, NDArray[Any]] = {"table": table.rule.table.astype(np.int32)}  # model files know no uint16
    if isinstance(table.rule, LinearRule):
        records |= {"bias": table.rule.bias, "weights": table.rule.weights}
    return records


def from_records(shape: Shape, kind: str, records: Mapping[str, NDArray[Any]]) -> RateTable:
    """The table of `kind` for codes of `shape`; `ModelError` for anything that `to_records` would not have made."""
    names = {"table", "bias", "weights"} if kind == LINEAR else {"table"}
    if set(records) != names:
        raise ModelError(
            f"rates of kind {kind[:60]!r} with the records {sorted(records)}; {sorted(names)} belong there"
        )
    rates = records["table"]
    if rates.dtype != np.int32 or rates.ndim != 1 or len(rates) == 0 or rates.min() < 1 or rates.max() >= ONE:
        raise ModelError(f"rates are int32 from 1 to {ONE - 1}")
    table = rates.astype(np.uint16)
    if kind == LINEAR:
        bias, weights = (np.require(records[name], None, ("C", "A")) for name in ("bias", "weights"))
        return linear(shape, table, bias, weights)
    return tables(shape, kind, table)


def plain_id(features_id: str) -> bytes:
    """Four bytes that name an encoder's spikes (its `features_id`, hex) in a codec without a table."""
    return bytes.fromhex(features_id)[:4]


@functools.lru_cache(maxsize=8)  # asked for with every message, and a table may hold half a megabyte
def coded_id(features_id: str, table: RateTable) -> bytes:
    """Four bytes that name the same spikes in any codec, coded with this very table."""
    digest = hashlib.sha256(bytes.fromhex(features_id) + table.kind.encode())
    for name, array in sorted(to_records(table).items()):
        digest.update(f"{name}{array.shape}".encode() + array.tobytes())
    return digest.digest()[:4]


def agreed(features_id: str, table: RateTable | None, read: Container[bytes]) -> tuple[bytes, RateTable | None]:
    """How spikes go to a receiver that reads the names `read`: under which name, and coded with which table."""
    if table is not None and (name := coded_id(features_id, table)) in read:
        return name, table
    return plain_id(features_id), None


def _check_code(shape: Shape) -> None:
    if len(shape) != 4 or min(shape) < 1 or shape[0] > MAX_STEPS or math.prod(shape) > MAX_BITS:
        raise ModelError(f"rates for a code of shape {shape}; it is (T, C, H, W) with at most {MAX_BITS} spikes")


def _parse(shape: Shape, kind: str) -> tuple[str, list[str]]:
    _check_code(shape)
    group, *names = kind.split("+")
    if group not in GROUPS or names != [name for name in NEIGHBOURS if name in names]:
        raise ModelError(f"rates of the unknown kind {kind[:60]!r}")
    if math.prod(shape if group == "position" else shape[:2]) > MAX_CONTEXTS:
        raise ModelError(
            f"rates of kind {kind} for a code of shape {shape}: at most {MAX_CONTEXTS} contexts are allowed"
        )
    return group, names
