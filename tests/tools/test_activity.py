import pytest
import torch
from torch import nn

from ecc_tools.activity import Activity


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),  # sees the frame: not counted
        nn.Conv2d(2, 4, 3, padding=1, bias=False),  # 4 x 4 x 4 outputs, 18 weights each: 1152 MACs
        nn.Flatten(),
        nn.Linear(64, 3),  # 192 MACs
    )


def test_rates_are_weighted_by_what_a_layer_costs():
    net = network()
    activity = Activity(net)
    spikes = torch.zeros(1, 2, 4, 4)
    spikes[0, 0] = 1.0  # half of the inputs fire
    net[1](spikes)
    net[3](torch.ones(1, 64))
    assert activity.take().item() == pytest.approx((0.5 * 1152 + 1.0 * 192) / (1152 + 192))


def test_a_take_starts_anew():
    net = network()
    activity = Activity(net)
    net(torch.rand(2, 1, 4, 4))
    activity.take()
    net[3](torch.zeros(1, 64))
    assert activity.take().item() == 0.0


def test_the_share_carries_gradient_to_what_fires():
    net = network()
    activity = Activity(net)
    spikes = torch.ones(1, 2, 4, 4, requires_grad=True)
    net[1](spikes)
    activity.take().backward()
    assert spikes.grad is not None
    assert torch.allclose(spikes.grad, torch.full_like(spikes, 1 / 32))
