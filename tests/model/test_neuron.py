"""The learner's few lines of LIF are spikingjelly's neuron, forward and backward."""

from __future__ import annotations

import pytest
import torch

from ecc_model.nets.neuron import Lif, spikingjelly_lif


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_spikes_and_gradients_are_those_of_spikingjelly(steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    current = torch.randn(steps, 3, 5, 4, 4) * 2 + 0.5
    weight = torch.randn_like(current)
    results = []
    for neuron in (Lif(), spikingjelly_lif()):
        inputs = current.clone().requires_grad_()
        spikes = neuron(inputs)
        (spikes * weight).sum().backward()
        results.append((spikes.detach(), inputs.grad))
    (ours, our_gradient), (theirs, their_gradient) = results
    assert torch.equal(ours, theirs)
    assert 0.05 < ours.mean() < 0.95
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-5, atol=1e-7)


def test_the_neuron_by_hand() -> None:
    # U = V + (X - V) / 2, spike at 1, then V = 0
    current = torch.tensor([1.0, 1.0, 1.5, 0.0, 2.0, 4.0])[:, None]
    assert Lif()(current).ravel().tolist() == [0.0, 0.0, 1.0, 0.0, 1.0, 1.0]


def test_both_start_each_frame_from_rest() -> None:
    current = torch.full((2, 1), 1.5)
    for neuron in (Lif(), spikingjelly_lif()):
        first = neuron(current)
        assert torch.equal(neuron(current), first)
        assert neuron(torch.zeros(3, 2, 2)).sum() == 0  # another shape
