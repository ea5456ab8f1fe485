"""Spiking ResNets: the split points and MACs of the paper's tables, tdBN, still and moving frames, learning."""

from __future__ import annotations

import itertools
import math
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

from ecc_model.nets.neuron import Lif, spikingjelly_lif
from ecc_model.nets.resnet import Added, Kind, SpikingResidual, SpikingResnet, SpikingResnetConfig
from ecc_model.nets.vgg import GAMMA

KINDS: tuple[Kind, ...] = ("spiking-resnet18", "spiking-resnet34", "spiking-resnet50")
COUNTS = {"spiking-resnet18": 8, "spiking-resnet34": 16, "spiking-resnet50": 16}
PJ_PER_MAC = 4.6  # 45 nm
# SpikeBottleNet, Table 3, row BottleNet++ with a further digit: mJ up to and with RB1 ... RB16
TABLE_3 = (0.270, 0.598, 0.926, 1.331, 1.659, 1.987, 2.315, 2.720, 3.048, 3.376, 3.704, 4.032, 4.360, 4.766, 5.094)
TABLE_3 = (*TABLE_3, 5.422)


def config(**changes: Any) -> SpikingResnetConfig:
    tiny = {
        "kind": "spiking-resnet18",
        "steps": 2,
        "channels": 1,
        "height": 16,
        "width_px": 24,
        "width": 0.06,
        "classes": 5,
        "code_channels": 3,
    }
    return SpikingResnetConfig(**(tiny | changes))


def full(kind: Kind, split: str = "RB4") -> SpikingResnetConfig:
    return config(kind=kind, channels=3, height=32, width_px=32, width=1.0, classes=100, split=split)


def lively(made: SpikingResnetConfig) -> SpikingResnet:
    """Random weights, with the batch norm statistics of random frames, in eval mode."""
    torch.manual_seed(0)
    net = SpikingResnet(made, Lif)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of the one pass
    with torch.no_grad():
        spikes = net.split(torch.rand(8, made.channels, made.height, made.width_px))
        net.encoder(spikes)
        net.exit(spikes)
    return net.eval()


