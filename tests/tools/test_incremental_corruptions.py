"""Changed light, focus, noise and contrast: what each does to pixels, how strongly, and that it can be repeated."""

from __future__ import annotations

import numpy as np
import pytest

from ecc_tools.incremental.corruptions import CORRUPTIONS, STRENGTHS, corrupt

FRAMES = np.random.default_rng(0).integers(60, 190, (40, 32, 32, 3), np.uint8)
KINDS = list(CORRUPTIONS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_repeats_and_more_strength_changes_more(kind: str) -> None:
    changed = [corrupt(FRAMES, kind, strength, 7) for strength in STRENGTHS]
    assert {(one.dtype, one.shape) for one in changed} == {(FRAMES.dtype, FRAMES.shape)}
    assert np.array_equal(changed[2], corrupt(FRAMES, kind, 3, 7))
    far = [float(np.abs(one.astype(int) - FRAMES).mean()) for one in changed]
    assert far == sorted(far)
    assert far[0] > 2.0


@pytest.mark.parametrize("kind", ["light", "noise"])
def test_another_seed_gives_other_pixels(kind: str) -> None:
    assert not np.array_equal(corrupt(FRAMES, kind, 3, 7), corrupt(FRAMES, kind, 3, 8))


def test_light_makes_half_of_the_frames_darker_and_half_brighter_by_stops() -> None:
    grey = np.full((200, 8, 8, 1), 64, np.uint8)
    levels, counts = np.unique(corrupt(grey, "light", 5, 0)[:, 0, 0, 0], return_counts=True)
    assert levels.tolist() == [16, 255]  # two stops down, and two up, where white ends
    assert 70 < counts[0] < 130


def test_blur_keeps_flat_frames_and_levels_edges() -> None:
    flat = np.full((2, 32, 32, 1), 99, np.uint8)
    assert np.array_equal(corrupt(flat, "blur", 5, 0), flat)
    step = np.zeros((1, 32, 32, 1), np.uint8)
    step[:, :, 16:] = 200
    row = corrupt(step, "blur", 5, 0)[0, 16, :, 0].astype(int)
    assert (row[0], row[-1]) == (0, 200)
    assert (np.diff(row) >= 0).all()
    assert np.diff(row).max() < 90


def test_noise_has_the_deviation_that_its_strength_says() -> None:
    grey = np.full((40, 16, 16, 1), 128, np.uint8)
    assert corrupt(grey, "noise", 3, 0).std() == pytest.approx(0.075 * 255, rel=0.03)


def test_contrast_keeps_each_mean_and_shrinks_what_differs_from_it() -> None:
    changed = corrupt(FRAMES, "contrast", 3, 0).astype(float)
    assert changed.mean(axis=(1, 2, 3)) == pytest.approx(FRAMES.mean(axis=(1, 2, 3)), abs=0.2)
    assert changed.std() / FRAMES.std() == pytest.approx(0.49, abs=0.01)
