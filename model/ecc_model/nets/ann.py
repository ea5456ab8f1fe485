"""The cloud's dense networks for whole images: VGG-16, ResNets with stems for small images, ViT-B/16."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, cast

import msgspec
import torch.nn.functional as F
from torch import Tensor, nn

from ecc_model.nets.vit import VisionTransformer

Kind = Literal["vgg16", "resnet8", "resnet18", "resnet34", "vit-b16"]
VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # channels at width 1
RESNETS = {"resnet8": (1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}  # blocks of each stage
RESNET_CHANNELS = 64  # of the first stage at width 1; each further stage doubles them


class AnnConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A dense network for images of `channels`; `width` scales all channel counts, the transformer's by whole heads."""

    kind: Kind
    channels: int
    classes: int
    width: float = 1.0


class Residual(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut. Shape: (B, I, H, W) -> (B, O, H / stride, W / stride)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity()
        if not same:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """ReLU of branch plus shortcut."""
        return F.relu(self.branch(x) + self.shortcut(x))


def convolution(inputs: int, outputs: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU. Shape: (B, I, H, W) -> (B, O, H, W)."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def residual_classifier(inputs: int, channels: int, blocks: tuple[int, ...], classes: int) -> nn.Sequential:
    """Stem, `blocks[i]` residual blocks in stage i, global average, classifier; all stages but the first halve the map.

    Shape: (B, inputs, H, W) -> (B, classes).
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=convolution(inputs, channels))
    for stage, count in enumerate(blocks):
        for index in range(count):
            shrink = stage > 0 and index == 0
            outputs = channels * 2 if shrink else channels
            layers[f"stage{stage}_{index}"] = Residual(channels, outputs, 2 if shrink else 1)
            channels = outputs
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["classifier"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)


class Vgg16(nn.Module):
    """VGG-16 with batch norm for small images: its last map is averaged, one linear layer classifies.

    Shape: (B, C, H, W) in [0, 1] -> (B, N), sides of 8 and more.
    """

    def __init__(self, config: AnnConfig) -> None:
        super().__init__()
        inputs, stages = config.channels, []
        for counts in VGG16:
            layers: list[nn.Module] = []
            for count in counts:
                outputs = scaled(count, config.width)
                layers.append(convolution(inputs, outputs))
                inputs = outputs
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.feature_channels = scaled(VGG16[2][-1], config.width)  # of the map that `with_features` returns
        self.classifier = nn.Linear(inputs, config.classes)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits."""
        return self.with_features(frames)[0]

    def with_features(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and the map after the third pool (B, 256 width, H/8, W/8): the last layer that VGG-9 has, too."""
        x, features = frames, frames
        for index, stage in enumerate(self.stages):
            x = cast(Tensor, stage(x))
            if min(x.shape[-2:]) > 1:
                x = F.max_pool2d(x, 2)
            if index == 2:
                features = x
        return cast(Tensor, self.classifier(x.mean((2, 3)))), features


def scaled(channels: int, width: float) -> int:
    """A channel count at `width`, at least 1."""
    return max(1, round(channels * width))


def _resnet(config: AnnConfig) -> nn.Module:
    channels = scaled(RESNET_CHANNELS, config.width)
    return residual_classifier(config.channels, channels, RESNETS[config.kind], config.classes)


def _vit(config: AnnConfig) -> nn.Module:
    return VisionTransformer(config.channels, config.classes, config.width)


_BUILDERS: dict[str, Callable[[AnnConfig], nn.Module]] = {
    "vgg16": Vgg16,
    **dict.fromkeys(RESNETS, _resnet),
    "vit-b16": _vit,
}


def build_ann(config: AnnConfig) -> nn.Module:
    """The network of a configuration, with random weights. Shape: (B, C, H, W) in [0, 1] -> (B, N) logits.

    `MissingPackage` for a transformer without the package of that name.
    """
    return _BUILDERS[config.kind](config)
