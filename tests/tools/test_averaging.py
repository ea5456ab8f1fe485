import pytest
import torch
from torch import nn

from ecc_tools.averaging import Average


def test_the_average_follows_the_weights_with_a_decay_that_grows():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 0.0)
    average = Average(net, 0.5)
    nn.init.constant_(net.weight, 1.0)
    average.update()  # decay min(0.5, 2 / 11)
    assert average.net.weight.item() == pytest.approx(9 / 11)
    average.update()  # decay min(0.5, 3 / 12)
    assert average.net.weight.item() == pytest.approx(9 / 11 * 0.25 + 0.75)


def test_the_decay_is_at_most_what_was_asked_for():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 0.0)
    average = Average(net, 0.5)
    average.load({"steps": 1000, "net": net.state_dict()})
    nn.init.constant_(net.weight, 1.0)
    average.update()
    assert average.net.weight.item() == pytest.approx(0.5)


def test_batch_statistics_are_averaged_and_counters_copied():
    norm = nn.BatchNorm1d(1)
    average = Average(norm, 0.9)
    norm(torch.full((4, 1), 10.0) + torch.arange(4.0)[:, None])
    average.update()
    assert average.net.running_mean.item() == pytest.approx((1 - 2 / 11) * norm.running_mean.item())
    assert average.net.num_batches_tracked.item() == 1


def test_a_loaded_average_goes_on_as_the_saved_one():
    torch.manual_seed(0)
    net = nn.Linear(2, 2)
    one, other = Average(net, 0.9), Average(nn.Linear(2, 2), 0.9)
    one.update()
    other.load(one.state())
    assert other.state()["steps"] == 1
    assert torch.equal(other.net.weight, one.net.weight)