def shapes(made: SpikingResnetConfig) -> tuple[list[tuple[int, ...]], list[int]]:
    """(C, H, W) behind every block, and the MACs of its branch's convolutions in one step."""
    net = SpikingResnet(msgspec.structs.replace(made, steps=1), Lif).eval()
    maps: list[tuple[int, ...]] = []
    macs: list[int] = []

    def count(conv: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        macs[-1] += output[0].numel() * conv.weight[0].numel()

    for block in residuals(net):
        block.register_forward_pre_hook(lambda module, inputs: macs.append(0))
        block.register_forward_hook(lambda module, inputs, output: maps.append(tuple(output.shape[2:])))
        for conv in block.branch.modules():
            if isinstance(conv, nn.Conv2d):
                conv.register_forward_hook(count)
    with torch.no_grad():
        net(torch.zeros(1, made.channels, made.height, made.width_px))
    return maps, macs


@pytest.fixture(scope="module")
def resnet50() -> tuple[list[tuple[int, ...]], list[int]]:
    return shapes(full("spiking-resnet50"))


def residuals(net: SpikingResnet) -> list[SpikingResidual]:
    return [module for part in (net.head, net.exit) for module in part if isinstance(module, SpikingResidual)]


# ---- the paper's network ----


def test_resnet50_has_the_sixteen_split_points_of_the_paper(resnet50: tuple[list[tuple[int, ...]], list[int]]) -> None:
    maps, _ = resnet50
    assert maps == [(256, 32, 32)] * 3 + [(512, 16, 16)] * 4 + [(1024, 8, 8)] * 6 + [(2048, 4, 4)] * 3
    assert [block.name for block in full("spiking-resnet50").blocks] == [f"RB{number}" for number in range(1, 17)]


def test_macs_of_resnet50_cost_what_table_3_says_at_each_of_them(
    resnet50: tuple[list[tuple[int, ...]], list[int]],
) -> None:
    _, macs = resnet50
    millijoule = [round(total * PJ_PER_MAC * 1e-9, 3) for total in itertools.accumulate(macs)]
    assert millijoule == list(TABLE_3)


def test_basic_networks_have_eight_and_sixteen_split_points() -> None:
    maps, macs = shapes(full("spiking-resnet18"))
    assert maps == [(64, 32, 32)] * 2 + [(128, 16, 16)] * 2 + [(256, 8, 8)] * 2 + [(512, 4, 4)] * 2
    assert macs == [75_497_472, 75_497_472] + [56_623_104, 75_497_472] * 3
    maps, _ = shapes(full("spiking-resnet34"))
    assert maps == [(64, 32, 32)] * 3 + [(128, 16, 16)] * 4 + [(256, 8, 8)] * 6 + [(512, 4, 4)] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_the_dense_network_and_of_norms_at_each_addition(kind: Kind) -> None:
    # published for 100 classes and small images, with norms at the shortcuts that have a convolution
    dense = {"spiking-resnet18": 11_220_132, "spiking-resnet34": 21_328_292, "spiking-resnet50": 23_705_252}[kind]
    with torch.device("meta"):
        net = SpikingResnet(full(kind), Lif)
    bare = [block.shortcut for block in residuals(net) if isinstance(block.shortcut.conv, nn.Identity)]
    more = sum(weight.numel() for shortcut in bare for weight in shortcut.parameters())
    found = sum(weight.numel() for part in (net.head, net.exit) for weight in part.parameters())
    assert found == dense + more
    strided = [m.kernel_size for m in net.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
    assert strided == [(3, 3), (1, 1)] * 3  # in the 3x3 convolution and in the shortcut of a stage's first block


# ---- cuts ----


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_can_be_the_cut(kind: Kind) -> None:
    reference = lively(config(kind=kind, split="RB1"))
    weights = [*reference.head, *reference.exit]
    frames = torch.rand(2, 1, 16, 24)
    with torch.no_grad():
        expected = reference(frames)
        for number in range(1, COUNTS[kind] + 1):
            made = config(kind=kind, split=f"RB{number}", code_stride=2)
            net = SpikingResnet(made, Lif).eval()
            for module, source in zip([*net.head, *net.exit], weights, strict=True):
                module.load_state_dict(source.state_dict())
            spikes = net.split(frames)
            height, width_px = made.split_sides
            assert spikes.shape == (2, 2, made.split_channels, height, width_px)
            assert net.encoder(spikes).shape == (2, 2, 3, -(-height // 2), -(-width_px // 2))
            assert set(spikes.unique().tolist()) == {0.0, 1.0}
            assert torch.equal(net.exit(spikes), expected)
            assert torch.equal(net(frames), expected)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"height": 20}, "sides divisible by 8 are needed, not 20 x 24"),
        ({"width_px": 12}, "sides divisible by 8 are needed, not 16 x 12"),
        ({"split": "RB0"}, "the cut lies behind RB1 to RB8, not RB0"),
        ({"split": "RB9"}, "the cut lies behind RB1 to RB8, not RB9"),
        ({"split": "4"}, "the cut lies behind RB1 to RB8, not 4"),
        ({"kind": "spiking-resnet50", "split": "RB17"}, "the cut lies behind RB1 to RB16, not RB17"),
    ],
)
def test_a_network_that_cannot_be_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        config(**changes)


def test_a_configuration_survives_being_written() -> None:
    made = config(kind="spiking-resnet50", split="RB16", code_stride=2)
    assert msgspec.convert(msgspec.to_builtins(made), SpikingResnetConfig) == made


# ---- frames and steps ----


@pytest.mark.parametrize("kind", ["spiking-resnet18", "spiking-resnet50"])
@pytest.mark.parametrize(("steps", "channels"), [(1, 3), (2, 1), (3, 2), (4, 3)])
def test_a_still_frame_is_the_same_frame_at_each_step(kind: Kind, steps: int, channels: int) -> None:
    net = lively(config(kind=kind, steps=steps, channels=channels))
    still = torch.rand(3, channels, 16, 24)
    with torch.no_grad():
        logits = net(still)
        assert logits.shape == (3, 5)
        torch.testing.assert_close(net(still[:, None].expand(-1, steps, -1, -1, -1)), logits)


def test_steps_differ_where_frames_do_and_logits_are_their_mean() -> None:
    net = lively(config())
    moving = torch.rand(1, 2, 1, 16, 24)
    with torch.no_grad():
        spikes = net.split(moving)
        assert not torch.equal(spikes, net.split(moving.flip(1)))
        rates = net.exit[:-1](spikes)
        assert rates.shape == (2, 1, net.config.blocks[-1].outputs)
        torch.testing.assert_close(net(moving), net.exit[-1].linear(rates).mean(0))


