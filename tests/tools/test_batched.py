"""Frames by the batch give the bits that a device computes frame by frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ecc_device.engines import NumpyEngine
from ecc_device.engines.numpy import FLOAT32_EXACT
from ecc_model.errors import FrameError
from ecc_model.frames import FrameSpec, Pixels
from ecc_model.modelfile import read_edge
from ecc_model.program import Conv, Linear, Program, Readout
from ecc_tools import batched
from ecc_tools.batched import BatchedProgram, in_chunks
from support.models import write_tiny_models
from support.programs import conv, frames_for, programs, readout, small_program


def assert_same_bits(program: Program, frames: Pixels) -> None:
    engine, found = NumpyEngine(program), BatchedProgram(program).run(frames)
    assert (found.split.dtype, found.split.shape) == (np.bool_, (len(frames), *program.split_shape))
    assert (found.code.dtype, found.code.shape) == (np.bool_, (len(frames), *program.code_shape))
    assert (found.logits.dtype, found.logits.shape) == (np.float32, (len(frames), program.classes))
    for frame, split, code, logits in zip(frames, *found, strict=True):
        np.testing.assert_array_equal(split, engine.head(frame))
        np.testing.assert_array_equal(code, engine.encode(split))
        assert logits.tobytes() == engine.exit(split).tobytes()


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_a_batch_has_the_bits_of_the_engine(data: st.DataObject) -> None:
    program = data.draw(programs())
    first = data.draw(frames_for(program))
    others = [np.random.default_rng(seed).integers(0, 256, first.shape, np.uint8) for seed in range(2)]
    assert_same_bits(program, np.stack([first, *others]))


def extreme(weight: int, bias: int) -> Program:
    """Sums as large as they get: all weights alike, pixels at 255."""
    rng = np.random.default_rng(0)
    kernel = np.full((2, 3, 5, 5), weight, np.int8)
    head = Conv(kernel, np.full(2, bias, np.int32), np.array([1, 2**24 + 1], np.int32), padding=2)
    return Program(FrameSpec(3, 3, 8, 8), (head,), (conv(rng, 2, 2),), (readout(rng, 128, 3),))


LARGEST = 128 * 255 * 75  # of the sums of 75 inputs


@pytest.mark.parametrize(
    ("weight", "bias", "dtype"),
    [
        (127, 0, torch.float32),
        (-128, 2**23 - 1 - LARGEST, torch.float32),  # the last membrane that float32 holds exactly
        (-128, 2**23 - LARGEST, torch.float64),
        (127, -(2**29), torch.float64),
        (127, 2**29, torch.float64),
    ],
)
def test_float64_takes_over_where_float32_might_round(weight: int, bias: int, dtype: torch.dtype) -> None:
    program = extreme(weight, bias)
    assert BatchedProgram(program)._layers["head"][0].weight.dtype == dtype
    assert_same_bits(program, np.random.default_rng(1).integers(250, 256, (3, 8, 8, 3), np.uint8))


def test_odd_sums_above_2_to_the_24_keep_their_last_bit() -> None:
    width = 400 * 400
    one, vector = np.ones((1, 1, 1, 1), np.int8), np.array([1], np.int32)
    weight = np.full((2, width), 127, np.int8)
    weight[:, 0] = 2
    total = 127 * (width - 1) + 2
    assert total > FLOAT32_EXACT
    deep = Linear(weight, np.zeros(2, np.int32), np.array([total, total + 1], np.int32))
    last = Readout(np.eye(2, dtype=np.int8), np.zeros(2, np.int32), np.ones(2, np.float32))
    identity = Conv(one, np.zeros(1, np.int32), vector, padding=0)
    program = Program(FrameSpec(1, 1, 400, 400), (identity,), (identity,), (deep, last))
    assert BatchedProgram(program).run(np.ones((1, 400, 400, 1), np.uint8)).logits.tolist() == [[1.0, 0.0]]


def test_a_convolution_is_unrolled_in_parts_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batched, "UNROLLED", 3 * 9 * 64)  # three rows of the first layer
    assert_same_bits(small_program(), np.random.default_rng(0).integers(0, 256, (7, 8, 8, 1), np.uint8))


def test_programs_and_frames_from_files_are_read_only(tmp_path: Path) -> None:
    program = read_edge(write_tiny_models(tmp_path).edge).program
    assert not program.head[0].weight.flags.writeable
    frames = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 1), np.uint8)
    frames.setflags(write=False)
    assert_same_bits(program, frames)


def test_frames_of_another_size_are_fitted_first() -> None:
    assert_same_bits(small_program(), np.random.default_rng(0).integers(0, 256, (2, 20, 13, 3), np.uint8))


def test_frames_that_the_network_cannot_take_are_refused() -> None:
    with pytest.raises(FrameError, match=r"^this network takes 1 channels, the frame has 2$"):
        BatchedProgram(small_program()).run(np.zeros((2, 8, 8, 2), np.uint8))


def test_one_who_watches_sees_the_inputs_and_spikes_of_every_layer_with_weights() -> None:
    program = small_program(steps=2)
    seen = {}

    def watch(place: str, layer: object, inputs: torch.Tensor, spikes: torch.Tensor | None) -> None:
        seen[place] = (layer, inputs, spikes)

    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 1), np.uint8)
    found = BatchedProgram(program).run(frames, watch)
    assert list(seen) == ["head.0", "encoder.0", "exit.0", "exit.2", "exit.3"]
    assert [tuple(inputs.shape) for _, inputs, _ in seen.values()] == [
        (3, 1, 8, 8),
        (6, 4, 4, 4),
        (6, 4, 4, 4),
        (6, 12),
        (6, 5),
    ]
    layer, inputs, spikes = seen["encoder.0"]
    assert layer is program.encoder[0]
    np.testing.assert_array_equal(inputs.numpy(), found.split.reshape(6, 4, 4, 4))
    np.testing.assert_array_equal(spikes.numpy(), found.code.reshape(6, 2, 4, 4))
    assert seen["exit.3"][2] is None


def test_frames_come_in_chunks_that_lose_none() -> None:
    frames = np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1)
    assert [len(chunk) for chunk in in_chunks(frames, 3)] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(list(in_chunks(frames, 3))), frames)
