"""Integer programs for tests: drawn by hypothesis over shapes, weights random from a drawn seed."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecc_model.frames import FrameSpec
from ecc_model.program import Conv, Layer, Linear, MaxPool, Program, Readout, section_shape

PIXEL_THETA = 4000  # fires often, not always, on sums of random pixels
SPIKE_THETA = 60


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
) -> Conv:
    """A convolution with random weights and biases, and thresholds around `theta`."""
    weight = rng.integers(-weight_max, weight_max, (outputs, inputs, kernel, kernel), np.int8, endpoint=True)
    bias, thresholds = _vectors(rng, outputs, theta)
    return Conv(weight, bias, thresholds, stride, padding)


def linear(rng: np.random.Generator, inputs: int, outputs: int, theta: int = SPIKE_THETA) -> Linear:
    """A fully connected spiking layer."""
    weight = rng.integers(-127, 127, (outputs, inputs), np.int8, endpoint=True)
    return Linear(weight, *_vectors(rng, outputs, theta))


def readout(rng: np.random.Generator, inputs: int, classes: int) -> Readout:
    """A classifier."""
    weight = rng.integers(-127, 127, (classes, inputs), np.int8, endpoint=True)
    bias = rng.integers(-500, 500, classes, np.int32)
    return Readout(weight, bias, rng.uniform(0.001, 0.1, classes).astype(np.float32))


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
def programs(draw: st.DrawFn) -> Program:
    """Any steps 1-4, channels 1-3, sides up to 12, kernels 1-5, strides, paddings, pools, weights small or large."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spec = FrameSpec(*(draw(st.integers(1, most)) for most in (4, 3, 12, 12)))
    shape = (spec.steps, spec.channels, spec.height, spec.width)
    head = _maps(draw, rng, shape, PIXEL_THETA)
    split = section_shape(head, shape)
    encoder = _maps(draw, rng, split, SPIKE_THETA)
    exit_: list[Layer] = list(_maps(draw, rng, split, SPIKE_THETA)) if draw(st.booleans()) else []
    width = int(np.prod(section_shape(exit_, split)[1:]))
    for _ in range(draw(st.integers(0, 2))):
        exit_.append(linear(rng, width, draw(st.integers(1, 6))))
        width = len(exit_[-1].weight)
    exit_.append(readout(rng, width, draw(st.integers(1, 5))))
    return Program(spec, head, encoder, tuple(exit_))


def _maps(draw: st.DrawFn, rng: np.random.Generator, shape: tuple[int, ...], theta: int) -> tuple[Layer, ...]:
    """One to three layers that end with a feature map, at least one of them a convolution."""
    layers: list[Layer] = []
    for _ in range(draw(st.integers(1, 2))):
        padding = draw(st.integers(0, 2))
        kernel = draw(st.integers(1, min(5, min(shape[2:]) + 2 * padding)))
        outputs, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
        weight_max = draw(st.sampled_from([1, 20, 127]))
        layer = conv(rng, shape[1], outputs, kernel, stride=stride, padding=padding, theta=theta, weight_max=weight_max)
        layers.append(layer)
        shape = section_shape([layer], shape)
        theta = SPIKE_THETA
        if shape[2] % 2 == 0 and shape[3] % 2 == 0 and draw(st.booleans()):
            layers.append(MaxPool(2))
            shape = section_shape([MaxPool(2)], shape)
    return tuple(layers)


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
