"""What weather, lens and sensor do to frames, in five strengths: uint8 (N, H, W, C) to the same.

light: 0.4 stops a strength, darker or brighter by chance; blur: Gaussian, 0.4 to 1 pixels on a shorter side of
32; noise: Gaussian, 2.5 % of full scale a strength; contrast: each frame 17 % a strength closer to its mean grey.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ecc_model.frames import Pixels

STRENGTHS = (1, 2, 3, 4, 5)
STOPS, BLUR, NOISE, FLAT = 0.4, 0.15 / 32, 0.025, 0.17  # of each strength
SHARPEST = 0.25 / 32  # of the shorter side, before the first strength: less changes next to nothing
WHITE = 255.0
Floats = NDArray[np.float32]
Generator = np.random.Generator


def light(frames: Floats, strength: int, rng: Generator) -> Floats:
    """Exposure: half of the frames darker, half brighter, cut off at white."""
    stops = STOPS * strength * rng.choice((-1.0, 1.0), len(frames))
    return frames * np.exp2(stops).astype(np.float32)[:, None, None, None]


def blur(frames: Floats, strength: int, rng: Generator) -> Floats:
    """A lens out of focus; beyond its edges a frame goes on as its outermost pixels."""
    sigma = (SHARPEST + BLUR * strength) * min(frames.shape[1:3])
    reach = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    for axis in (1, 2):
        width = [(reach, reach) if axis == other else (0, 0) for other in range(4)]
        padded, size = np.pad(frames, width, mode="edge"), frames.shape[axis]
        shifted = (padded.take(range(start, start + size), axis) for start in range(len(weights)))
        frames = sum((np.float32(w) * part for w, part in zip(weights, shifted, strict=True)), np.zeros_like(frames))
    return frames


def noise(frames: Floats, strength: int, rng: Generator) -> Floats:
    """A sensor in the dark: each channel of each pixel by itself."""
    return frames + rng.standard_normal(frames.shape, np.float32) * np.float32(NOISE * strength * WHITE)


def contrast(frames: Floats, strength: int, rng: Generator) -> Floats:
    """Fog: everything comes closer to the frame's mean."""
    mean: Floats = frames.mean(axis=(1, 2, 3), keepdims=True)
    return mean + (frames - mean) * np.float32(1.0 - FLAT * strength)


CORRUPTIONS: dict[str, Callable[[Floats, int, Generator], Floats]] = {
    "light": light,
    "blur": blur,
    "noise": noise,
    "contrast": contrast,
}


def corrupt(frames: Pixels, kind: str, strength: int, seed: int) -> Pixels:
    """The frames with one corruption; the same frames, strength and seed give the same pixels."""
    rng = np.random.default_rng((seed, list(CORRUPTIONS).index(kind), strength))
    changed = CORRUPTIONS[kind](frames.astype(np.float32), strength, rng)
    return np.rint(changed).clip(0, WHITE).astype(np.uint8)
