"""Spiking VGG-9 of any width, cut anywhere, for any frame with sides divisible by 8."""

from __future__ import annotations

import pytest
import torch

from ecc_model.nets.cloud import CloudConfig, CloudNet
from ecc_model.nets.neuron import Lif
from ecc_model.nets.vgg import SpikingConv, SpikingVgg9, VggConfig, to_unit
from support.models import lively_network


def config(**changes: object) -> VggConfig:
    return VggConfig(
        **({"steps": 2, "channels": 1, "height": 16, "width_px": 24, "width": 0.05, "classes": 5} | changes)
    )


@pytest.mark.parametrize("split", [1, 2, 3])
@pytest.mark.parametrize("steps", [2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_shapes_follow_cut_steps_and_channels(split: int, steps: int, channels: int) -> None:
    made = config(split=split, steps=steps, channels=channels, code_channels=3, code_stride=2)
    net = lively_network(made, seed=split)
    with torch.no_grad():
        spikes = net.split(torch.rand(2, channels, 16, 24))
        code = net.encoder(spikes)
        logits = net.exit(spikes)
    assert spikes.shape == (steps, 2, made.split_channels, 16 >> split, 24 >> split)
    assert made.split_sides == (16 >> split, 24 >> split)
    assert code.shape == (steps, 2, 3, -(-(16 >> split) // 2), -(-(24 >> split) // 2))
    assert logits.shape == (2, 5)
    assert set(spikes.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("width", [0.001, 0.06, 0.1, 0.26])
def test_any_width_keeps_the_stages(width: int) -> None:
    net = SpikingVgg9(config(width=width), Lif)
    outputs = [m.conv.out_channels for part in (net.head, net.exit) for m in part if isinstance(m, SpikingConv)]
    assert outputs == [max(1, round(c * width)) for c in (64, 64, 128, 128, 256, 256, 256)]


def test_a_still_frame_is_the_same_frame_at_each_step() -> None:
    net = lively_network(config(steps=3, channels=2), seed=0)
    still = torch.rand(4, 2, 16, 24)
    with torch.no_grad():
        torch.testing.assert_close(net(still), net(still[:, None].expand(-1, 3, -1, -1, -1)))
        assert torch.equal(net.split(still), net.split(still[:, None].expand(-1, 3, -1, -1, -1)))


def test_steps_differ_where_frames_do() -> None:
    net = lively_network(config(), seed=0)
    moving = torch.rand(1, 2, 1, 16, 24)
    with torch.no_grad():
        assert not torch.equal(net.split(moving), net.split(moving.flip(1)))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"height": 20}, "sides divisible by 8 are needed, not 20 x 24"),
        ({"width_px": 12}, "sides divisible by 8 are needed, not 16 x 12"),
        ({"split": 0}, "the cut lies after pool 1, 2 or 3, not 0"),
        ({"split": 4}, "the cut lies after pool 1, 2 or 3, not 4"),
    ],
)
def test_a_network_that_cannot_be_is_refused(changes: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        config(**changes)


def test_gradients_reach_every_weight() -> None:
    net = SpikingVgg9(config(), Lif)
    torch.manual_seed(0)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(module.bias, 0.5)
    spikes = net.split(torch.rand(4, 1, 16, 24))
    (net.exit(spikes).sum() + net.encoder(spikes).sum()).backward()
    assert [name for name, weight in net.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("stride", [1, 2])
def test_the_cloud_decodes_to_the_map_at_the_cut(stride: int) -> None:
    edge = lively_network(config(code_channels=3, code_stride=stride), seed=0)
    cloud = CloudNet(
        CloudConfig(
            steps=2,
            channels=1,
            classes=7,
            code_channels=3,
            code_stride=stride,
            split_channels=edge.config.split_channels,
            tail_channels=4,
            teacher_channels=4,
        ),
        Lif,
    ).eval()
    with torch.no_grad():
        split = edge.split(torch.rand(3, 1, 16, 24))
        assert cloud.decoder(edge.encoder(split)).shape == split.shape
        assert cloud.features(edge.encoder(split)).shape == (3, 7)
        still = torch.rand(3, 1, 16, 24)
        torch.testing.assert_close(cloud.teacher(still), cloud.teacher(still[:, None].expand(-1, 2, -1, -1, -1)))


def test_pixels_become_units_channels_first() -> None:
    frames = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)
    assert to_unit(frames).shape == (1, 3, 1, 1)
    assert to_unit(frames).ravel().tolist() == pytest.approx([0.0, 1.0, 0.2])
