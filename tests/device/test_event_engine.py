"""The event engine emits the bits of the reference: every build of its kernel, every layer, every rate of firing."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecc_device.engines import EventEngine, NumpyEngine, ReferenceEngine
from ecc_device.engines.arena import ISA, ISAS, Arena
from ecc_model import native, reference
from ecc_model.errors import CompileError, DeviceError
from ecc_model.frames import FrameSpec
from ecc_model.layers import LEAK_ONE, AveragePool, Conv, Currents, Layer, Linear, Readout, Residual
from ecc_model.program import SECTIONS, Program, from_records, to_records
from support.golden_vectors import FOLDER, load
from support.programs import conv, frames_for, linear, programs, readout, residual, small_program, spikes_for

pytestmark = pytest.mark.skipif(native.library() is None, reason="the C library is not built")

GOLDEN = sorted(FOLDER.glob("*.npz"))
I32 = np.int32


def builds() -> list[str]:
    """The kernel's builds that this processor can run."""
    library = native.library()
    if library is None:
        return []
    return [name for name, number in ISAS.items() if library.ecc_events_isa(number, ctypes.byref(ctypes.c_int())) == 0]


@pytest.fixture(params=builds())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    with mock.patch.dict(os.environ, {ISA: request.param}):
        yield request.param


def made(program: Program, name: str) -> EventEngine:
    with mock.patch.dict(os.environ, {ISA: name}):
        return EventEngine(program)


def assert_same_bits(program: Program, frame: NDArray[np.uint8], split: NDArray[np.bool_]) -> None:
    expected = ReferenceEngine(program)
    rows = [expected.head(frame), split]
    encoders, logits = range(len(program.encoders)), [expected.exit(row) for row in rows]
    codes = [[expected.encode(row, encoder) for encoder in encoders] for row in rows]
    for name in builds():
        engine = made(program, name)
        assert engine.isa == name
        for _ in range(2):  # nothing of a frame stays for the next one
            spikes = engine.head(frame)
            assert (spikes.dtype, spikes.shape) == (np.bool_, program.split_shape)
            np.testing.assert_array_equal(spikes, rows[0], err_msg=name)
            for row, code, logit in zip(rows, codes, logits, strict=True):
                for encoder in encoders:
                    found = engine.encode(row, encoder)
                    assert found.dtype == np.bool_
                    np.testing.assert_array_equal(found, code[encoder], err_msg=name)
                assert engine.exit(row).tobytes() == logit.tobytes(), name


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_every_build_emits_the_bits_of_the_reference(data: st.DataObject) -> None:
    program = data.draw(programs())
    assert_same_bits(program, data.draw(frames_for(program)), data.draw(spikes_for(program.split_shape)))


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_so_it_does_with_up_to_16_steps_and_channels_that_fill_no_vector(data: st.DataObject) -> None:
    program = data.draw(programs(most_steps=16, most_channels=40))
    assert_same_bits(program, data.draw(frames_for(program)), data.draw(spikes_for(program.split_shape)))


def assert_layers(layers: list[Layer], spikes: NDArray[np.bool_]) -> None:
    """The layers, run in one go and step by step, give what the reference gives."""
    expected, _ = reference.run(layers, spikes)
    arena = Arena(layers, spikes.shape, pixels=False)
    np.testing.assert_array_equal(arena.run(spikes), expected)
    parts = [arena.run(spikes[t : t + 1], t, 1) for t in range(len(spikes))]
    whole = sum(parts) if isinstance(layers[-1], Readout) else np.concatenate(parts)
    np.testing.assert_array_equal(whole, expected)


RATES = [0.0, 0.01, 0.05, 0.3, 0.6, 0.99, 1.0]


@pytest.mark.parametrize("outputs", [1, 16, 31, 32, 33, 64, 100, 128, 200, 256, 300, 520])
@pytest.mark.usefixtures("isa")
def test_rows_of_every_width_are_summed_whole(outputs: int) -> None:
    rng = np.random.default_rng(outputs)
    for rate in RATES:
        spikes = rng.random((3, 70, 3, 4)) < rate
        assert_layers([conv(rng, 70, outputs, theta=2000)], spikes)


