"""Spikes and operations of networks small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ecc_model.frames import FrameSpec
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_network
from ecc_model.nets.vgg import SpikingConv
from ecc_model.program import Conv, Program, Readout
from ecc_tools.batched import BatchedProgram
from ecc_tools.evaluation.counting import LayerOperations, Tally
from support.models import CONFIG, lively_network


def of(tally: Tally, place: str, frames: int = 1) -> LayerOperations:
    return {layer.place: layer for layer in tally.operations(frames).layers}[place]


def run(net: nn.Module, *inputs: torch.Tensor) -> Tally:
    tally = Tally()
    with torch.inference_mode(), tally.attached(net):
        for values in inputs:
            net(values)
    return tally


def linear(rows: list[list[float]]) -> nn.Sequential:
    layer = nn.Linear(len(rows[0]), len(rows))
    layer.weight.data = torch.tensor(rows)
    return nn.Sequential(layer)


NEUROBENCH = [[1.3, 0.0, -3.2], [0.0, 1.2, -5.1], [-1.1, 2.7, 0.0]]  # the example of its documentation


def test_the_example_of_neurobench_has_nine_dense_and_four_effective_operations() -> None:
    found = run(linear(NEUROBENCH), torch.tensor([[0.0, 1.3, -1.0]])).operations(1)
    assert (found.dense, found.effective_macs, found.effective_acs) == (9, 4, 0)
    assert (found.sops, found.sops_counted, found.mean_firing) == (0, 0, None)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_spikes_are_accumulated_not_multiplied(sign: float) -> None:
    tally = run(linear(NEUROBENCH), torch.tensor([[0.0, 1.0, sign]]))
    found = tally.operations(1)
    assert (found.dense, found.effective_macs, found.effective_acs) == (9, 0, 4)
    assert (found.sops, found.sops_counted) == (pytest.approx(6), 6)  # 2/3 x 1 x 9; two inputs, three weights each
    assert of(tally, "0").input_rate == pytest.approx(2 / 3)


def test_one_value_between_makes_a_layer_multiply_for_good() -> None:
    net = linear(NEUROBENCH)
    found = run(net, torch.tensor([[0.0, 1.0, 0.5]]), torch.tensor([[0.0, 1.0, 1.0]])).operations(2)
    assert (found.effective_macs, found.effective_acs) == (4, 0)


def hollow() -> np.ndarray:
    """A 3x3 kernel whose centre is zero."""
    kernel = np.full((1, 1, 3, 3), 5, np.int8)
    kernel[0, 0, 1, 1] = 0
    return kernel


def corner() -> torch.Tensor:
    """One spike in the corner of a 2x2 map."""
    spikes = torch.zeros(1, 1, 2, 2)
    spikes[0, 0, 0, 0] = 1.0
    return spikes


def test_a_convolution_counts_no_padding_but_in_macs() -> None:
    layer = nn.Conv2d(1, 1, 3, padding=1)
    layer.weight.data = torch.from_numpy(hollow()).float()
    found = of(run(nn.Sequential(layer), corner()), "0")
    assert found.macs == 4 * 9
    assert found.dense == 4 * 4  # each of four outputs sees all four inputs
    assert found.sops_counted == 4
    assert found.effective == 3  # not through the centre
    assert found.sops == pytest.approx(36 / 4)


def test_stride_and_groups_are_counted() -> None:
    layer = nn.Conv2d(4, 6, 2, stride=2, groups=2)
    found = of(run(nn.Sequential(layer), torch.ones(3, 4, 4, 4)), "0", frames=3)
    assert (found.macs, found.dense, found.effective) == (6 * 4 * 2 * 4,) * 3


def test_a_sequence_of_tokens_is_a_pass_for_each() -> None:
    found = of(run(linear(NEUROBENCH), torch.ones(2, 5, 3)), "0", frames=2)
    assert (found.passes, found.macs, found.dense) == (5, 9, 45)


def program() -> Program:
    """Two steps; the first layer passes a pixel of 10 on in its second step, the exit spreads it."""
    one, zero = np.ones((1, 1, 1, 1), np.int8), np.zeros(1, np.int32)
    first = Conv(one, zero, np.array([15], np.int32), padding=0)
    encoder = Conv(one, zero, np.array([1], np.int32), padding=0)
    spread = Conv(hollow(), zero, np.array([5], np.int32))
    weight = np.array([[0, 1, 0, 1], [1, 1, 1, 1]], np.int8)
    readout = Readout(weight, np.zeros(2, np.int32), np.ones(2, np.float32))
    return Program(FrameSpec(2, 1, 2, 2), (first,), (encoder,), (spread, readout))


def test_an_integer_program_is_counted_layer_by_layer() -> None:
    tally = Tally()
    frame = np.zeros((1, 2, 2, 1), np.uint8)
    frame[0, 0, 0] = 10
    BatchedProgram(program()).run(frame, tally.watch)
    first, spread, readout = (of(tally, place) for place in ("head.0", "exit.0", "exit.1"))
    # one pixel, once for both steps, and one spike of four neurons in two steps
    assert (first.input_rate, first.passes, first.macs, first.spiking) == (0.25, 1, 4, False)
    assert (first.dense, first.effective, first.sops, first.sops_counted) == (4, 1, None, None)
    assert first.firing_rate == 1 / 8
    # that spike reaches four outputs, three of them by a weight that is not zero, and these three fire
    assert (spread.input_rate, spread.passes, spread.macs, spread.spiking) == (1 / 8, 2, 36, True)
    assert (spread.sops, spread.sops_counted, spread.effective, spread.dense) == (9, 4, 3, 32)
    assert spread.firing_rate == 3 / 8
    # three spikes of two weights each; all but the one from the lower left reach both classes
    assert (readout.sops, readout.sops_counted, readout.effective, readout.firing_rate) == (6, 6, 5, None)
    found = tally.operations(1)
    assert found.mean_firing == (1 + 1 + 3) / (8 + 8 + 8)  # the encoder passes the spike on
    assert (found.effective_macs, found.effective_acs) == (1, 3 + 5 + 1)
    assert found.dense == 4 + 32 + 16 + 8
    assert (found.sops, found.sops_counted) == (9 + 6 + 1, 4 + 6 + 1)


def test_figures_are_those_of_one_frame_however_many_pass() -> None:
    frames = np.random.default_rng(0).integers(0, 30, (6, 2, 2, 1), np.uint8)
    batched, whole, parts = BatchedProgram(program()), Tally(), Tally()
    batched.run(frames, whole.watch)
    for start in range(0, 6, 2):
        batched.run(frames[start : start + 2], parts.watch)
    assert parts.operations(6) == whole.operations(6)
    assert whole.operations(6).dense == 4 + 32 + 16 + 8


def test_the_parts_of_a_spiking_layer_are_one_line() -> None:
    tally = run(nn.Sequential(SpikingConv(1, 2, Lif)).eval(), torch.zeros(3, 1, 1, 4, 4))
    (layer,) = tally.operations(1).layers
    assert (layer.place, layer.passes, layer.firing_rate, layer.input_rate) == ("0", 3, 0.0, 0.0)


def test_a_network_and_its_integer_program_are_counted_alike() -> None:
    net = lively_network(CONFIG, seed=0)
    frames = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 1), np.uint8)
    integers = Tally()
    BatchedProgram(compile_network(net)).run(frames, integers.watch)
    floats = run(net, torch.from_numpy(frames).movedim(-1, 1) / 255.0).operations(20)
    own = [layer for layer in integers.operations(20).layers if layer.place != "encoder.0"]
    for ours, theirs in zip(own, floats.layers, strict=True):
        assert (ours.place, ours.macs, ours.passes, ours.spiking, ours.dense) == (
            theirs.place,
            theirs.macs,
            theirs.passes,
            theirs.spiking,
            theirs.dense,
        )
        assert ours.firing_rate == pytest.approx(theirs.firing_rate, abs=0.05)


def test_nothing_is_counted_outside_the_context() -> None:
    net, tally = linear(NEUROBENCH), Tally()
    with tally.attached(net):
        pass
    net(torch.ones(1, 3))
    assert tally.operations(1).layers == []
