"""Layers as records of a model file: a JSON-able entry each, and named tensors ("head.0.weight")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import CompileError
from ecc_model.layers import (
    HALF_LEAK,
    LEAK_ONE,
    MAX_SHIFT,
    OP_NAMES,
    OPS,
    AnyLayer,
    AveragePool,
    Conv,
    Currents,
    Linear,
    MaxPool,
    Probe,
    Readout,
    Residual,
    Tap,
)

Tensors = dict[str, NDArray[Any]]


class _Number(NamedTuple):
    """A number of a layer: what it may be, and the value that an entry leaves out."""

    allowed: range
    default: int | None = None


_DTYPES = {
    "weight": np.int8,
    "bias": np.int32,
    "theta": np.int32,
    "scale": np.float32,
    "gain": np.int32,
}
_WIDER: dict[Any, type[np.generic]] = {(Probe, "weight"): np.int16}
_TENSORS: dict[type[AnyLayer | Currents], tuple[str, ...]] = {
    Conv: ("weight", "bias", "theta"),
    Linear: ("weight", "bias", "theta"),
    MaxPool: (),
    AveragePool: (),
    Currents: ("weight",),
    Residual: ("gain", "bias", "theta"),
    Readout: ("weight", "bias", "scale"),
    Probe: ("weight", "bias", "scale"),
}
_STRIDE, _PADDING = _Number(range(1, 9)), _Number(range(9))
_LEAK = _Number(range(LEAK_ONE + 1), HALF_LEAK)
_NUMBERS: dict[type[AnyLayer | Currents], dict[str, _Number]] = {
    Conv: {"stride": _STRIDE, "padding": _PADDING, "leak": _LEAK},
    Linear: {"leak": _LEAK},
    MaxPool: {"size": _Number(range(2, 9))},
    AveragePool: {"size": _Number(range(2, 65))},
    Currents: {"stride": _STRIDE, "padding": _PADDING},
    Residual: {"shift": _Number(range(MAX_SHIFT + 1)), "leak": _LEAK},
    Readout: {},
    Probe: {},
}
MAX_TAPS = 16
FIRST_OPS = ("conv", "linear", "maxpool", "readout")  # what files of format 1 know, without a leak of their own


def describe(section: str, layers: Sequence[AnyLayer]) -> tuple[list[dict[str, Any]], Tensors]:
    """The entries and the tensors of a section's layers; inverse of `build`."""
    tensors: Tensors = {}
    return [_describe(f"{section}.{index}", layer, tensors) for index, layer in enumerate(layers)], tensors


def build(section: str, entries: Sequence[Any], tensors: Tensors) -> tuple[AnyLayer, ...]:
    """The layers of a section; their tensors are taken out of `tensors`. `CompileError` for all that is wrong."""
    return tuple(cast(AnyLayer, _build(f"{section}.{i}", entry, tensors)) for i, entry in enumerate(entries))


def describe_taps(taps: Sequence[Tap]) -> list[list[int]]:
    """Taps as JSON: [after, grid] each; inverse of `build_taps`."""
    return [[tap.after, tap.grid] for tap in taps]


def build_taps(place: str, entries: Any) -> tuple[Tap, ...]:
    """Taps from what `describe_taps` made of them. `CompileError` for anything else."""
    pairs = entries if isinstance(entries, list) and len(entries) <= MAX_TAPS else [None]
    if any(not isinstance(pair, list) or [type(n) for n in pair] != [int, int] or min(pair) < 0 for pair in pairs):
        raise CompileError(f"{place}: its taps are no list of at most {MAX_TAPS} pairs [after, grid]")
    return tuple(Tap(after, grid) for after, grid in cast(list[list[int]], pairs))


def oldest_format(entries: Sequence[dict[str, Any]]) -> int:
    """The oldest format of model files that knows all that these entries say."""
    if any(entry["op"] == OP_NAMES[Probe] for entry in entries):
        return 3
    return 1 if all(entry["op"] in FIRST_OPS and "leak" not in entry for entry in entries) else 2


def _describe(place: str, layer: AnyLayer | Currents, tensors: Tensors) -> dict[str, Any]:
    kind = type(layer)
    entry: dict[str, Any] = {"op": OP_NAMES[kind]}
    for name, number in _NUMBERS[kind].items():
        if getattr(layer, name) != number.default:
            entry[name] = getattr(layer, name)
    for name in _TENSORS[kind]:
        tensors[f"{place}.{name}"] = getattr(layer, name)
    if isinstance(layer, Probe):
        entry["taps"] = describe_taps(layer.taps)
    if isinstance(layer, Residual):
        entry["branch"] = [_describe(f"{place}.branch.{i}", inner, tensors) for i, inner in enumerate(layer.branch)]
        entry["last"] = _describe(f"{place}.last", layer.last, tensors)
        other = layer.shortcut
        entry["shortcut"] = None if other is None else _describe(f"{place}.shortcut", other, tensors)
    return entry


def _build(
    place: str, entry: Any, tensors: Tensors, only: type[AnyLayer | Currents] | None = None
) -> AnyLayer | Currents:
    kind = OPS.get(str(entry.get("op"))) if isinstance(entry, dict) else None
    if kind is None or (kind is not only if only else kind is Currents):
        raise CompileError(f"{place}: unknown layer {entry!r:.60}")
    arguments: dict[str, Any] = {}
    for name, (allowed, default) in _NUMBERS[kind].items():
        value = entry.get(name, default)
        if type(value) is not int or value not in allowed:
            raise CompileError(f"{place}: {name} is {value!r:.20}, allowed are {allowed.start} to {allowed.stop - 1}")
        arguments[name] = value
    for name in _TENSORS[kind]:
        tensor = tensors.pop(f"{place}.{name}", None)
        dtype = _WIDER.get((kind, name), _DTYPES[name])
        if tensor is None or tensor.dtype != dtype:
            raise CompileError(f"{place}: no {np.dtype(dtype)} tensor '{name}'")
        arguments[name] = tensor
    if kind is Probe:
        arguments["taps"] = build_taps(place, entry.get("taps"))
    if kind is Residual:
        branch, shortcut = entry.get("branch"), entry.get("shortcut")
        if not isinstance(branch, list):
            raise CompileError(f"{place}: no list of layers 'branch'")
        arguments["branch"] = tuple(_build(f"{place}.branch.{i}", e, tensors, Conv) for i, e in enumerate(branch))
        arguments["last"] = _build(f"{place}.last", entry.get("last"), tensors, Currents)
        bare = shortcut is None
        arguments["shortcut"] = None if bare else _build(f"{place}.shortcut", shortcut, tensors, Currents)
    return kind(**arguments)