@pytest.mark.parametrize("weight", [-128, 127])
@pytest.mark.parametrize("events", [255, 256, 257, 512, 700])
@pytest.mark.usefixtures("isa")
def test_sums_beyond_16_bits_are_exact(events: int, weight: int) -> None:
    # as many events of the largest weight as 16 bits can sum, and more; then as many inputs that do not fire
    inputs, total = 2 * events + 2, events * weight
    kernel = np.full((48, inputs, 1, 1), weight, np.int8)
    few = np.zeros((2, inputs, 2, 2), np.bool_)
    few[:, :events] = True
    few[1, 0, 0, 1] = False
    for spikes, sums in ((few, total), (~few, inputs * weight - total)):
        bias = np.arange(48, dtype=I32) - 24 - sums
        assert_layers([Conv(kernel, bias, np.full(48, 1, I32), padding=0)], spikes)


@pytest.mark.parametrize("width", [7, 8, 11, 16, 19])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.usefixtures("isa")
def test_maps_whose_inputs_are_all_multiplied_give_the_same_bits(width: int, stride: int) -> None:
    # wide maps that fire densely are, where the processor multiplies bytes: in tiles of positions, and the rest alone
    rng = np.random.default_rng(width)
    for channels, outputs, kernel, padding in ((5, 33, 3, 1), (32, 32, 3, 1), (70, 100, 2, 2), (8, 16, 5, 0)):
        weight = rng.integers(-128, 128, (outputs, channels, kernel, kernel)).astype(np.int8)
        bias, theta = rng.integers(-200, 200, outputs).astype(I32), rng.integers(1, 2000, outputs).astype(I32)
        layer = Conv(weight, bias, theta, stride=stride, padding=padding)
        for rate in RATES:
            assert_layers([layer], rng.random((3, channels, 5, stride * width)) < rate)


@pytest.mark.usefixtures("isa")
def test_steps_of_a_frame_may_each_take_another_path() -> None:
    rng = np.random.default_rng(8)
    layer = conv(rng, 24, 40)
    rates = np.array([0.5, 0.0, 0.02, 1.0, 0.3, 0.0])
    for _ in range(5):
        assert_layers([layer], rng.random((6, 24, 9, 13)) < rng.permutation(rates)[:, None, None, None])


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.usefixtures("isa")
def test_steps_that_share_their_events_are_summed_alike(rate: float) -> None:
    # the same spikes in all steps, but for a few: pairs of steps share lists then
    rng = np.random.default_rng(5)
    spikes = np.repeat(rng.random((1, 96, 6, 6)) < rate, 5, axis=0)
    spikes ^= rng.random(spikes.shape) < 0.02
    assert_layers([conv(rng, 96, 64, theta=3000), conv(rng, 64, 40)], spikes)
    assert_layers([AveragePool(2), conv(rng, 96, 64, theta=3000)], spikes)
    assert_layers([readout(rng, 96 * 36, 10)], spikes)


@pytest.mark.parametrize("kernel", [1, 2, 3, 5, 7])
@pytest.mark.usefixtures("isa")
def test_windows_of_every_kind(kernel: int) -> None:
    rng = np.random.default_rng(kernel)
    sizes = [(7, 9, 0.2), (1, 8, 0.8)]
    for (height, width, rate), padding, stride in itertools.product(sizes, [0, 1, 3, 8], [1, 2, 3, 5]):
        if min(height, width) + 2 * padding >= kernel:
            spikes = rng.random((2, 5, height, width)) < rate
            assert_layers([conv(rng, 5, 7, kernel, stride=stride, padding=padding)], spikes)


