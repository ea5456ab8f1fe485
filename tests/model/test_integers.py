"""A section in torch with the integers of its program: the same bits, and gradients that learn."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from ecc_device.engines import ReferenceEngine
from ecc_model.nets import integers
from ecc_model.nets.quantize import compile_network
from ecc_model.nets.vgg import SpikingVgg9
from support.models import CONFIG, lively_network


def some(net: SpikingVgg9, seed: int, rows: int = 20) -> Tensor:
    shape = (net.config.steps, rows, net.config.split_channels, *net.config.split_sides)
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("split", [1, 2, 3])
def test_answers_are_the_programs_bit_for_bit(steps: int, split: int) -> None:
    net = lively_network(msgspec.structs.replace(CONFIG, steps=steps, split=split), seed=10 * split + steps)
    classifier = net.exit[-1].linear
    with torch.no_grad():
        classifier.weight[0] = 0.0  # a dead output, with a bias all the same
        classifier.bias[1] = -40.0
        if split < 3:
            net.exit[0].norm.weight[1] = 0.0
    engine, spikes = ReferenceEngine(compile_network(net)), some(net, seed=7)
    with torch.no_grad():
        logits, codes = integers.answer(net.exit, spikes), integers.answer(net.encoder, spikes)
    for row in range(spikes.shape[1]):
        split_spikes = spikes[:, row].numpy().astype(bool)
        assert logits[row].numpy().tobytes() == engine.exit(split_spikes).tobytes()
        np.testing.assert_array_equal(codes[:, row].numpy(), engine.encode(split_spikes))


def test_gradients_are_nearly_the_float_networks_and_reach_every_parameter() -> None:
    found = {}
    for name in ("floats", "integers"):
        net = lively_network(CONFIG, seed=4)
        spikes = some(net, seed=5, rows=100)
        logits = net.exit(spikes) if name == "floats" else integers.answer(net.exit, spikes)
        torch.nn.functional.cross_entropy(logits, torch.arange(100) % CONFIG.classes).backward()
        found[name] = [parameter.grad for parameter in net.exit.parameters()]
    for one, other in zip(found["floats"], found["integers"], strict=True):
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.9


def test_statistics_of_batch_norm_count_as_they_are_also_in_training() -> None:
    net = lively_network(CONFIG, seed=0)
    spikes, before = some(net, seed=1), net.exit[0].norm.running_mean.clone()
    expected = integers.answer(net.exit, spikes)
    assert torch.equal(integers.answer(net.exit.train(), spikes), expected)
    assert torch.equal(net.exit[0].norm.running_mean, before)
