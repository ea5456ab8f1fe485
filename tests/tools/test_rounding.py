"""Training with the weights that the device will have."""

import numpy as np
import pytest
import torch
from torch import nn

from ecc_model.nets.quantize import compile_section, quantize
from ecc_model.nets.vgg import VggConfig
from ecc_tools.rounding import AsIntegers, rounded
from support.models import lively_network

CONFIG = VggConfig(steps=2, channels=1, height=16, width_px=16, width=0.1, classes=4)


@pytest.mark.parametrize("shape", [(3, 2, 3, 3), (4, 5)])
def test_rounded_weights_are_those_of_the_program_and_pass_the_gradient_on(shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
    integers, _, scale = quantize(weight.detach().double().numpy(), np.zeros(shape[0]))
    expected = integers * scale.reshape(-1, *[1] * (len(shape) - 1))
    np.testing.assert_allclose(rounded(weight).detach().numpy(), expected, atol=1e-6)
    (rounded(weight) * torch.arange(weight.numel()).view(shape)).sum().backward()
    assert torch.equal(weight.grad, torch.arange(weight.numel()).view(shape).float())


def test_channels_without_weights_stay_silent():
    assert torch.equal(rounded(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_a_network_computes_with_the_weights_that_it_would_be_compiled_to():
    net = lively_network(CONFIG, 0)
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    frames = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        as_integers = AsIntegers(net, "after_each_step")(frames)
        assert not torch.equal(as_integers, net.after_each_step(frames))
        assert all(torch.equal(value, kept[name]) for name, value in net.state_dict().items())
        for weight in (p for p in net.parameters() if p.ndim > 1):
            weight.copy_(rounded(weight))
        torch.testing.assert_close(as_integers, net.after_each_step(frames))
    [layer] = compile_section(nn.Sequential(net.head[0]))
    before = lively_network(CONFIG, 0)
    [unrounded] = compile_section(nn.Sequential(before.head[0]))
    np.testing.assert_array_equal(layer.weight, unrounded.weight)  # batch norm does not change what is rounded to