@pytest.mark.parametrize("leak", [0, 1, 16383, 16384, 16385, 32767, LEAK_ONE])
@pytest.mark.usefixtures("isa")
def test_leaks_round_down_in_every_engine(leak: int) -> None:
    # membranes of both signs, up to the largest that the proof allows
    steps, most = 16, 2**31 - 1
    bound = most // 40 if leak > 16385 else most // 3
    bias = np.array([7, -7, 1, -1, bound, -bound, bound // 3, -bound // 3] * 4, I32)
    theta = np.array([40, 1, 9, 1, most, most, bound, most] * 4, I32)
    layer = Conv(np.zeros((32, 3, 1, 1), np.int8), bias, theta, padding=0, leak=leak)
    spikes = np.zeros((steps, 3, 2, 2), np.bool_)
    assert_layers([layer], spikes)
    rng = np.random.default_rng(0)
    program = Program(FrameSpec(steps, 3, 2, 2), (layer,), (conv(rng, 32, 2),), (readout(rng, 128, 3),))
    frame = np.zeros((2, 2, 3), np.uint8)
    for engine in (EventEngine(program), NumpyEngine(program)):
        np.testing.assert_array_equal(engine.head(frame), ReferenceEngine(program).head(frame))


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("shift", [0, 7, 31])
@pytest.mark.usefixtures("isa")
def test_residual_sums_take_64_bits(bare: bool, shift: int) -> None:
    # products near 2^62 of both signs, brought back by the shift, or small ones without
    rng = np.random.default_rng(shift)
    channels, large = 20, 2**30 if shift == 31 else 2**20 if shift == 7 else 30
    gain = rng.integers(-large, large, (2, channels), I32, endpoint=True)
    weight = rng.integers(-128, 127, (channels, channels, 3, 3), np.int8, endpoint=True)
    shortcut = None if bare else Currents(weight[:, :, :1, :1].copy(), 1, 0)
    bias, theta = np.zeros(channels, I32), rng.integers(1, 1 << 16, channels, I32)
    layer = Residual((), Currents(weight), shortcut, gain, bias, theta, shift)
    for rate in RATES:
        assert_layers([layer], rng.random((4, channels, 5, 4)) < rate)


@pytest.mark.usefixtures("isa")
def test_average_pools_feed_every_layer_behind_them() -> None:
    rng = np.random.default_rng(2)
    for rate in RATES:
        spikes = rng.random((2, 18, 8, 4)) < rate
        for behind in (conv(rng, 18, 33, theta=500), readout(rng, 18 * 2, 4), linear(rng, 18 * 2, 20, 500)):
            size = 2 if isinstance(behind, Conv) else 4
            layers: list[Layer] = [AveragePool(size), behind]
            assert_layers(layers, spikes)
        assert_layers([residual(rng, 18, 12, stride=2), AveragePool(2), conv(rng, 12, 5, 1, padding=0)], spikes)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_frame_in_chunks_of_steps_gives_the_same_bits(data: st.DataObject) -> None:
    program = data.draw(programs(most_steps=8, probes=False))
    frame = data.draw(frames_for(program))
    cuts = sorted(data.draw(st.sets(st.integers(0, program.steps), max_size=4)) | {0, program.steps})
    expected = ReferenceEngine(program).head(frame)
    for name in builds():
        with mock.patch.dict(os.environ, {ISA: name}):
            head = Arena(program.head, program.frame_shape, pixels=True)
            exit_ = Arena(program.exit, program.split_shape, pixels=False)
        chunks = [(start, end - start) for start, end in itertools.pairwise(cuts)]
        found = [head.run(frame, start, count) for start, count in chunks]
        np.testing.assert_array_equal(np.concatenate(found), expected)
        sums = sum(exit_.run(spikes, *chunk) for spikes, chunk in zip(found, chunks, strict=True))
        np.testing.assert_array_equal(sums, reference.run(program.exit, expected)[0])


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
@pytest.mark.usefixtures("isa")
def test_golden_vectors_replay(path: Path) -> None:
    golden = load(path)
    engine = EventEngine(golden.program)
    split = engine.head(golden.frame)
    np.testing.assert_array_equal(split, golden.vectors[f"head.{len(golden.program.head) - 1}.spikes"])
    for encoder in range(len(golden.program.encoders)):
        np.testing.assert_array_equal(engine.encode(split, encoder), golden.code(encoder))
    assert engine.exit(split).tobytes() == golden.vectors["exit.logits"].astype("<f4").tobytes()


def test_threads_may_share_an_engine() -> None:
    program = small_program(steps=4)
    engine, expected = EventEngine(program), ReferenceEngine(program)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (6, 8, 8, 1), np.uint8)
    answers = [(expected.head(f).tobytes(), expected.encode(expected.head(f)).tobytes()) for f in frames]
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(300):
            spikes = engine.head(frames[index])
            if (spikes.tobytes(), engine.encode(spikes).tobytes()) != answers[index]:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(frames))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_threads_that_share_a_frame_give_the_same_bits(data: st.DataObject) -> None:
    program = data.draw(programs())
    frame, split = data.draw(frames_for(program)), data.draw(spikes_for(program.split_shape))
    alone, shared = EventEngine(program), EventEngine(program, data.draw(st.integers(2, 5)))
    for _ in range(3):
        assert shared.head(frame).tobytes() == alone.head(frame).tobytes()
        assert shared.encode(split).tobytes() == alone.encode(split).tobytes()
        assert shared.exit(split).tobytes() == alone.exit(split).tobytes()


