"""Augmentation of training frames as whole batches of uint8, and the mixing of batches with their targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from ecc_model.errors import EccError
from ecc_tools.image_operations import COLOUR_OPERATIONS, SHAPE_OPERATIONS, sample

CROP_PADDING = 4  # pixels of black on each side before the crop
CUTOUT = 0.5  # side of the hole that `strong` leaves, as a share of the image's
TURN, SCALE, SHIFT = 0.175, 0.1, 1.5  # of `digits`, at most: radians (10 degrees), share, pixels


class UnknownAugmentation(EccError):
    """A name that nothing here has."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no augmentation is called '{name}'; known are {', '.join(known)}")


class Augmentation:
    """What `name` does to a batch. `UnknownAugmentation` for a name outside of `AUGMENTATIONS`."""

    def __init__(self, name: str) -> None:
        if name not in AUGMENTATIONS:
            raise UnknownAugmentation(name, AUGMENTATIONS)
        self.name = name
        self._apply = AUGMENTATIONS[name]

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Frames uint8 (B, H, W, C) in, frames of that shape out; `generator` alone decides."""
        return self._apply(frames, generator)


def _nothing(frames: Tensor, generator: torch.Generator) -> Tensor:
    return frames


def _crop_flip(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Shift by up to `CROP_PADDING` pixels each way (black comes in), mirror every second image."""
    count, height, width, _ = frames.shape
    device, pad = frames.device, CROP_PADDING
    top, left = _integers((2, count, 1), 2 * pad + 1, generator).to(device)
    mirrored = _integers((count, 1), 2, generator).bool().to(device)
    across = torch.arange(width, device=device)
    rows = top + torch.arange(height, device=device)
    columns = left + torch.where(mirrored, across.flip(0), across)
    padded = F.pad(frames, (0, 0, pad, pad, pad, pad))
    image = torch.arange(count, device=device)
    return padded[image[:, None, None], rows[:, :, None], columns[:, None, :]]


def _strong(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Crop and flip, then for each image one operation of random strength, then a black square hole."""
    frames = _crop_flip(frames, generator)
    count, height, width, _ = frames.shape
    operations = [*COLOUR_OPERATIONS, *SHAPE_OPERATIONS]
    chosen = _integers((count,), len(operations), generator).to(frames.device)
    strength = _uniform((count,), generator).to(frames.device) * 2 - 1
    for number, colour in enumerate(COLOUR_OPERATIONS):
        rows = (chosen == number).nonzero().flatten()
        frames[rows] = colour(frames[rows], strength[rows])
    rows = (chosen >= len(COLOUR_OPERATIONS)).nonzero().flatten()
    maps = torch.stack([shape(strength[rows]) for shape in SHAPE_OPERATIONS])
    frames[rows] = sample(frames[rows], maps[chosen[rows] - len(COLOUR_OPERATIONS), torch.arange(len(rows))])
    centre = _uniform((2, count, 1), generator).to(frames.device)
    half = frames.new_full((count, 1), CUTOUT / 2, dtype=torch.float32)
    hole = _box(height, width, centre, half)
    return frames.masked_fill_(hole[..., None], 0)


def _digits(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Turn, scale and shift a little, for scans that must not be mirrored."""
    count, height, width, channels = frames.shape
    turn, scale, down, right = (_uniform((4, count), generator).to(frames.device) * 2 - 1).unbind()
    scale = 1 + scale * SCALE
    cos, sin = torch.cos(turn * TURN) * scale, torch.sin(turn * TURN) * scale
    right, down = right * SHIFT * 2 / width, down * SHIFT * 2 / height  # a whole side is 2
    inverse = torch.stack([cos, -sin, right, sin, cos, down], dim=1).view(count, 2, 3)
    grid = F.affine_grid(inverse, [count, channels, height, width], align_corners=False)
    turned = F.grid_sample(frames.movedim(-1, 1).float(), grid, align_corners=False)
    return turned.round().to(torch.uint8).movedim(1, -1).contiguous()


def mix(frames: Tensor, targets: Tensor, kind: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mix each image with another of its batch, and their targets by the same share.

    frames: float (B, C, H, W); targets: (B, N), rows that sum to one; kind: a name of `MIXES`. The share of each
    image is drawn evenly from 0 to 1. `UnknownAugmentation` for another kind.
    """
    if kind not in MIXES:
        raise UnknownAugmentation(kind, MIXES)
    partner = torch.randperm(len(frames), generator=generator, device=generator.device).to(frames.device)
    share = _uniform((len(frames), 1), generator).to(frames.device)
    return MIXES[kind](frames, targets, partner, share, generator)


def _mixup(
    frames: Tensor, targets: Tensor, partner: Tensor, share: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The weighted mean of both images (Zhang et al. 2018, alpha 1)."""
    weight = share.to(frames.dtype)[:, :, None, None]
    return torch.lerp(frames[partner], frames, weight), torch.lerp(targets[partner], targets, share.to(targets.dtype))


def _cutmix(
    frames: Tensor, targets: Tensor, partner: Tensor, share: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A box of the other image over this one (Yun et al. 2019, alpha 1); what of it is inside the image counts."""
    _, _, height, width = frames.shape
    centre = _uniform((2, len(frames), 1), generator).to(frames.device)
    box = _box(height, width, centre, (1 - share).sqrt() / 2)
    kept = 1 - box.to(targets.dtype).mean(dim=(1, 2))[:, None]
    return torch.where(box[:, None], frames[partner], frames), torch.lerp(targets[partner], targets, kept)


def _box(height: int, width: int, centre: Tensor, half: Tensor) -> Tensor:
    """Pixels (B, H, W) nearer to the centre (2, B, 1: down, across) than `half` (B, 1); the image's sides are 1."""

    def near(size: int, middle: Tensor) -> Tensor:
        pixels = (torch.arange(size, device=middle.device) + 0.5) / size
        return (pixels - middle).abs() < half

    return near(height, centre[0])[:, :, None] & near(width, centre[1])[:, None, :]


def _integers(shape: tuple[int, ...], below: int, generator: torch.Generator) -> Tensor:
    return torch.randint(below, shape, generator=generator, device=generator.device)


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "none": _nothing,
    "crop-flip": _crop_flip,
    "strong": _strong,
    "digits": _digits,
}
MIXES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]] = {
    "mixup": _mixup,
    "cutmix": _cutmix,
}
