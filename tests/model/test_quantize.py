"""From the float network to integers: each number by its formula, and golden vectors that replay bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ecc_device.engines import NumpyEngine, ReferenceEngine
from ecc_model import reference
from ecc_model.errors import CompileError
from ecc_model.frames import FrameSpec
from ecc_model.nets.quantize import compile_network, compile_section, fold, quantize, thresholds
from ecc_model.nets.vgg import SpikingConv, VggConfig
from ecc_model.program import INT32_MAX, Conv, Readout
from support import vectors
from support.golden_vectors import FOLDER, Golden, load, save
from support.models import CONFIG, lively_network

# ---- golden vectors ----


@pytest.fixture(params=vectors.CASES, ids=lambda case: case.name)
def stored(request: pytest.FixtureRequest) -> Golden:
    path = FOLDER / f"{request.param.name}.npz"
    if request.config.getoption("--regenerate-golden"):
        save(vectors.make(request.param), path)
    assert path.exists(), f"{path} is missing; make it with: pytest --regenerate-golden"
    assert path.stat().st_size < 100_000
    return load(path)


def test_the_reference_replays_every_spike_and_membrane(stored: Golden) -> None:
    program = stored.program
    pixels = reference.frame_input(stored.frame, program.steps)
    split, head = reference.run(program.head, pixels)
    sums, exit_ = reference.run(program.exit, split)
    replayed, ran = {"exit.sums": sums}, {"head": head, "exit": exit_}
    for index, layers in enumerate(program.encoders):
        _, ran[f"others.{index - 1}" if index else "encoder"] = reference.run(layers, split)
    for section, traces in ran.items():
        for index, trace in enumerate(traces):
            replayed[f"{section}.{index}.spikes"] = trace.spikes
            if trace.membrane is not None:
                replayed[f"{section}.{index}.membrane"] = trace.membrane
    assert replayed.keys() == stored.vectors.keys() - {"exit.logits"}
    for name, vector in replayed.items():
        np.testing.assert_array_equal(vector, stored.vectors[name], err_msg=name)


@pytest.mark.parametrize("engine", [NumpyEngine, ReferenceEngine])
def test_engines_replay_spikes_and_logits(stored: Golden, engine: type[NumpyEngine]) -> None:
    running = engine(stored.program)
    split = running.head(stored.frame)
    np.testing.assert_array_equal(split, stored.vectors[f"head.{len(stored.program.head) - 1}.spikes"])
    for encoder in range(len(stored.program.encoders)):
        np.testing.assert_array_equal(running.encode(split, encoder), stored.code(encoder))
    assert running.exit(split).tobytes() == stored.vectors["exit.logits"].astype("<f4").tobytes()


def test_torch_in_float64_still_gives_the_stored_vectors(stored: Golden) -> None:
    fresh = vectors.vectors(stored.program, stored.frame)
    assert fresh.keys() == stored.vectors.keys()
    for name, vector in fresh.items():
        np.testing.assert_array_equal(vector, stored.vectors[name], err_msg=name)


def test_the_id_of_stored_features_never_changes(stored: Golden) -> None:
    # devices and workers of different versions find each other by it
    assert stored.program.features_id == stored.features_id


def test_every_layer_of_the_golden_networks_fires_sometimes(stored: Golden) -> None:
    for name, vector in stored.vectors.items():
        if name.endswith("spikes"):
            assert 0 < vector.mean() < 1, name


# ---- each number by its formula ----


def test_folding_gives_convolution_and_batch_norm_in_one() -> None:
    layer = lively_network(CONFIG, seed=3).head[0]
    assert isinstance(layer, SpikingConv)
    weight, bias = fold(layer)
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    expected = layer.norm.double()(layer.conv.double()(x))
    found = torch.nn.functional.conv2d(x, torch.from_numpy(weight), torch.from_numpy(bias), padding=1)
    torch.testing.assert_close(found, expected)


def test_weights_keep_to_half_a_step_of_their_channels_scale() -> None:
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(6, 4, 3, 3)) * np.logspace(-4, 2, 6)[:, None, None, None], rng.normal(size=6)
    integer, offset, scale = quantize(weight, bias)
    assert (integer.dtype, offset.dtype) == (np.int8, np.int32)
    step = scale[:, None, None, None]
    assert (np.abs(integer * step - weight) <= step / 2 * 1.000001).all()
    assert (np.abs(offset * scale - bias) <= scale / 2 * 1.000001).all()
    assert np.abs(integer.reshape(6, -1)).max(axis=1).tolist() == [127] * 6


def test_a_huge_bias_takes_the_scale_and_a_dead_channel_never_fires() -> None:
    integer, offset, scale = quantize(np.array([[1.0, -1.0], [0.0, 0.0]]), np.array([2.0**20, 0.0]))
    assert offset.tolist() == [2**24, 0]
    assert scale[0] == 2.0**-4
    assert integer.tolist() == [[16, -16], [0, 0]]
    assert thresholds(scale).tolist() == [32, INT32_MAX]


def test_thresholds_are_twice_the_potential_rounded_up_and_at_least_one() -> None:
    assert thresholds(np.array([1.0, 0.3, 100.0, 1e-12])).tolist() == [2, 7, 1, INT32_MAX]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float) -> None:
    net = lively_network(CONFIG, seed=0)
    net.encoder[0].conv.weight.data[0, 0, 0, 0] = value
    with pytest.raises(CompileError, match=r"^weights are not finite; train again with a smaller learning rate$"):
        compile_network(net)


def test_a_layer_without_an_integer_form_is_named() -> None:
    with pytest.raises(CompileError, match=r"^no integer form is known for the layer GELU$"):
        compile_section(torch.nn.Sequential(torch.nn.GELU()))


def test_the_frames_scale_goes_into_the_first_layer_and_the_steps_into_the_readout() -> None:
    net = lively_network(CONFIG, seed=0)
    program = compile_network(net)
    assert program.input == FrameSpec(2, 1, 16, 16)
    first, last = program.head[0], program.exit[-1]
    assert isinstance(first, Conv)
    assert isinstance(last, Readout)
    weight, bias = fold(net.head[0])
    _, _, scale = quantize(weight / 255, bias)
    assert first.theta.tolist() == np.ceil(2 / scale).astype(int).tolist()
    biggest = net.exit[-1].linear.weight.detach().double().abs().amax(1).numpy() / 127
    np.testing.assert_allclose(last.scale, biggest / 2, rtol=1e-6)


@pytest.mark.parametrize("split", [1, 3])
def test_each_integer_layer_fires_like_the_float_layer(split: int) -> None:
    # layer by layer: in an untrained network small differences grow from layer to layer
    config = VggConfig(steps=4, channels=1, height=16, width_px=16, width=0.12, classes=6, split=split)
    net = lively_network(config, seed=5)
    program = compile_network(net)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 1), np.uint8)
    spikes = reference.frame_input(pixels, 4)
    scale = 255.0
    for module, layer in zip([*net.head, *net.exit], program.head + program.exit, strict=True):
        with torch.no_grad():
            expected = module(torch.from_numpy(spikes[:, None] / scale).float()).numpy()
        out, _ = reference.run([layer], spikes)
        if isinstance(layer, Readout):
            np.testing.assert_allclose(out * layer.scale, expected[0], rtol=0.02, atol=0.02)
        else:
            assert np.mean(out == expected[:, 0]) > 0.98
            assert 0.01 < out.mean() < 0.99
        spikes, scale = expected[:, 0].astype(np.int64), 1.0
