"""Integer programs for tests: drawn by hypothesis over shapes, weights random from a drawn seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecc_model.bits import packed_size
from ecc_model.frames import FrameSpec
from ecc_model.layers import HALF_LEAK, LEAK_ONE, tap_sizes
from ecc_model.program import (
    SECTIONS,
    AnyLayer,
    AveragePool,
    Conv,
    Currents,
    Layer,
    Linear,
    MaxPool,
    Probe,
    Program,
    Readout,
    Residual,
    Shape,
    Tap,
    section_shape,
)

PIXEL_THETA = 4000  # fires often, not always, on sums of random pixels
SPIKE_THETA = 60
SHIFT = 10
LEAKS = [HALF_LEAK, HALF_LEAK, 0, 1, 21_000, LEAK_ONE - 1, LEAK_ONE]


def conv(
    rng: np.random.Generator,
    inputs: int,
    outputs: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    padding: int = 1,
    theta: int = SPIKE_THETA,
    weight_max: int = 127,
    leak: int = HALF_LEAK,
) -> Conv:
    """A convolution with random weights and biases, and thresholds around `theta`."""
    bias, thresholds = _vectors(rng, outputs, theta)
    return Conv(_kernels(rng, inputs, outputs, kernel, weight_max), bias, thresholds, stride, padding, leak)


def linear(
    rng: np.random.Generator, inputs: int, outputs: int, theta: int = SPIKE_THETA, leak: int = HALF_LEAK
) -> Linear:
    """A fully connected spiking layer."""
    weight = rng.integers(-127, 127, (outputs, inputs), np.int8, endpoint=True)
    return Linear(weight, *_vectors(rng, outputs, theta), leak)


def residual(
    rng: np.random.Generator,
    inputs: int,
    outputs: int,
    *,
    stride: int = 1,
    bare: bool = False,
    inner: int = 1,
    leak: int = HALF_LEAK,
) -> Residual:
    """A residual sum: `inner` spiking convolutions, then one; beside it a 1x1 convolution, or (`bare`) nothing."""
    branch = tuple(conv(rng, inputs, inputs, leak=leak) for _ in range(inner))
    shortcut = None if bare else Currents(_kernels(rng, inputs, outputs, 1), stride, 0)
    gain = rng.integers(-(1 << SHIFT), 1 << SHIFT, (2, outputs), np.int32)
    gain[1] *= 60 if bare else 1
    last = Currents(_kernels(rng, inputs, outputs, 3), stride, 1)
    return Residual(branch, last, shortcut, gain, *_vectors(rng, outputs, SPIKE_THETA), SHIFT, leak)


def _kernels(
    rng: np.random.Generator, inputs: int, outputs: int, kernel: int, weight_max: int = 127
) -> NDArray[np.int8]:
    return rng.integers(-weight_max, weight_max, (outputs, inputs, kernel, kernel), np.int8, endpoint=True)


def readout(rng: np.random.Generator, inputs: int, classes: int) -> Readout:
    """A classifier."""
    weight = rng.integers(-127, 127, (classes, inputs), np.int8, endpoint=True)
    bias = rng.integers(-500, 500, classes, np.int32)
    return Readout(weight, bias, rng.uniform(0.001, 0.1, classes).astype(np.float32))


def probe(
    rng: np.random.Generator, layers: Sequence[AnyLayer], shape: Shape, taps: Sequence[Tap], classes: int
) -> Probe:
    """A classifier on counts behind some of the `layers`, on spikes of `shape`."""
    shapes = [section_shape(layers[:after], shape) for after in range(len(layers) + 1)]
    inputs = sum(tap_sizes(taps, shapes))
    weight = rng.integers(-(2**15), 2**15, (classes, inputs), np.int16)
    bias = rng.integers(-(2**20), 2**20, classes, np.int32)
    return Probe(tuple(taps), weight, bias, rng.uniform(1e-6, 1e-4, classes).astype(np.float32))


def _vectors(rng: np.random.Generator, outputs: int, theta: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    bias = rng.integers(-theta // 2, theta // 2, outputs, np.int32)
    return bias, rng.integers(1, 2 * theta, outputs, np.int32)


def small_program(seed: int = 0, *, steps: int = 2, channels: int = 1, classes: int = 3) -> Program:
    """One program by hand: 8x8 frames, cut after one pool."""
    rng = np.random.default_rng(seed)
    return Program(
        FrameSpec(steps, channels, 8, 8),
        (conv(rng, channels, 4, theta=PIXEL_THETA), MaxPool(2)),
        (conv(rng, 4, 2),),
        (conv(rng, 4, 3), MaxPool(2), linear(rng, 12, 5), readout(rng, 5, classes)),
    )


@st.composite
def programs(draw: st.DrawFn, *, most_steps: int = 4, most_channels: int = 5, probes: bool = True) -> Program:
    """Any steps, channels 1-3, sides up to 12, kernels 1-5, strides, paddings, pools, residuals, leaks, weights."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spec = FrameSpec(*(draw(st.integers(1, most)) for most in (most_steps, 3, 12, 12)))
    shape = (spec.steps, spec.channels, spec.height, spec.width)
    head = _maps(draw, rng, shape, PIXEL_THETA, most_channels)
    split = section_shape(head, shape)
    encoder = _maps(draw, rng, split, SPIKE_THETA, most_channels)
    classes = draw(st.integers(1, 5))
    first = _exit(draw, rng, split, most_channels, classes, probes)
    others = _shorter(draw, rng, encoder, split, most_channels)
    if not probes or draw(st.integers(0, 3)):
        return Program(spec, head, encoder, first, others=others)
    new = draw(st.integers(0, 3))  # classes that only the second exit knows
    if not isinstance(first[-1], Probe) and draw(st.booleans()):
        second = _counting_in(draw, rng, first, split, classes + new)
    else:
        second = _exit(draw, rng, split, most_channels, classes + new, probes)
    return Program(spec, head, encoder, first, second, known=classes if new else 0, others=others)


