"""ViT-B/16 through transformers: with random weights, or from a pretrained checkpoint to be fine-tuned."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecc_model.errors import ModelError
from ecc_model.optional import require

SIDE = 224  # pixels, of the images that the pretrained position embeddings belong to
PATCH = 16
LAYERS = 12
HEADS = 12  # at width 1
HEAD_CHANNELS = 64
MEAN = STD = 0.5  # of the pixels that the pretrained weights expect, for every channel
# what two networks have in common when the weights of one fit the other
_SHAPE = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size")
_REMEDY = "give a checkpoint of ViT-B/16, S/16 or Ti/16 for 224 pixels"
_HIDDEN = ("torchvision", "torchaudio")


class VisionTransformer(nn.Module):
    """ViT with patches of 16 pixels and 12 layers; frames of any size are resized to 224 x 224 and normalized.

    `width` scales the number of heads, each of 64 channels: 1 is ViT-B/16, 1/2 ViT-S/16, 1/4 ViT-Ti/16.
    `MissingPackage` without transformers.

    Shape: (B, C, H, W) in [0, 1] -> (B, N) logits.
    """

    def __init__(self, channels: int, classes: int, width: float = 1.0) -> None:
        super().__init__()
        heads = max(1, round(HEADS * width))
        with _transformers() as transformers:
            config = transformers.ViTConfig(
                hidden_size=heads * HEAD_CHANNELS,
                num_hidden_layers=LAYERS,
                num_attention_heads=heads,
                intermediate_size=4 * heads * HEAD_CHANNELS,
                image_size=SIDE,
                patch_size=PATCH,
                num_channels=channels,
                num_labels=classes,
            )
            self.vit = cast(nn.Module, transformers.ViTForImageClassification(config))

    def forward(self, frames: Tensor) -> Tensor:
        """Logits."""
        resized = F.interpolate(frames, (SIDE, SIDE), mode="bilinear", antialias=True)
        return cast(Tensor, self.vit((resized - MEAN) / STD).logits)


def from_pretrained(name_or_folder: str | Path, classes: int) -> VisionTransformer:
    """A pretrained ViT-B/16, S/16 or Ti/16 with a new classifier where its own is for another number of classes.

    `name_or_folder`: a model of the Hugging Face hub (downloaded once) or a folder with `config.json` and
    `model.safetensors`. Its weights fit `VisionTransformer(channels, classes, width)` of the same width.
    `ModelError` if it cannot be had or has another shape, `MissingPackage` without transformers.
    """
    with _reading(name_or_folder) as transformers:
        config = _config(transformers, name_or_folder)
        with torch.device("meta"):  # its weights are replaced
            net = VisionTransformer(config.num_channels, classes, config.num_attention_heads / HEADS)
        net.vit, found = transformers.ViTForImageClassification.from_pretrained(
            name_or_folder,
            num_labels=classes,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    unread = [*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])]  # random in the network
    wrong = sorted(name for name in unread if not name.startswith("classifier."))
    if wrong:
        raise ModelError(f"{name_or_folder}: its {wrong[0]} is missing or of another shape; {_REMEDY}")
    return net


def pretrained_file(name_or_folder: str | Path) -> Path:
    """The file of the weights that `from_pretrained` reads, downloaded where it must be. Errors as there."""
    with _reading(name_or_folder) as transformers:
        _config(transformers, name_or_folder)
        return Path(transformers.utils.cached_file(str(name_or_folder), "model.safetensors"))


def _config(transformers: Any, name: str | Path) -> Any:
    """Its configuration, if it has the shape of a `VisionTransformer`."""
    found = transformers.ViTConfig.from_pretrained(name)
    with torch.device("meta"):
        needed = cast(Any, VisionTransformer(found.num_channels, 1, found.num_attention_heads / HEADS).vit.config)
    for field in _SHAPE:
        if getattr(found, field) != getattr(needed, field):
            raise ModelError(
                f"{name}: {field} is {getattr(found, field)} where {getattr(needed, field)} is needed; {_REMEDY}"
            )
    return found


@contextlib.contextmanager
def _reading(name: str | Path) -> Iterator[Any]:
    """transformers, whose warnings are not for the user, and whose errors become `ModelError`."""
    loud = [logging.getLogger(library) for library in ("transformers", "huggingface_hub")]
    with _transformers() as transformers:
        from safetensors import SafetensorError  # it comes with transformers

        levels = [logger.level for logger in loud]
        for logger in loud:
            logger.setLevel(logging.ERROR)
        try:
            yield transformers
        except (OSError, ValueError, SafetensorError) as exc:
            reason = str(exc).partition("\n")[0]
            raise ModelError(
                f"{name}: no pretrained ViT can be read there ({reason:.120}); "
                "give a folder, or a name such as google/vit-base-patch16-224-in21k and a network connection"
            ) from exc
        finally:
            for logger, level in zip(loud, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _transformers() -> Iterator[Any]:
    """transformers without `_HIDDEN`: it imports them unasked, and fails where they are builds for another torch."""
    hidden = [name for name in _HIDDEN if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is Python's own "cannot be imported"
    try:
        yield require("transformers", "a vision transformer")
    finally:
        for name in hidden:
            del sys.modules[name]
