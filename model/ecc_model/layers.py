"""The layers of an integer program: what each holds, what it computes, and the shapes that it takes and gives.

Neurons are LIF with hard reset: `U = floor(V leak / 2^15) + X`, a spike where `U >= theta`, then `V = 0`, else `V = U`.
Values between layers are spikes, 0 and 1; before the first neurons they are the frame's `uint8`, and behind an average
pool sums of spikes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import CompileError

LEAK_ONE = 1 << 15  # leaks count units of 2^-15
HALF_LEAK = LEAK_ONE // 2  # of tau 2, with input decay: what networks are trained with
MAX_SHIFT = 31
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Conv:
    """Convolution and LIF neurons; kernel K x K, zero padding.

    Shape: (T, I, H, W) -> (T, O, (H + 2 padding - K) // stride + 1, same for W).
    weight: int8 (O, I, K, K); bias: int32 (O,); theta: int32 (O,), the firing threshold; leak: in units of 2^-15.
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    theta: NDArray[np.int32]
    stride: int = 1
    padding: int = 1
    leak: int = HALF_LEAK


@dataclass(frozen=True, eq=False)
class Linear:
    """Fully connected layer over the flattened input, and LIF neurons.

    Shape: (T, ...) of I numbers a step -> (T, O). weight: int8 (O, I); bias, theta: int32 (O,); leak as in `Conv`.
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    theta: NDArray[np.int32]
    leak: int = HALF_LEAK


@dataclass(frozen=True)
class MaxPool:
    """Maximum over `size` x `size` blocks; on spikes this is OR. Shape: (T, C, H, W) -> (T, C, H/size, W/size)."""

    size: int = 2


@dataclass(frozen=True)
class AveragePool:
    """Number of spikes in `size` x `size` blocks; the divisor size^2 belongs into the scale of the layer behind it.

    Shape: (T, C, H, W) spikes -> (T, C, H/size, W/size) integers from 0 to size^2.
    """

    size: int = 2


@dataclass(frozen=True, eq=False)
class Currents:
    """Convolution without neurons or bias: one of the two summands of a `Residual`. weight: int8 (O, I, K, K)."""

    weight: NDArray[np.int8]
    stride: int = 1
    padding: int = 1


@dataclass(frozen=True, eq=False)
class Residual:
    """A residual sum and LIF neurons: `X = ((gain[0] A + gain[1] B) >> shift) + bias`, in int64 up to the shift.

    A: the currents of `last` on what the layers of `branch` make of the input; B: the currents of `shortcut` on the
    input, or (None) its spikes themselves. The gains bring both to the scale of one output channel.

    Shape: (T, I, H, W) spikes -> (T, O, H', W'). gain: int32 (2, O); bias, theta: int32 (O,); leak as in `Conv`.
    """

    branch: tuple[Conv, ...]
    last: Currents
    shortcut: Currents | None
    gain: NDArray[np.int32]
    bias: NDArray[np.int32]
    theta: NDArray[np.int32]
    shift: int
    leak: int = HALF_LEAK


@dataclass(frozen=True, eq=False)
class Readout:
    """Classifier: `logit = scale * sum_t (weight . values[t] + bias)`.

    Shape: (T, ...) of I numbers a step -> (N,). weight: int8 (N, I); bias: int32 (N,); scale: float32 (N,).
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    scale: NDArray[np.float32]


@dataclass(frozen=True)
class Tap:
    """Where a section's spikes are counted: behind its first `after` layers, in each cell of a `grid` x `grid`.

    Behind a layer without a map each neuron is counted by itself, and the grid is 1.
    """

    after: int
    grid: int = 1


@dataclass(frozen=True, eq=False)
class Probe:
    """Classifier on numbers of spikes: `logit = scale * (weight . counts + bias)`.

    counts: int (D,), for one tap after the other the spikes of all steps in each cell, (C, grid, grid) flattened, or of
    each neuron. The last tap stands at the probe itself: no layer runs for nothing.

    Shape: spikes -> (N,). weight: int16 (N, D); bias: int32 (N,); scale: float32 (N,).
    """

    taps: tuple[Tap, ...]
    weight: NDArray[np.int16]
    bias: NDArray[np.int32]
    scale: NDArray[np.float32]


Pool = MaxPool | AveragePool
Layer = Conv | Linear | MaxPool | AveragePool | Residual | Readout  # what runs on the values right before it
AnyLayer = Layer | Probe
Terminal = Readout | Probe  # what ends an exit
OPS: dict[str, type[AnyLayer | Currents]] = {
    "conv": Conv,
    "linear": Linear,
    "maxpool": MaxPool,
    "avgpool": AveragePool,
    "currents": Currents,
    "residual": Residual,
    "readout": Readout,
    "probe": Probe,
}
OP_NAMES = {kind: name for name, kind in OPS.items()}


def section_shape(layers: Sequence[AnyLayer], shape: Shape) -> Shape:
    """Shape behind `layers` for an input of `shape`; `CompileError` where a layer does not fit."""
    return [shape, *(out for _, _, out in walk("section", layers, shape))][-1]


def walk(section: str, layers: Sequence[AnyLayer], shape: Shape) -> Iterator[tuple[str, AnyLayer, Shape]]:
    """Each layer with its place ("head.0") and the shape behind it; `CompileError` where one does not fit."""
    shapes = [shape]
    for index, layer in enumerate(layers):
        place = f"{section}.{index}"
        if isinstance(layer, Probe):
            shapes.append(_probe_shape(place, layer, shapes))
        else:
            shapes.append(layer_shape(place, layer, shapes[-1]))
        yield place, layer, shapes[-1]


def tap_sizes(taps: Sequence[Tap], shapes: Sequence[Shape]) -> list[int]:
    """How many numbers each tap counts, 0 where it does not fit; shapes: of the input and behind each layer."""
    return [_tap_size(tap, shapes[tap.after]) for tap in taps]


def _tap_size(tap: Tap, shape: Shape) -> int:
    if len(shape) == 4 and tap.grid >= 1 and not (shape[2] % tap.grid or shape[3] % tap.grid):
        return shape[1] * tap.grid**2
    return shape[1] if len(shape) == 2 and tap.grid == 1 else 0


def largest_counts(taps: Sequence[Tap], shapes: Sequence[Shape]) -> NDArray[np.int64]:
    """The most that each of the numbers (D,) can be, of taps that fit: all neurons that it counts, at every step."""
    sizes = tap_sizes(taps, shapes)
    most = [math.prod(shapes[tap.after]) // size for tap, size in zip(taps, sizes, strict=True)]
    return np.repeat(np.array(most, np.int64), sizes)


def layer_shape(place: str, layer: Layer | Currents, shape: Shape) -> Shape:
    """Shape behind one layer; `CompileError` if it does not fit an input of `shape`, or its tensors each other."""
    problem = CompileError(f"{place}: {OP_NAMES[type(layer)]} does not fit an input of shape {shape}")
    if isinstance(layer, Pool):
        if len(shape) != 4 or shape[2] % layer.size or shape[3] % layer.size:
            raise problem
        return (shape[0], shape[1], shape[2] // layer.size, shape[3] // layer.size)
    if isinstance(layer, Residual):
        return _residual_shape(place, layer, shape)
    weight = layer.weight
    if weight.ndim < 2 or weight.size == 0 or any(v.shape != (len(weight),) for v in _vectors(layer)):
        raise CompileError(f"{place}: weight {weight.shape} and its vectors do not fit each other")
    if isinstance(layer, Conv | Currents):
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or len(shape) != 4 or weight.shape[1] != shape[1]:
            raise problem
        sides = [(side + 2 * layer.padding - weight.shape[2]) // layer.stride + 1 for side in shape[2:]]
        if min(sides) < 1:
            raise problem
        return (shape[0], weight.shape[0], sides[0], sides[1])
    if weight.ndim != 2 or weight.shape[1] != int(np.prod(shape[1:], dtype=np.int64)):
        raise problem
    return (weight.shape[0],) if isinstance(layer, Readout) else (shape[0], weight.shape[0])


def _vectors(layer: Conv | Linear | Readout | Currents) -> tuple[NDArray[np.generic], ...]:
    if isinstance(layer, Currents):
        return ()
    return (layer.bias, layer.scale) if isinstance(layer, Readout) else (layer.bias, layer.theta)


def _probe_shape(place: str, layer: Probe, shapes: Sequence[Shape]) -> Shape:
    """`shapes`: of the section's input and behind each layer before the probe."""
    order = [(tap.after, tap.grid) for tap in layer.taps]
    if not order or order != sorted(set(order)) or order[0][0] < 0 or order[-1][0] != len(shapes) - 1:
        raise CompileError(f"{place}: its taps are not in order, or the last of them is not at the probe itself")
    sizes, weight = tap_sizes(layer.taps, shapes), layer.weight
    if not all(sizes) or weight.ndim != 2 or not len(weight) or weight.shape[1] != sum(sizes):
        raise CompileError(f"{place}: taps {order} and weight {weight.shape} do not fit spikes of shape {shapes[-1]}")
    if any(vector.shape != (len(weight),) for vector in (layer.bias, layer.scale)):
        raise CompileError(f"{place}: weight {weight.shape} and its vectors do not fit each other")
    return (len(weight),)


def _residual_shape(place: str, layer: Residual, shape: Shape) -> Shape:
    inside = [shape, *(out for _, _, out in walk(f"{place}.branch", layer.branch, shape))][-1]
    out = layer_shape(f"{place}.last", layer.last, inside)
    other = shape if layer.shortcut is None else layer_shape(f"{place}.shortcut", layer.shortcut, shape)
    if out != other:
        raise CompileError(f"{place}: a branch of shape {out} and a shortcut of shape {other} cannot be added")
    if layer.gain.shape != (2, out[1]) or any(v.shape != (out[1],) for v in (layer.bias, layer.theta)):
        raise CompileError(f"{place}: gain {layer.gain.shape} and its vectors do not fit {out[1]} channels")
    return out