def test_engines_that_want_the_same_helpers_do_not_wait_for_each_other() -> None:
    rng = np.random.default_rng(4)
    spikes = rng.random((3, 24, 17, 17)) < 0.2
    expected = Arena([layer := conv(rng, 24, 40)], spikes.shape, pixels=False).run(spikes).tobytes()
    found: list[bytes] = []

    def work() -> None:
        arena = Arena([layer], spikes.shape, pixels=False, threads=3)
        found.extend(arena.run(spikes).tobytes() for _ in range(200))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert set(found) == {expected}
    assert len(found) == 800


def test_a_forked_process_finds_helpers_of_its_own() -> None:
    rng = np.random.default_rng(5)
    spikes = rng.random((2, 16, 12, 12)) < 0.3
    arena = Arena([conv(rng, 16, 16)], spikes.shape, pixels=False, threads=2)
    expected = arena.run(spikes).tobytes()
    child = os.fork()
    if child == 0:
        os._exit(int(arena.run(spikes).tobytes() != expected))
    assert os.waitpid(child, 0)[1] == 0
    assert arena.run(spikes).tobytes() == expected


def test_a_frame_leaves_no_memory_behind() -> None:
    program = small_program(steps=4)
    engine = EventEngine(program)
    frame = np.full((8, 8, 1), 200, np.uint8)

    def classify() -> None:
        engine.exit(engine.head(frame))

    classify()
    tracemalloc.start()
    try:
        for _ in range(5):
            classify()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(200):
            classify()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2000
    assert peak - before < 20 * sys.getsizeof(np.empty(program.split_shape, np.bool_))


def test_spikes_of_another_shape_are_refused() -> None:
    engine = EventEngine(small_program())
    with pytest.raises(DeviceError, match=r"^the event engine takes spikes of \(2, 4, 4, 4\) or a frame of that "):
        engine.encode(np.zeros((2, 4, 4, 5), np.bool_))
    with pytest.raises(DeviceError, match=r"not \(3, 4, 4, 4\); steps 0 to 3 of 2$"):
        engine.exit(np.zeros((3, 4, 4, 4), np.bool_))


@pytest.mark.parametrize(("start", "count"), [(0, 0), (0, -1), (3, 1), (2, 2), (0, 1 << 40)])
def test_steps_that_make_no_sense_are_refused_before_there_is_room_for_them(start: int, count: int) -> None:
    arena = Arena([conv(np.random.default_rng(0), 8, 8)], (3, 8, 4, 4), pixels=False)
    with pytest.raises(DeviceError, match=rf"steps {start} to {start + count} of 3$"):
        arena.run(np.zeros((3, 8, 4, 4), np.bool_), start, count)


