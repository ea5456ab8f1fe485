"""The cloud's dense networks: sizes known from the literature, any width, the features that eq. 9 aligns, ViT."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ecc_model.errors import MissingPackage, ModelError
from ecc_model.nets.ann import AnnConfig, Kind, Vgg16, build_ann
from ecc_model.nets.vit import from_pretrained, pretrained_file

TINY_VIT = AnnConfig(kind="vit-b16", channels=3, classes=4, width=1 / 12)


def parameters(net: nn.Module) -> int:
    return sum(weight.numel() for weight in net.parameters())


@pytest.mark.parametrize(
    ("kind", "classes", "expected"),
    [
        ("vgg16", 10, 14_724_042),  # 14,728,266 where convolutions have a bias as well
        ("resnet18", 10, 11_173_962),
        ("resnet34", 10, 21_282_122),
        ("vit-b16", 1000, 86_567_656),
    ],
)
def test_parameters_are_those_of_the_published_networks(kind: Kind, classes: int, expected: int) -> None:
    with torch.device("meta"):
        assert parameters(build_ann(AnnConfig(kind=kind, channels=3, classes=classes))) == expected


@pytest.mark.parametrize("kind", ["vgg16", "resnet8", "resnet18", "resnet34"])
@pytest.mark.parametrize(("channels", "height", "width_px"), [(1, 8, 8), (3, 32, 32), (2, 16, 40)])
def test_any_image_and_any_width(kind: Kind, channels: int, height: int, width_px: int) -> None:
    net = build_ann(AnnConfig(kind=kind, channels=channels, classes=5, width=0.05))
    with torch.no_grad():
        logits = net(torch.rand(2, channels, height, width_px))  # normalized over the batch: deep ones fade otherwise
    assert logits.shape == (2, 5)
    assert not torch.equal(logits[0], logits[1])


def test_resnet_stages_double_channels_and_halve_the_map() -> None:
    net = build_ann(AnnConfig(kind="resnet34", channels=3, classes=5, width=0.125)).eval()
    shapes = {}
    for name, block in net.named_children():
        block.register_forward_hook(lambda module, inputs, output, name=name: shapes.update({name: output.shape[1:]}))
    with torch.no_grad():
        net(torch.rand(1, 3, 32, 32))
    blocks = [name for name in shapes if name.startswith("stage")]
    assert len(blocks) == 3 + 4 + 6 + 3
    assert shapes["stem"] == (8, 32, 32)
    assert [shapes[f"stage{stage}_0"] for stage in range(4)] == [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)]
    assert shapes[blocks[-1]] == (64, 4, 4)


def test_vgg_features_are_the_map_of_the_third_pool_from_the_same_pass() -> None:
    net = build_ann(AnnConfig(kind="vgg16", channels=3, classes=5, width=0.0625)).eval()
    assert isinstance(net, Vgg16)
    frames = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        logits, features = net.with_features(frames)
        assert torch.equal(logits, net(frames))
        assert features.shape == (2, 16, 4, 4)
        rest = features
        for stage in net.stages[3:]:
            rest = nn.functional.max_pool2d(stage(rest), 2)
        assert torch.equal(net.classifier(rest.mean((2, 3))), logits)


def test_a_transformer_of_any_width_sees_any_image_as_224_pixels_around_zero() -> None:
    net = build_ann(TINY_VIT).eval()
    seen = []
    net.vit.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        assert net(torch.rand(2, 3, 32, 48)).shape == (2, 4)
        net(torch.full((1, 3, 224, 224), 0.75))
    assert seen[0].shape == (2, 3, 224, 224)
    assert -1 <= seen[0].min() < -0.5 < 0.5 < seen[0].max() <= 1
    assert seen[1].unique().tolist() == pytest.approx([0.5])
    assert net.vit.config.num_attention_heads == 1
    assert build_ann(AnnConfig(kind="vit-b16", channels=1, classes=2, width=0.001)).vit.config.hidden_size == 64


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    build_ann(TINY_VIT).vit.save_pretrained(folder)
    return folder


def test_a_pretrained_transformer_keeps_its_trunk_and_a_classifier_that_fits(checkpoint: Path) -> None:
    torch.manual_seed(0)
    source = build_ann(TINY_VIT).eval()
    same, other = from_pretrained(checkpoint, 4).eval(), from_pretrained(str(checkpoint), 3).eval()
    frames = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(same(frames), source(frames))
        assert other(frames).shape == (2, 3)
    assert all(torch.equal(a, b) for a, b in zip(other.vit.vit.parameters(), source.vit.vit.parameters(), strict=True))


def test_pretrained_weights_fit_the_network_of_the_configuration(checkpoint: Path) -> None:
    with torch.device("meta"):
        net = build_ann(TINY_VIT)
    net.load_state_dict(from_pretrained(checkpoint, 4).state_dict(), assign=True)
    assert {weight.device.type for weight in net.state_dict().values()} == {"cpu"}


def test_a_checkpoint_that_is_none_or_of_another_shape_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no pretrained ViT can be read there .*give a folder, or a name such as"):
        from_pretrained(tmp_path, 4)
    changed = (checkpoint / "config.json").read_text().replace('"patch_size": 16', '"patch_size": 32')
    (tmp_path / "config.json").write_text(changed)
    with pytest.raises(ModelError, match="patch_size is 32 where 16 is needed; give a checkpoint of ViT-B/16, S/16 or"):
        from_pretrained(tmp_path, 4)


def copied(checkpoint: Path, folder: Path) -> Path:
    return Path(shutil.copytree(checkpoint, folder))


def test_damaged_foreign_and_pickled_weights_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    damaged, foreign, pickled = (copied(checkpoint, tmp_path / name) for name in ("damaged", "foreign", "pickled"))
    (damaged / "model.safetensors").write_bytes(b"no weights")
    weights = load_file(checkpoint / "model.safetensors")
    save_file({f"bert.{name}": weight for name, weight in weights.items()}, foreign / "model.safetensors")
    (pickled / "model.safetensors").unlink()
    torch.save(weights, pickled / "pytorch_model.bin")
    for folder in (damaged, pickled):
        with pytest.raises(ModelError, match=rf"^{folder}: no pretrained ViT can be read there \(.+\); give a"):
            from_pretrained(folder, 4)
    other = copied(checkpoint, tmp_path / "other")
    changed = {name: torch.ones(2) if name == "vit.layernorm.bias" else weight for name, weight in weights.items()}
    save_file(changed, other / "model.safetensors")
    for folder, name in ((foreign, r"vit\.\S+"), (other, r"vit\.layernorm\.bias")):
        text = rf"^{folder}: its {name} is missing or of another shape; give a checkpoint of ViT-B/16"
        with pytest.raises(ModelError, match=text):
            from_pretrained(folder, 4)
    with pytest.raises(ModelError, match=r"pickled: no pretrained ViT can be read there \(.*does not appear"):
        pretrained_file(pickled)


def test_the_file_of_pretrained_weights_is_found(checkpoint: Path) -> None:
    assert pretrained_file(checkpoint) == checkpoint / "model.safetensors"


def test_a_transformer_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingPackage, match=r"'transformers'; install it with: pip install 'ecc-snn\[vit\]'"):
        build_ann(TINY_VIT)
