"""The cloud's networks: what was encoded is decoded, the teacher sees images, and is not needed."""

from __future__ import annotations

import msgspec
import pytest
import torch

from ecc_model.nets.ann import AnnConfig
from ecc_model.nets.cloud import CloudConfig, CloudNet, CodeConfig
from ecc_model.nets.neuron import Lif
from ecc_model.nets.vgg import VggConfig
from support.models import lively_network

EDGE = VggConfig(
    steps=2, channels=1, height=16, width_px=24, width=0.05, classes=5, split=2, code_channels=3, code_stride=2
)
TEACHER = AnnConfig(kind="resnet8", channels=1, classes=7, width=0.0625)


def cloud(stride: int = 2, teacher: AnnConfig | None = TEACHER) -> CloudNet:
    config = CloudConfig(
        steps=2,
        channels=1,
        classes=7,
        code_channels=3,
        code_stride=stride,
        split_channels=EDGE.split_channels,
        tail_channels=4,
        teacher=teacher,
    )
    torch.manual_seed(0)
    return CloudNet(config, Lif).eval()


@pytest.mark.parametrize("stride", [1, 2])
def test_the_cloud_decodes_to_the_map_at_the_cut(stride: int) -> None:
    edge, net = lively_network(msgspec.structs.replace(EDGE, code_stride=stride), seed=0), cloud(stride)
    with torch.no_grad():
        split = edge.split(torch.rand(3, 1, 16, 24))
        assert net.decoder(edge.encoder(split)).shape == split.shape
        assert net.features(edge.encoder(split)).shape == (3, 7)


def test_the_tail_is_two_residual_stages_behind_all_steps_side_by_side() -> None:
    shapes = {name: tuple(weight.shape) for name, weight in cloud().tail.layers.named_parameters() if weight.ndim > 1}
    assert shapes == {
        "stem.0.weight": (4, 2 * EDGE.split_channels, 3, 3),
        "stage0_0.branch.0.weight": (4, 4, 3, 3),
        "stage0_0.branch.3.weight": (4, 4, 3, 3),
        "stage1_0.branch.0.weight": (8, 4, 3, 3),
        "stage1_0.branch.3.weight": (8, 8, 3, 3),
        "stage1_0.shortcut.0.weight": (8, 4, 1, 1),
        "classifier.weight": (7, 8),
    }


def test_frames_with_steps_are_averaged_for_the_teacher() -> None:
    net, moving = cloud(), torch.rand(3, 2, 1, 16, 24)
    assert net.teacher is not None
    with torch.no_grad():
        assert torch.equal(net.frames(moving), net.teacher(moving.mean(1)))
        assert torch.equal(net.frames(moving[:, 0]), net.teacher(moving[:, 0]))
        assert not torch.equal(net.frames(moving), net.frames(moving[:, 0]))


def test_a_cloud_without_a_teacher_reads_features_alone() -> None:
    net = cloud(teacher=None)
    assert [name for name in net.state_dict() if name.startswith("teacher")] == []
    with torch.no_grad():
        assert net.features(torch.ones(2, 3, 3, 2, 3)).shape == (3, 7)
    with pytest.raises(ValueError, match="this network has no teacher; give it one, or features"):
        net.frames(torch.rand(3, 1, 16, 24))


@pytest.mark.parametrize(
    ("changes", "found"), [({"classes": 8}, "1 and 8"), ({"channels": 3}, "3 and 7"), ({"classes": 6}, "1 and 6")]
)
def test_a_teacher_of_other_classes_or_images_is_refused(changes: dict[str, int], found: str) -> None:
    with pytest.raises(ValueError, match=f"a teacher of 1 channels and 7 classes is needed, not of {found}"):
        cloud(teacher=msgspec.structs.replace(TEACHER, **changes))


def with_others(*others: CodeConfig) -> CloudNet:
    return CloudNet(msgspec.structs.replace(cloud().config, others=others), Lif).eval()


def test_several_decoders_stand_in_front_of_one_tail() -> None:
    net = with_others(CodeConfig(2, 2), CodeConfig(1, 4))
    codes = [torch.ones(2, 3, 3, 2, 4), torch.ones(2, 3, 2, 2, 4), torch.ones(2, 3, 1, 1, 2)]
    with torch.no_grad():
        for index, code in enumerate(codes):
            decoded = net.decoders[index](code)
            assert decoded.shape == (2, 3, EDGE.split_channels, 4, 8)
            assert torch.equal(net.features(code, index), net.tail(decoded))
    assert net.decoders[0] is net.decoder
    assert with_others().state_dict().keys() == cloud().state_dict().keys()


def test_a_model_reads_no_more_than_eight_codes() -> None:
    with pytest.raises(ValueError, match="9 codes; a model reads 1 to 8"):
        with_others(*[CodeConfig(1, 1)] * 8)


def test_a_configuration_survives_being_written() -> None:
    for net in (cloud(), cloud(teacher=None), with_others(CodeConfig(2, 4))):
        assert msgspec.convert(msgspec.to_builtins(net.config), CloudConfig) == net.config