def test_spikes_are_those_of_the_training_neuron() -> None:
    ours = lively(config(kind="spiking-resnet50"))
    theirs = SpikingResnet(ours.config, spikingjelly_lif).eval()
    theirs.load_state_dict(ours.state_dict())
    frames = torch.rand(2, 1, 16, 24)
    with torch.no_grad():
        assert torch.equal(theirs.split(frames), ours.split(frames))


# ---- tdBN ----


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_statistics_are_those_of_batch_and_time_together(gamma: float) -> None:
    added = Added(2, gamma)
    current = torch.randn(3, 4, 2, 5, 5) * torch.tensor([1.0, 2.0, 5.0]).view(3, 1, 1, 1, 1) + 1
    mean, var = current.mean((0, 1, 3, 4)), current.var((0, 1, 3, 4), unbiased=False)
    expected = gamma * GAMMA / math.sqrt(2) * (current - mean.view(2, 1, 1)) / torch.sqrt(var.view(2, 1, 1) + 1e-5)
    torch.testing.assert_close(added(current), expected)
    torch.testing.assert_close(added.norm.running_mean, 0.1 * mean)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_start_by_handing_most_of_their_input_on(kind: Kind) -> None:
    torch.manual_seed(0)
    net = SpikingResnet(config(kind=kind), Lif)
    handed_on = []
    for block, plan in zip(residuals(net), net.config.blocks, strict=True):
        same = isinstance(block.shortcut.conv, nn.Identity)
        starts = [added.norm.weight.unique().item() for added in (block.branch[-1], block.shortcut)]
        assert starts == pytest.approx([0.2 * math.sqrt(2), 0.85 * math.sqrt(2) if same else 2.0])
        if same:
            spikes = (torch.rand(2, 16, plan.inputs, plan.height, plan.width_px) < 0.15).float()
            with torch.no_grad():
                out = block(spikes)
            handed_on.append((out[spikes == 1].mean().item(), out[spikes == 0].mean().item()))
    assert len(handed_on) == COUNTS[kind] - (4 if kind == "spiking-resnet50" else 3)
    assert all(kept > 0.9 and added < 0.1 for kept, added in handed_on)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_survive_the_way_to_the_first_block(kind: Kind) -> None:
    torch.manual_seed(0)
    net = SpikingResnet(config(kind=kind, width=0.125), Lif)
    maps: list[Tensor] = []
    for block in residuals(net):
        block.register_forward_hook(lambda module, inputs, output: maps.append(output))
    logits = net(torch.rand(8, 1, 16, 24))
    first, last = torch.autograd.grad(logits.square().sum(), (maps[0], maps[-1]))
    assert first.norm() > 0.02 * last.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_the_deepest_blocks_fire_from_the_start(kind: Kind) -> None:
    torch.manual_seed(0)
    net = SpikingResnet(config(kind=kind), Lif)
    rates: list[float] = []
    for block in residuals(net):
        block.register_forward_hook(lambda module, inputs, output: rates.append(output.mean().item()))
    with torch.no_grad():
        net(torch.rand(16, 1, 16, 24))
    assert len(rates) == COUNTS[kind]
    assert 0.05 < min(rates) <= max(rates) < 0.3


# ---- learning ----


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_weight(kind: Kind) -> None:
    torch.manual_seed(0)
    net = SpikingResnet(config(kind=kind), Lif)
    spikes = net.split(torch.rand(8, 1, 16, 24))
    (net.exit(spikes).square().sum() + net.encoder(spikes).square().sum()).backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()] == []


@pytest.mark.parametrize("kind", ["spiking-resnet18", "spiking-resnet50"])
def test_a_network_learns_to_tell_stripes_apart(kind: Kind) -> None:
    torch.manual_seed(0)
    net = SpikingResnet(config(kind=kind, classes=2, width_px=16, steps=1), Lif)
    frames, labels = torch.rand(16, 1, 16, 16) * 0.5, torch.arange(16) % 2
    frames[labels == 0, :, ::2] += 0.5
    frames[labels == 1, :, :, ::2] += 0.5
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    losses = []
    for _ in range(16):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(frames), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.5
    assert losses[-1] < 0.5