def _shorter(
    draw: st.DrawFn, rng: np.random.Generator, encoder: tuple[Layer, ...], split: Shape, most_channels: int
) -> tuple[tuple[Layer, ...], ...]:
    """Further encoders, each of fewer bytes than the one before it."""
    found = [encoder]
    for _ in range(draw(st.integers(0, 2))):
        drawn = _maps(draw, rng, split, SPIKE_THETA, most_channels)
        if packed_size(section_shape(drawn, split)) < packed_size(section_shape(found[-1], split)):
            found.append(drawn)
    return tuple(found[1:])


def _counting_in(
    draw: st.DrawFn, rng: np.random.Generator, first: tuple[AnyLayer, ...], split: Shape, classes: int
) -> tuple[AnyLayer, ...]:
    """A probe behind some of another exit's layers, as an update in closed form adds one."""
    ends = [end for end in range(len(first)) if end == 0 or not isinstance(first[end - 1], AveragePool)]
    layers = cast(tuple[Layer, ...], first[: draw(st.sampled_from(ends))])
    return (*layers, probe(rng, layers, split, draw(_taps(layers, split)), classes))


def _exit(
    draw: st.DrawFn, rng: np.random.Generator, split: Shape, most_channels: int, classes: int, probes: bool
) -> tuple[AnyLayer, ...]:
    """Layers and what ends them: a readout, or a probe with taps anywhere before it."""
    probed = probes and draw(st.booleans())
    layers: list[Layer] = list(_maps(draw, rng, split, SPIKE_THETA, most_channels)) if draw(st.booleans()) else []
    layers += _some_pool(draw, section_shape(layers, split), [MaxPool] if probed else [AveragePool])
    width = int(np.prod(section_shape(layers, split)[1:]))
    for _ in range(draw(st.integers(0, 2))):
        layers.append(linear(rng, width, draw(st.integers(1, most_channels)), leak=draw(st.sampled_from(LEAKS))))
        width = len(layers[-1].weight)
    if probed:
        return (*layers, probe(rng, layers, split, draw(_taps(layers, split)), classes))
    return (*layers, readout(rng, width, classes))