def test_steps_that_are_not_there_are_refused() -> None:
    program = small_program()
    arena = Arena(program.encoder, program.split_shape, pixels=False)
    spikes = np.zeros(program.split_shape, np.bool_)
    with pytest.raises(DeviceError, match=r"steps 1 to 3 of 2$"):
        arena.run(spikes, 1, 2)


def test_a_layer_beyond_the_librarys_limits_is_refused() -> None:
    rows = np.zeros((70_000, 1), np.int8)
    layer = Linear(rows, np.zeros(70_000, I32), np.ones(70_000, I32))
    with pytest.raises(
        DeviceError, match=r"^this program is too large for the event engine; choose another one with --engine numpy$"
    ):
        Arena([layer], (2, 1, 1, 1), pixels=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("mmx", f"{ISA}=mmx: no such instruction set; choose one of: {', '.join(ISAS)}"),
        ("avx512", f"{ISA}=avx512: this processor has not got it; leave the variable away"),
    ],
)
def test_an_instruction_set_that_is_not_there_is_named(value: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if value == "avx512":
        library = native.library()
        assert library is not None
        monkeypatch.setattr(library, "ecc_events_isa", lambda *_: -1)
    monkeypatch.setenv(ISA, value)
    with pytest.raises(DeviceError) as caught:
        EventEngine(small_program())
    assert str(caught.value) == text


def corrupted(rng: np.random.Generator, program: Program) -> tuple[dict[str, object], dict[str, NDArray[np.generic]]]:
    """A program's records with one thing changed: a number of an entry, or a tensor's values, shape or name."""
    spec, tensors = to_records(program)
    spec, tensors = json.loads(json.dumps(spec)), dict(tensors)
    if rng.random() < 0.5:
        entries = [entry for section in SECTIONS for entry in spec[section]]
        entry = entries[rng.integers(len(entries))]
        keys = [key for key, value in entry.items() if isinstance(value, int)] or ["op"]
        entry[keys[rng.integers(len(keys))]] = [0, -1, 1, 2, 3, 8, 64, 2**31, 10**30][rng.integers(9)]
        return spec, tensors
    name = sorted(tensors)[rng.integers(len(tensors))]
    tensor = tensors.pop(name)
    match rng.integers(4):
        case 0:
            raw = bytearray(tensor.tobytes())
            raw[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
            tensors[name] = np.frombuffer(bytes(raw), tensor.dtype).reshape(tensor.shape)
        case 1:
            tensors[name] = tensor[..., : rng.integers(tensor.shape[-1] + 1)]
        case 2:
            tensors[name] = np.concatenate([tensor, tensor[:1]])
        case _:
            tensors[name[:-1]] = tensor
    return spec, tensors


def test_ten_thousand_damaged_programs_are_refused_or_run() -> None:
    rng = np.random.default_rng(0)
    programs_ = [small_program(), newer_program()]
    frames = [np.full((8, 8, 1), 100, np.uint8), np.full((8, 8, 1), 100, np.uint8)]
    refused = 0
    for number in range(10_000):
        try:
            program = from_records(*corrupted(rng, programs_[number % 2]))
        except CompileError:
            refused += 1
        else:
            engine = EventEngine(program)
            split = engine.head(frames[number % 2])
            engine.encode(split)
            engine.exit(split)
    assert 5_000 < refused < 9_000


def newer_program() -> Program:
    """A small program of the layers that files of format 2 have."""
    rng = np.random.default_rng(0)
    return Program(
        FrameSpec(3, 1, 8, 8),
        (conv(rng, 1, 4, theta=4000, leak=20_000), residual(rng, 4, 6, stride=2)),
        (AveragePool(2), conv(rng, 6, 3)),
        (residual(rng, 6, 6, bare=True), AveragePool(4), linear(rng, 6, 5), readout(rng, 5, 3)),
    )
