"""Spiking VGG-9 of any width, cut anywhere, for any frame with sides divisible by 8."""

from __future__ import annotations

import pytest
import torch

from ecc_model.nets.losses import feature_alignment
from ecc_model.nets.neuron import Lif
from ecc_model.nets.vgg import SpikingConv, SpikingVgg9, VggConfig, to_unit
from support.models import lively_network


def config(**changes: object) -> VggConfig:
    return VggConfig(
        **({"steps": 2, "channels": 1, "height": 16, "width_px": 24, "width": 0.05, "classes": 5} | changes)
    )


@pytest.mark.parametrize("split", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
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


@pytest.mark.parametrize("split", [1, 2, 3])
@pytest.mark.parametrize("steps", [1, 4])
def test_features_are_the_spikes_behind_the_third_pool(split: int, steps: int) -> None:
    net = lively_network(config(split=split, steps=steps), seed=0)
    for frames in (torch.rand(3, 1, 16, 24), torch.rand(3, steps, 1, 16, 24)):
        with torch.no_grad():
            answers, features = net.with_features(frames)
            assert torch.equal(answers, net.after_each_step(frames))
            assert features.shape == (steps, 3, net.config.stage_channels(2)[-1], 2, 3)
            assert set(features.unique().tolist()) == {0.0, 1.0}
            torch.testing.assert_close(net.exit[-1](net.exit[-2](features)), answers[-1])


def test_the_answers_after_each_step_are_those_of_networks_with_so_many_steps() -> None:
    net, frames = lively_network(config(steps=3), seed=0), torch.rand(2, 3, 1, 16, 24)
    with torch.no_grad():
        answers = net.after_each_step(frames)
        for steps in (1, 2, 3):
            torch.testing.assert_close(net.exit(net.split(frames[:, :steps])), answers[steps - 1])


def test_aligned_features_teach_the_layers_before_them_and_would_not_if_they_were_detached() -> None:
    net = lively_network(config(), seed=0)
    frames, mapped = torch.rand(2, 1, 16, 24), torch.rand(2, net.config.stage_channels(2)[-1], 2, 3)

    def gradients(detached: bool, weight: float) -> list[torch.Tensor]:
        net.zero_grad()
        answers, features = net.with_features(frames)
        term = feature_alignment(features.detach() if detached else features, mapped)
        (answers[-1].sum() + weight * term).backward()
        return [p.grad.clone() for part in (net.head, net.exit[:-2]) for p in part.parameters() if p.grad is not None]

    alone, aligned, detached = gradients(False, 0.0), gradients(False, 1.0), gradients(True, 1.0)
    assert len(alone) == len(aligned) == 7 * 3  # weight, gamma and beta of seven convolutions
    assert all(not torch.equal(a, b) for a, b in zip(alone, aligned, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(alone, detached, strict=True))


def test_pixels_become_units_channels_first() -> None:
    frames = torch.tensor([[[[0, 255, 51]]]], dtype=torch.uint8)
    assert to_unit(frames).shape == (1, 3, 1, 1)
    assert to_unit(frames).ravel().tolist() == pytest.approx([0.0, 1.0, 0.2])
