"""The engines on foreign runtimes, tflite and torch: the bits of the reference, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecc_device.engines import Engine, ReferenceEngine, TfliteEngine, TorchEngine, make_engine
from ecc_device.engines import tflite as tflite_engine
from ecc_device.engines import torch as torch_engine
from ecc_model.errors import DeviceError, MissingEngine, MissingPackage
from ecc_model.frames import FrameSpec
from ecc_model.layers import AveragePool, Conv, Layer
from ecc_model.program import Program
from support.engines import installed_engines
from support.golden_vectors import FOLDER, load
from support.programs import conv, frames_for, linear, programs, readout, residual, small_program, spikes_for, trained

if TYPE_CHECKING:
    from numpy.typing import NDArray

needs_tflite = pytest.mark.skipif("tflite" not in installed_engines(), reason="no runtime for .tflite is installed")
needs_torch = pytest.mark.skipif("torch" not in installed_engines(), reason="torch is not installed")


def tflite_forms() -> list[Callable[[Program], Engine]]:
    """The engine with int8 products and with float32 ones, on whatever runtime is installed."""

    def form(hybrid: bool) -> Callable[[Program], Engine]:
        def make(program: Program) -> Engine:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(tflite_engine, "RUNTIMES", dict.fromkeys(tflite_engine.RUNTIMES, hybrid))
                return TfliteEngine(program)

        return make

    return [form(True), form(False)]


def assert_same_bits(engine: Engine, frame: NDArray[np.uint8], split: NDArray[np.bool_]) -> None:
    expected = ReferenceEngine(engine.program)
    for _ in range(2):  # nothing of a frame stays for the next one
        spikes = engine.head(frame)
        assert (spikes.dtype, spikes.shape) == (np.bool_, engine.program.split_shape)
        np.testing.assert_array_equal(spikes, expected.head(frame))
        for row in (spikes, split):
            for encoder, shape in enumerate(engine.program.code_shapes):
                code = engine.encode(row, encoder)
                assert (code.dtype, code.shape) == (np.bool_, shape)
                np.testing.assert_array_equal(code, expected.encode(row, encoder))
            logits = engine.exit(row)
            assert logits.dtype == np.float32
            assert logits.tobytes() == expected.exit(row).tobytes()


@needs_torch
@given(st.data())
@settings(deadline=None, max_examples=60)
def test_torch_emits_the_bits_of_the_reference(data: st.DataObject) -> None:
    program = data.draw(programs())
    engine = TorchEngine(program)
    assert_same_bits(engine, data.draw(frames_for(program)), data.draw(spikes_for(program.split_shape)))


@needs_tflite
@given(st.data())
@settings(deadline=None, max_examples=60)
def test_tflite_emits_the_bits_of_the_reference(data: st.DataObject) -> None:
    program = trained(data.draw(programs(most_channels=20)))
    frame, split = data.draw(frames_for(program)), data.draw(spikes_for(program.split_shape))
    for make in tflite_forms():
        assert_same_bits(make(program), frame, split)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.npz")), ids=lambda path: path.stem)
@pytest.mark.parametrize("name", ["tflite", "torch"])
def test_golden_vectors_replay(path: Path, name: str) -> None:
    if name not in installed_engines():
        pytest.skip(f"the engine '{name}' is not installed")
    golden = load(path)
    if name == "tflite" and path.stem.startswith("layers"):
        pytest.skip("residual sums and other leaks are not for this engine")
    engine = make_engine(name, golden.program)
    split = engine.head(golden.frame)
    np.testing.assert_array_equal(split, golden.vectors[f"head.{len(golden.program.head) - 1}.spikes"])
    for encoder in range(len(golden.program.encoders)):
        np.testing.assert_array_equal(engine.encode(split, encoder), golden.code(encoder))
    assert engine.exit(split).tobytes() == golden.vectors["exit.logits"].astype("<f4").tobytes()


def wide(weight: int, channels: int, bias: int) -> Program:
    """An exit whose first sums are as large as `channels` weights make them, and the like."""
    rng = np.random.default_rng(0)
    kernel = np.full((3, channels, 3, 3), weight, np.int8)
    limits = np.array([1, max(1, abs(weight) * channels * 9 + bias), 2**31 - 1], np.int32)
    layer = Conv(kernel, np.full(3, bias, np.int32), limits)
    head = conv(rng, 1, channels, theta=4000)
    return Program(FrameSpec(2, 1, 4, 4), (head,), (conv(rng, channels, 2),), (layer, readout(rng, 48, 3)))


@needs_tflite
@pytest.mark.parametrize("bias", [0, 1 << 19, (1 << 22) - 1])
@pytest.mark.parametrize("weight", [-128, -127, 127])
def test_large_sums_stay_exact_in_tflite(weight: int, bias: int) -> None:
    program = wide(weight, 400, bias)
    rng = np.random.default_rng(1)
    for make in tflite_forms():
        for rate in (0.0, 0.5, 1.0):
            assert_same_bits(
                make(program), rng.integers(0, 256, (4, 4, 1), np.uint8), rng.random(program.split_shape) < rate
            )


@needs_torch
def test_sums_beyond_float32_stay_exact_in_torch() -> None:
    program = wide(127, 40, 2**29 + 1)
    assert_same_bits(TorchEngine(program), np.full((4, 4, 1), 200, np.uint8), np.ones(program.split_shape, np.bool_))


@needs_tflite
@pytest.mark.parametrize("size", [2, 3])
def test_average_pools_are_exact_in_tflite(size: int) -> None:
    rng = np.random.default_rng(size)
    exit_ = (AveragePool(size), conv(rng, 4, 5, 1, padding=0), linear(rng, 20, 6), readout(rng, 6, 3))
    head = conv(rng, 1, 4, theta=4000)
    program = Program(FrameSpec(3, 1, 2 * size, 2 * size), (head,), (conv(rng, 4, 2),), exit_)
    frame = rng.integers(0, 256, (2 * size, 2 * size, 1), np.uint8)
    for make in tflite_forms():
        assert_same_bits(make(program), frame, rng.random(program.split_shape) < 0.5)


def behind_the_split(layer: Layer) -> Program:
    """A program whose exit begins with a layer of four channels."""
    rng = np.random.default_rng(0)
    head, encoder = conv(rng, 1, 4, theta=4000), conv(rng, 4, 2)
    return Program(FrameSpec(2, 1, 4, 4), (head,), (encoder,), (layer, readout(rng, 64, 3)))


def refused(layer: Layer) -> str:
    with pytest.raises(DeviceError) as caught:
        TfliteEngine(behind_the_split(layer))
    return str(caught.value)


@needs_tflite
@pytest.mark.parametrize("kind", ["residual", "leak"])
def test_layers_that_tflite_does_not_know_are_refused(kind: str) -> None:
    rng = np.random.default_rng(0)
    layer: Layer = residual(rng, 4, 4) if kind == "residual" else conv(rng, 4, 4, leak=21_000)
    assert refused(layer) == (
        "layer 0 is a residual sum or has another leak than 1/2, which the engine 'tflite' does not know; "
        "choose another one with --engine event"
    )


@needs_tflite
def test_sums_that_tflite_cannot_hold_are_refused() -> None:
    def biased(bias: int) -> Conv:
        return Conv(np.zeros((4, 4, 3, 3), np.int8), np.full(4, bias, np.int32), np.ones(4, np.int32))

    assert TfliteEngine(behind_the_split(biased(2**23 - 1))).name == "tflite"
    assert refused(biased(2**23)) == (
        "layer 0 has sums of up to 16777217, beyond what the engine 'tflite' holds exactly; "
        "choose another one with --engine event"
    )


@pytest.mark.parametrize(
    ("engine", "module", "text"),
    [
        (TfliteEngine, tflite_engine, "the engine 'tflite' needs LiteRT, which is not installed; "),
        (TorchEngine, torch_engine, "the engine 'torch' needs PyTorch, which is not installed; "),
    ],
)
def test_an_engine_that_is_not_installed_names_the_command(
    engine: type[TfliteEngine], module: object, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str, purpose: str) -> None:
        raise MissingPackage(name, purpose, "x")

    monkeypatch.setattr(module, "require", absent)
    with pytest.raises(MissingEngine) as caught:
        engine(small_program())
    extra = "tflite" if engine is TfliteEngine else "learn"
    assert str(caught.value) == f"{text}install it with: pip install 'ecc-snn[{extra}]'"


@needs_tflite
def test_without_litert_the_older_runtime_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    require = tflite_engine.require

    def only_old(name: str, purpose: str) -> object:
        asked.append(name)
        if name == "ai_edge_litert.interpreter":
            raise MissingPackage(name, purpose, "x")
        return require("ai_edge_litert.interpreter" if name == "tflite_runtime.interpreter" else name, purpose)

    monkeypatch.setattr(tflite_engine, "require", only_old)
    program = small_program()
    assert_same_bits(TfliteEngine(program), np.full((8, 8, 1), 99, np.uint8), np.ones(program.split_shape, np.bool_))
    assert asked.count("tflite_runtime.interpreter") == 1