@st.composite
def _taps(draw: st.DrawFn, layers: Sequence[Layer], split: Shape) -> list[Tap]:
    taps = []
    shapes = [section_shape(layers[:after], split) for after in range(len(layers) + 1)]
    for after in range(len(layers) + 1):
        grids = [grid for grid in range(1, 5) if all(tap_sizes([Tap(after, grid)], shapes))]
        if after and isinstance(layers[after - 1], AveragePool):
            continue  # these are sums, not spikes
        least = int(after == len(layers))
        taps += [Tap(after, grid) for grid in sorted(draw(st.sets(st.sampled_from(grids), min_size=least, max_size=2)))]
    return taps


def _maps(
    draw: st.DrawFn, rng: np.random.Generator, shape: tuple[int, ...], theta: int, most_channels: int
) -> tuple[Layer, ...]:
    """Some layers that end with a map of spikes, at least one of them with neurons."""
    layers: list[Layer] = []
    for _ in range(draw(st.integers(1, 2))):
        layers += _neurons(draw, rng, shape, theta, most_channels)
        shape = section_shape(layers[-1:], shape)
        theta = SPIKE_THETA
        pool = _some_pool(draw, shape, [MaxPool, AveragePool])
        layers += pool
        shape = section_shape(pool, shape)
        if pool and isinstance(pool[0], AveragePool):
            layers += _neurons(draw, rng, shape, theta, most_channels, after_average=True)
            shape = section_shape(layers[-1:], shape)
    return tuple(layers)


def _some_pool(draw: st.DrawFn, shape: tuple[int, ...], kinds: list[type[MaxPool | AveragePool]]) -> list[Layer]:
    if len(shape) != 4 or shape[2] % 2 or shape[3] % 2 or draw(st.booleans()):
        return []
    return [draw(st.sampled_from(kinds))(2)]


def _neurons(
    draw: st.DrawFn,
    rng: np.random.Generator,
    shape: tuple[int, ...],
    theta: int,
    most_channels: int,
    after_average: bool = False,
) -> list[Layer]:
    leak = draw(st.sampled_from(LEAKS))
    outputs, stride = draw(st.integers(1, most_channels)), draw(st.integers(1, 3))
    if theta == SPIKE_THETA and not after_average and draw(st.integers(0, 3)) == 0:
        bare = draw(st.booleans())
        sizes = {"outputs": shape[1], "stride": 1} if bare else {"outputs": outputs, "stride": stride}
        return [residual(rng, shape[1], **sizes, bare=bare, inner=draw(st.integers(0, 2)), leak=leak)]
    padding = draw(st.integers(0, 2))
    kernel = draw(st.integers(1, min(5, min(shape[2:]) + 2 * padding)))
    most = draw(st.sampled_from([1, 20, 127]))
    numbers = {"stride": stride, "padding": padding, "theta": theta, "weight_max": most, "leak": leak}
    return [conv(rng, shape[1], outputs, kernel, **numbers)]


@st.composite
def frames_for(draw: st.DrawFn, program: Program) -> NDArray[np.uint8]:
    """A still frame or one with steps, in the program's size; dark, mixed or bright."""
    spec = program.input
    shape = (spec.height, spec.width, spec.channels)
    if draw(st.booleans()):
        shape = (spec.steps, *shape)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high = draw(st.sampled_from([(0, 0), (0, 30), (0, 255), (255, 255)]))
    return rng.integers(low, high, shape, np.uint8, endpoint=True)


@st.composite
def spikes_for(draw: st.DrawFn, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Spikes of `shape` at 0 to 100 % firing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random(shape) < draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 0.9, 1.0]))


def trained(program: Program) -> Program:
    """The same with the leak that networks are trained with, and a convolution in place of each residual sum."""

    def plain(layer: Layer) -> Layer:
        if isinstance(layer, Residual):
            return Conv(layer.last.weight, layer.bias, layer.theta, layer.last.stride, layer.last.padding)
        return dataclasses.replace(layer, leak=HALF_LEAK) if isinstance(layer, Conv | Linear) else layer

    return Program(program.input, *(tuple(map(plain, getattr(program, section))) for section in SECTIONS))
