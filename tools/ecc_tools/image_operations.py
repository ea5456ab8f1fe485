"""The operations of a RandAugment-like policy, each on many images at once.

Ranges are those of RandAugment's table (Cubuk et al. 2020) at its highest magnitude; a strength is -1 to 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

BLEND = 0.9  # how far brightness, contrast and colour go from the image itself
LEAST_BITS = 4  # that posterize leaves
SHEAR = 0.3
TRANSLATE = 0.45  # share of the image's side
ROTATE = torch.pi / 6
LUMA = (77 / 256, 150 / 256, 29 / 256)


def brightness(frames: Tensor, strength: Tensor) -> Tensor:
    """Towards black, or away from it."""
    return _blend(frames, torch.zeros((), device=frames.device), strength)


def contrast(frames: Tensor, strength: Tensor) -> Tensor:
    """Towards each image's mean grey, or away from it."""
    return _blend(frames, _grey(frames).mean(dim=(1, 2, 3), keepdim=True), strength)


def colour(frames: Tensor, strength: Tensor) -> Tensor:
    """Towards each pixel's grey, or away from it."""
    return _blend(frames, _grey(frames), strength)


def posterize(frames: Tensor, strength: Tensor) -> Tensor:
    """Fewer bits a channel, `LEAST_BITS` of them at the least."""
    dropped = (strength.abs() * (8 - LEAST_BITS)).round().to(torch.uint8)
    return frames & (255 << dropped.to(torch.int32)).to(torch.uint8)[:, None, None, None]


def solarize(frames: Tensor, strength: Tensor) -> Tensor:
    """Levels above a threshold become their negative."""
    threshold = ((1 - strength.abs()) * 255).to(torch.uint8)[:, None, None, None]
    return torch.where(frames > threshold, 255 - frames, frames)


def translate_x(strength: Tensor) -> Tensor:
    """Right or left."""
    return _map(strength, shift_x=strength * TRANSLATE)


def translate_y(strength: Tensor) -> Tensor:
    """Down or up."""
    return _map(strength, shift_y=strength * TRANSLATE)


def shear_x(strength: Tensor) -> Tensor:
    """Rows move against each other."""
    return _map(strength, xy=strength * SHEAR)


def shear_y(strength: Tensor) -> Tensor:
    """Columns move against each other."""
    return _map(strength, yx=strength * SHEAR)


def rotate(strength: Tensor) -> Tensor:
    """About the centre."""
    cos, sin = torch.cos(strength * ROTATE), torch.sin(strength * ROTATE)
    return _map(strength, xx=cos, xy=-sin, yx=sin, yy=cos)


# frames uint8 (B, H, W, C) and strengths (B,) -> new frames
COLOUR_OPERATIONS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    brightness,
    contrast,
    colour,
    posterize,
    solarize,
)
# strengths (B,) -> maps (B, 2, 3) for `sample`
SHAPE_OPERATIONS: tuple[Callable[[Tensor], Tensor], ...] = (translate_x, translate_y, shear_x, shear_y, rotate)


def sample(frames: Tensor, maps: Tensor) -> Tensor:
    """Each pixel (x, y) of the result is the nearest to `maps` (x, y, 1) in the frame, black outside.

    frames: uint8 (B, H, W, C); maps: (B, 2, 3), with the origin in the centre; linear part in pixels, shift in shares
    of the image's side.
    """
    count, height, width, _ = frames.shape
    across = torch.arange(width, device=frames.device) - (width - 1) / 2
    down = (torch.arange(height, device=frames.device) - (height - 1) / 2)[:, None]
    part = maps[:, :, :, None, None]
    column = (part[:, 0, 0] * across + part[:, 0, 1] * down + part[:, 0, 2] * width + (width - 1) / 2).round().long()
    row = (part[:, 1, 0] * across + part[:, 1, 1] * down + part[:, 1, 2] * height + (height - 1) / 2).round().long()
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    image = torch.arange(count, device=frames.device)[:, None, None]
    found = frames[image, row.clamp(0, height - 1), column.clamp(0, width - 1)]
    return found.masked_fill_(~inside[..., None], 0)


def _map(
    like: Tensor,
    *,
    xx: Tensor | float = 1.0,
    xy: Tensor | float = 0.0,
    yx: Tensor | float = 0.0,
    yy: Tensor | float = 1.0,
    shift_x: Tensor | float = 0.0,
    shift_y: Tensor | float = 0.0,
) -> Tensor:
    cells = [cell if isinstance(cell, Tensor) else torch.full_like(like, cell) for cell in (xx, xy, shift_x)]
    cells += [cell if isinstance(cell, Tensor) else torch.full_like(like, cell) for cell in (yx, yy, shift_y)]
    return torch.stack(cells, dim=1).view(len(like), 2, 3)


def _blend(frames: Tensor, base: Tensor, strength: Tensor) -> Tensor:
    """base + (1 + 0.9 strength) (frames - base)."""
    factor = (1 + BLEND * strength)[:, None, None, None]
    return torch.lerp(base.expand(frames.shape), frames.float(), factor).round_().clamp_(0, 255).to(torch.uint8)


def _grey(frames: Tensor) -> Tensor:
    """(B, H, W, 1), in levels; of one or two channels their mean."""
    if frames.shape[-1] != len(LUMA):
        return frames.float().mean(dim=-1, keepdim=True)
    return (frames.float() @ frames.new_tensor(LUMA, dtype=torch.float32))[..., None]
