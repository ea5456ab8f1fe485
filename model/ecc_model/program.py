"""The integer program: what a device runs instead of a float network.

A program is three lists of layers: the head (frame to split point), the encoder (split point to the code that
travels) and the exit (split point to logits). All weights, sums and membranes are integers, so that every engine on
every processor emits the same bits; `ecc_model.reference` defines their meaning.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import CompileError
from ecc_model.frames import FrameSpec

INT32_MAX = 2**31 - 1
PIXEL_MAX = 255
MAX_STEPS = 16
MAX_CLASSES = 4096
Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Conv:
    """Convolution and LIF neurons; kernel K x K, zero padding.

    Shape: (T, I, H, W) -> (T, O, (H + 2 padding - K) // stride + 1, same for W).
    weight: int8 (O, I, K, K); bias: int32 (O,); theta: int32 (O,), the firing threshold.
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    theta: NDArray[np.int32]
    stride: int = 1
    padding: int = 1


@dataclass(frozen=True, eq=False)
class Linear:
    """Fully connected layer over the flattened input, and LIF neurons.

    Shape: (T, ...) of I numbers a step -> (T, O). weight: int8 (O, I); bias, theta: int32 (O,).
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    theta: NDArray[np.int32]


@dataclass(frozen=True)
class MaxPool:
    """Maximum over `size` x `size` blocks; on spikes this is OR. Shape: (T, C, H, W) -> (T, C, H/size, W/size)."""

    size: int = 2


@dataclass(frozen=True, eq=False)
class Readout:
    """Classifier: `logit = scale * sum_t (weight . spikes[t] + bias)`.

    Shape: (T, ...) of I numbers a step -> (N,). weight: int8 (N, I); bias: int32 (N,); scale: float32 (N,).
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    scale: NDArray[np.float32]


Layer = Conv | Linear | MaxPool | Readout
_KINDS: dict[str, type[Layer]] = {"conv": Conv, "linear": Linear, "maxpool": MaxPool, "readout": Readout}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_DTYPES = {"weight": np.int8, "bias": np.int32, "theta": np.int32, "scale": np.float32}
_TENSORS: dict[type[Layer], tuple[str, ...]] = {
    Conv: ("weight", "bias", "theta"),
    Linear: ("weight", "bias", "theta"),
    MaxPool: (),
    Readout: ("weight", "bias", "scale"),
}
_NUMBERS: dict[type[Layer], dict[str, range]] = {
    Conv: {"stride": range(1, 9), "padding": range(9)},
    Linear: {},
    MaxPool: {"size": range(2, 9)},
    Readout: {},
}
SECTIONS = ("head", "encoder", "exit")


@dataclass(frozen=True, eq=False)
class Program:
    """Head, encoder and exit for one kind of frame; checked when made (`CompileError`)."""

    input: FrameSpec
    head: tuple[Layer, ...]
    encoder: tuple[Layer, ...]
    exit: tuple[Layer, ...]

    def __post_init__(self) -> None:
        spec = self.input
        if not (1 <= spec.steps <= MAX_STEPS and 1 <= spec.channels <= 3):
            raise CompileError(f"a program has 1 to {MAX_STEPS} steps and 1 to 3 channels, not {spec}")
        if not (1 <= spec.height <= 4096 and 1 <= spec.width <= 4096):
            raise CompileError(f"a program's frames have sides of 1 to 4096 pixels, not {spec}")
        frame = (spec.steps, spec.channels, spec.height, spec.width)
        split = _check_section("head", self.head, frame, PIXEL_MAX)
        _check_section("encoder", self.encoder, split, 1)
        _check_section("exit", self.exit, split, 1)
        if not self.exit or not isinstance(self.exit[-1], Readout):
            raise CompileError("the exit ends with a readout")
        if not (self.head and self.encoder and len(split) == 4 and len(self.code_shape) == 4):
            raise CompileError("head and encoder end with feature maps")
        if all(isinstance(layer, MaxPool) for layer in self.head):
            raise CompileError("the head has no layer with neurons: its pixels would not become spikes")

    @property
    def steps(self) -> int:
        """Time steps T of each frame."""
        return self.input.steps

    @property
    def classes(self) -> int:
        """Number of logits N."""
        return int(self.readout.weight.shape[0])

    @property
    def readout(self) -> Readout:
        """The classifier at the end of the exit."""
        return cast(Readout, self.exit[-1])

    @cached_property
    def split_shape(self) -> Shape:
        """Spikes at the split point: (T, C, H, W)."""
        spec = self.input
        return section_shape(self.head, (spec.steps, spec.channels, spec.height, spec.width))

    @cached_property
    def code_shape(self) -> Shape:
        """Spikes that travel: (T, C', H', W')."""
        return section_shape(self.encoder, self.split_shape)

    @cached_property
    def features_id(self) -> str:
        """SHA-256 (hex) of the integer head and encoder: equal id, equal bits. Learning never changes it."""
        digest = hashlib.sha256()
        spec, tensors = to_records(self)
        digest.update(json.dumps([spec["input"], spec["head"], spec["encoder"]], sort_keys=True).encode())
        for name in sorted(tensors):
            if not name.startswith("exit."):
                digest.update(f"{name}{tensors[name].shape}".encode() + tensors[name].tobytes())
        return digest.hexdigest()


def to_records(program: Program) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """A JSON-able description and the named tensors ("head.0.weight", ...); inverse of `from_records`."""
    spec: dict[str, Any] = {
        "input": [program.input.steps, program.input.channels, program.input.height, program.input.width]
    }
    tensors: dict[str, NDArray[Any]] = {}
    for section in SECTIONS:
        spec[section] = []
        for index, layer in enumerate(getattr(program, section)):
            kind = type(layer)
            spec[section].append({"op": _NAMES[kind]} | {n: getattr(layer, n) for n in _NUMBERS[kind]})
            for name in _TENSORS[kind]:
                tensors[f"{section}.{index}.{name}"] = getattr(layer, name)
    return spec, tensors


def from_records(spec: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> Program:
    """Build and check a program. `CompileError` for anything missing, unknown, left over or of the wrong type."""
    remaining = dict(tensors)
    sections: dict[str, tuple[Layer, ...]] = {}
    frame = spec.get("input")
    if not (isinstance(frame, list) and len(frame) == 4 and all(type(n) is int for n in frame)):
        raise CompileError("the program's input is not [steps, channels, height, width]")
    for section in SECTIONS:
        layers = spec.get(section)
        if not isinstance(layers, list):
            raise CompileError(f"the program has no section '{section}'")
        sections[section] = tuple(
            _build_layer(f"{section}.{index}", entry, remaining) for index, entry in enumerate(layers)
        )
    if remaining:
        names = ", ".join(repr(name[:60]) for name in sorted(remaining)[:3])
        raise CompileError(f"tensors that no layer uses: {names}")
    return Program(FrameSpec(*frame), **sections)


def _build_layer(place: str, entry: Any, tensors: dict[str, NDArray[Any]]) -> Layer:
    kind = _KINDS.get(str(entry.get("op"))) if isinstance(entry, dict) else None
    if kind is None:
        raise CompileError(f"{place}: unknown layer {entry!r:.60}")
    arguments: dict[str, Any] = {}
    for name, allowed in _NUMBERS[kind].items():
        value = entry.get(name)
        if type(value) is not int or value not in allowed:
            raise CompileError(f"{place}: {name} is {value!r:.20}, allowed are {allowed.start} to {allowed.stop - 1}")
        arguments[name] = value
    for name in _TENSORS[kind]:
        tensor = tensors.pop(f"{place}.{name}", None)
        if tensor is None or tensor.dtype != _DTYPES[name]:
            raise CompileError(f"{place}: no {np.dtype(_DTYPES[name])} tensor '{name}'")
        arguments[name] = tensor
    return kind(**arguments)


def section_shape(layers: Sequence[Layer], shape: Shape) -> Shape:
    """Shape behind `layers` for an input of `shape`; `CompileError` where a layer does not fit."""
    return [shape, *(out for _, out in _walk("section", layers, shape))][-1]


def _walk(section: str, layers: Sequence[Layer], shape: Shape) -> Iterator[tuple[Layer, Shape]]:
    for index, layer in enumerate(layers):
        shape = _layer_shape(f"{section}.{index}", layer, shape)
        yield layer, shape


def _layer_shape(place: str, layer: Layer, shape: Shape) -> Shape:
    problem = CompileError(f"{place}: {_NAMES[type(layer)]} does not fit an input of shape {shape}")
    if isinstance(layer, MaxPool):
        if len(shape) != 4 or shape[2] % layer.size or shape[3] % layer.size:
            raise problem
        return (shape[0], shape[1], shape[2] // layer.size, shape[3] // layer.size)
    weight = layer.weight
    vectors = (layer.bias, layer.scale) if isinstance(layer, Readout) else (layer.bias, layer.theta)
    if weight.ndim < 2 or weight.size == 0 or any(v.shape != (weight.shape[0],) for v in vectors):
        raise CompileError(f"{place}: weight {weight.shape} and its vectors do not fit each other")
    if isinstance(layer, Conv):
        if weight.ndim != 4 or weight.shape[2] != weight.shape[3] or len(shape) != 4 or weight.shape[1] != shape[1]:
            raise problem
        sides = [(side + 2 * layer.padding - weight.shape[2]) // layer.stride + 1 for side in shape[2:]]
        if min(sides) < 1:
            raise problem
        return (shape[0], weight.shape[0], sides[0], sides[1])
    if weight.ndim != 2 or weight.shape[1] != int(np.prod(shape[1:], dtype=np.int64)):
        raise problem
    return (weight.shape[0],) if isinstance(layer, Readout) else (shape[0], weight.shape[0])


def _check_section(section: str, layers: Sequence[Layer], shape: Shape, input_max: int) -> Shape:
    """Shapes fit, thresholds are positive, scales finite, and no sum or membrane can leave int32."""
    for index, (layer, layer_out) in enumerate(_walk(section, layers, shape)):
        place = f"{section}.{index}"
        last = index == len(layers) - 1
        if isinstance(layer, Readout):
            if section != "exit" or not last:
                raise CompileError(f"{place}: a readout stands only at the end of the exit")
            if layer.weight.shape[0] > MAX_CLASSES:
                raise CompileError(f"{place}: more than {MAX_CLASSES} classes")
            if not (np.isfinite(layer.scale).all() and (layer.scale > 0).all()):
                raise CompileError(f"{place}: scales must be finite and above zero")
            prove(place, layer_bound(layer, input_max) * shape[0])
        elif not isinstance(layer, MaxPool):
            if (layer.theta < 1).any():
                raise CompileError(f"{place}: a firing threshold below 1")
            # |U| <= |V| / 2 + |X| and |V| <= |U|: the membrane stays within twice the largest sum (+ 1 for the floor).
            prove(place, 2 * layer_bound(layer, input_max) + 1)
            input_max = 1
        shape = layer_out
    return shape


def layer_bound(layer: Conv | Linear | Readout, input_max: int) -> int:
    """Largest possible `|sum + bias|` of one output in one step, for inputs between 0 and `input_max`."""
    weights = np.abs(layer.weight.astype(np.int64)).reshape(layer.weight.shape[0], -1).sum(axis=1)
    return int((weights * input_max + np.abs(layer.bias.astype(np.int64))).max())


def prove(place: str, bound: int) -> None:
    """`CompileError` unless `bound` fits int32: the accumulator can then never overflow."""
    if bound > INT32_MAX:
        raise CompileError(f"{place}: sums may reach {bound}, beyond int32; scale the weights down")
