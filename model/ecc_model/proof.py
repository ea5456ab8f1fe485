"""What is proven of an integer program before it runs: no sum and no membrane can leave its number of bits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import CompileError
from ecc_model.layers import (
    HALF_LEAK,
    LEAK_ONE,
    OP_NAMES,
    AnyLayer,
    AveragePool,
    Conv,
    Currents,
    Linear,
    MaxPool,
    Probe,
    Readout,
    Residual,
    Shape,
    Terminal,
    largest_counts,
    walk,
)

INT32_MAX = 2**31 - 1
PIXEL_MAX = 255
MAX_CLASSES = 4096
LOGIT_MAX = float(np.finfo(np.float32).max) / 4  # two exits are joined by sums of at most three logits
EXITS = ("exit", "second", "statistics")  # sections that may end with a classifier


def check_section(section: str, layers: Sequence[AnyLayer], shape: Shape, input_max: int) -> Shape:
    """The shape behind a section's layers, for inputs of `shape` between 0 and `input_max`.

    `CompileError` unless shapes fit, every layer can read the values before it, thresholds are positive, scales finite,
    and no sum or membrane can overflow.
    """
    steps, pixels = shape[0], input_max == PIXEL_MAX
    shapes, largest = [shape], [input_max]
    for place, layer, layer_out in walk(section, layers, shape):
        if isinstance(layer, MaxPool):
            if input_max != 1 and not pixels:
                raise CompileError(f"{place}: a max pool takes spikes or the frame, not sums of spikes")
        elif isinstance(layer, AveragePool):
            _needs_spikes(place, "an average pool", input_max)
            input_max = layer.size**2
        elif isinstance(layer, Terminal):
            if section not in EXITS or layer is not layers[-1]:
                raise CompileError(f"{place}: a {OP_NAMES[type(layer)]} stands only at the end of the exit")
            if isinstance(layer, Readout):
                bound = layer_bound(layer, input_max) * steps
            else:
                bound = _probe_bound(place, layer, shapes, largest)
            _check_terminal(place, layer, bound)
            input_max = 1
        else:
            if isinstance(layer, Residual):
                _needs_spikes(place, "a residual sum", input_max)
            _check_neurons(place, layer, input_max, steps)
            pixels, input_max = False, 1
        shapes.append(layer_out)
        largest.append(input_max)
    if input_max != 1 and not pixels:
        raise CompileError(f"{section} ends with an average pool: put a layer with neurons behind it")
    return shapes[-1]


def _needs_spikes(place: str, what: str, input_max: int) -> None:
    if input_max != 1:
        raise CompileError(f"{place}: {what} takes spikes, neither the frame nor sums of spikes")


def _probe_bound(place: str, layer: Probe, shapes: Sequence[Shape], largest: Sequence[int]) -> int:
    """Largest possible `|weight . counts + bias|`. shapes, largest: of the input and the values behind each layer."""
    if any(largest[tap.after] != 1 for tap in layer.taps):
        raise CompileError(f"{place}: a probe counts spikes, not sums of spikes")
    most, bias = largest_counts(layer.taps, shapes), np.abs(layer.bias.astype(np.int64))
    sums = np.abs(layer.weight.astype(np.int64)) @ most + bias
    return int(sums.max())


def _check_terminal(place: str, layer: Terminal, bound: int) -> None:
    if layer.weight.shape[0] > MAX_CLASSES:
        raise CompileError(f"{place}: more than {MAX_CLASSES} classes")
    if not (np.isfinite(layer.scale).all() and (layer.scale > 0).all()):
        raise CompileError(f"{place}: scales must be finite and above zero")
    prove(place, bound)
    if bound * float(layer.scale.max()) > LOGIT_MAX:
        raise CompileError(f"{place}: logits may leave float32; take smaller scales")


def _check_neurons(place: str, layer: Conv | Linear | Residual, input_max: int, steps: int) -> None:
    if (layer.theta < 1).any():
        raise CompileError(f"{place}: a firing threshold below 1")
    if isinstance(layer, Residual):
        for index, inner in enumerate(layer.branch):
            _check_neurons(f"{place}.branch.{index}", inner, 1, steps)
        bound = _residual_bound(place, layer)
    else:
        bound = layer_bound(layer, input_max)
    prove(place, membrane_bound(bound, layer.leak, steps))


def layer_bound(layer: Conv | Linear | Readout | Currents, input_max: int) -> int:
    """Largest possible `|sum + bias|` of one output in one step, for inputs between 0 and `input_max`."""
    bound = _weight_sums(layer.weight) * input_max
    if not isinstance(layer, Currents):
        bound += np.abs(layer.bias.astype(np.int64))
    return int(bound.max())


def membrane_bound(bound: int, leak: int, steps: int) -> int:
    """Largest possible `|U|` of neurons whose inputs X stay within `bound`, in `steps` steps from rest."""
    if leak == HALF_LEAK:  # |U| <= |V| / 2 + |X| and |V| <= |U|, + 1 for the floor: true of any number of steps
        return 2 * bound + 1
    largest = bound
    for _ in range(steps - 1):
        largest = bound - (-largest * leak // LEAK_ONE)  # |floor(V leak)| is at most the ceiling of |V| leak
    return largest


def _residual_bound(place: str, layer: Residual) -> int:
    """Largest possible `|X|`; the proof of its two sums comes first.

    Sums and gains are of 32 bits, so the products are at most 2^62 and their sum fits 64.
    """
    sums = [_current_sums(f"{place}.last", layer.last), _current_sums(f"{place}.shortcut", layer.shortcut)]
    gains = np.abs(layer.gain.astype(np.int64))
    joined = gains[0] * sums[0] + gains[1] * sums[1]
    shifted = (joined >> layer.shift) + 1  # + 1 for the floor
    return int((shifted + np.abs(layer.bias.astype(np.int64))).max())


def _current_sums(place: str, currents: Currents | None) -> NDArray[np.int64]:
    """Largest possible sum of each output channel for spikes as inputs; those of bare spikes are 1."""
    if currents is None:
        return np.ones(1, np.int64)
    sums = _weight_sums(currents.weight)
    prove(place, int(sums.max()))
    return sums


def _weight_sums(weight: NDArray[np.int8]) -> NDArray[np.int64]:
    sums: NDArray[np.int64] = np.abs(weight.astype(np.int64)).reshape(len(weight), -1).sum(axis=1)
    return sums


def prove(place: str, bound: int) -> None:
    """`CompileError` unless `bound` fits int32: the accumulator can then never overflow."""
    if bound > INT32_MAX:
        raise CompileError(f"{place}: sums may reach {bound}, beyond int32; scale the weights down")
