"""Engines emit the bits of the reference, whatever the program and the frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecc_device.engines import NumpyEngine, ReferenceEngine
from ecc_device.engines.base import Run
from ecc_device.engines.exits import Exits
from ecc_device.engines.numpy import FLOAT32_EXACT
from ecc_model.frames import FrameSpec
from ecc_model.layers import Layer, Shape, Tap
from ecc_model.program import Conv, Linear, Program, Readout
from support.programs import conv, frames_for, probe, programs, readout, small_program, spikes_for


def assert_same_bits(program: Program, frame: np.ndarray, split: np.ndarray) -> None:
    engine, reference = NumpyEngine(program), ReferenceEngine(program)
    spikes = engine.head(frame)
    assert (spikes.dtype, spikes.shape) == (np.bool_, program.split_shape)
    np.testing.assert_array_equal(spikes, reference.head(frame))
    for bits in (spikes, split):
        for encoder, shape in enumerate(program.code_shapes):
            code = engine.encode(bits, encoder)
            assert (code.dtype, code.shape) == (np.bool_, shape)
            np.testing.assert_array_equal(code, reference.encode(bits, encoder))
        logits = engine.exit(bits)
        assert (logits.dtype, logits.shape) == (np.float32, (program.classes,))
        assert logits.tobytes() == reference.exit(bits).tobytes()


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_the_numpy_engine_emits_the_bits_of_the_reference(data: st.DataObject) -> None:
    program = data.draw(programs())
    assert_same_bits(program, data.draw(frames_for(program)), data.draw(spikes_for(program.split_shape)))


def extreme(weight: int, bias: int, channels: int) -> Program:
    """Sums as large as they get: all weights alike, pixels at 255."""
    rng = np.random.default_rng(0)
    kernel = np.full((2, channels, 5, 5), weight, np.int8)
    head = Conv(kernel, np.full(2, bias, np.int32), np.array([1, 2**24 + 1], np.int32), padding=2)
    return Program(FrameSpec(3, channels, 8, 8), (head,), (conv(rng, 2, 2),), (readout(rng, 128, 3),))


@pytest.mark.parametrize(
    ("weight", "bias", "dtype"),
    [
        (127, 0, np.float32),
        (-128, 2**24 - 1 - 128 * 255 * 75, np.float32),  # the last sum that float32 holds exactly
        (-128, 2**24 - 128 * 255 * 75, np.float64),
        (127, -(2**29), np.float64),
        (127, 2**29, np.float64),
    ],
)
def test_the_engine_takes_float64_where_float32_might_round(weight: int, bias: int, dtype: type[np.floating]) -> None:
    program = extreme(weight, bias, 3)
    matrix = NumpyEngine(program)._head[0].matrix
    assert matrix.dtype == dtype
    rng = np.random.default_rng(1)
    frame = rng.integers(250, 256, (8, 8, 3), np.uint8)
    assert_same_bits(program, frame, rng.random(program.split_shape) < 0.5)


def test_odd_sums_above_2_to_the_24_keep_their_last_bit() -> None:
    # 160,000 inputs of 127 with a threshold at their odd sum: float32 would round it away
    width = 400 * 400
    spec = FrameSpec(1, 1, 400, 400)
    one = np.ones((1, 1, 1, 1), np.int8)
    vector = np.array([1], np.int32)
    weight = np.full((2, width), 127, np.int8)
    weight[:, 0] = 2
    total = 127 * (width - 1) + 2
    assert total > FLOAT32_EXACT
    assert total % 2 == 1
    deep = Linear(weight, np.zeros(2, np.int32), np.array([total, total + 1], np.int32))
    last = Readout(np.eye(2, dtype=np.int8), np.zeros(2, np.int32), np.ones(2, np.float32))
    identity = Conv(one, np.zeros(1, np.int32), vector, padding=0)
    program = Program(spec, (identity,), (identity,), (deep, last))
    spikes = np.ones(program.split_shape, np.bool_)
    for engine in (NumpyEngine(program), ReferenceEngine(program)):
        assert engine.exit(spikes).tolist() == [1.0, 0.0]


def test_logits_are_sums_over_all_steps_times_one_float32_scale() -> None:
    program = small_program(steps=2)
    spikes = np.zeros(program.split_shape, np.bool_)
    sums = ReferenceEngine(program).exit(spikes) / program.readout.scale
    np.testing.assert_allclose(sums, np.round(sums), atol=1e-3)
    assert np.abs(sums).max() > 1


def test_frames_of_another_size_are_fitted_first() -> None:
    program = small_program(channels=1)
    frame = np.random.default_rng(0).integers(0, 256, (20, 13, 3), np.uint8)
    np.testing.assert_array_equal(NumpyEngine(program).head(frame), ReferenceEngine(program).head(frame))


@pytest.mark.parametrize("engine", [NumpyEngine, ReferenceEngine])
def test_an_engine_keeps_nothing_between_frames(engine: type[NumpyEngine]) -> None:
    running = engine(small_program())
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 8, 8, 1), np.uint8)
    before = running.head(first)
    running.head(second)
    np.testing.assert_array_equal(running.head(first), before)


def test_layers_that_both_exits_have_run_once() -> None:
    rng, program = np.random.default_rng(0), small_program()
    common = program.exit[:2]
    made: list[int] = []

    def segment(layers: Sequence[Layer], shape: Shape) -> Run:
        made.append(len(layers))
        return NumpyEngine(program).segment(layers, shape)

    counting = (*common, probe(rng, common, program.split_shape, [Tap(0, 2), Tap(2)], 5))
    Exits(dataclasses.replace(program, second=counting, known=3), segment)
    assert made == [2, 2]  # up to the last tap, and from there to the readout
