"""Frames: one resize with the same pixels on every machine, and a clear word about frames that do not fit."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecc_model.errors import FrameError
from ecc_model.frames import RESIZE_BITS, FrameSpec, fit, resize

SIDES = st.integers(1, 40)
SHAPES = "a frame has shape (H, W), (H, W, C) or (T, H, W, C), this one {}"


def row(*values: int) -> NDArray[np.uint8]:
    return np.array(values, np.uint8)[None, :, None]


def test_enlarging_interpolates_between_pixel_centres() -> None:
    assert resize(row(0, 200), 1, 4).ravel().tolist() == [0, 50, 150, 200]


def test_shrinking_averages_with_a_triangle() -> None:
    # weights 3/7 3/7 1/7 0 around the first new centre
    assert resize(row(0, 70, 140, 210), 1, 2).ravel().tolist() == [50, 160]


def test_height_and_width_are_treated_alike() -> None:
    frame = np.arange(35, dtype=np.uint8).reshape(5, 7, 1) * 7
    turned = resize(frame.transpose(1, 0, 2), 3, 9)
    np.testing.assert_array_equal(resize(frame, 9, 3).shape, (9, 3, 1))
    assert np.abs(turned.transpose(1, 0, 2).astype(int) - resize(frame, 9, 3)).max() <= 1  # the first pass rounds


# Replays give the same answers only while these pixels stay what they are.
GOLDEN = {
    (4, 4): "a1e397d93d2bfec2",
    (16, 16): "00628ed1704afd92",
    (31, 2): "484ff038acd6e7ec",
}


@pytest.mark.parametrize("size", GOLDEN)
def test_the_pixels_are_pinned(size: tuple[int, int]) -> None:
    index = np.arange(23 * 17 * 3)
    frame = ((index * index * 7 + index * 13) % 256).astype(np.uint8).reshape(23, 17, 3)
    assert hashlib.sha256(resize(frame, *size).tobytes()).hexdigest()[:16] == GOLDEN[size]


@given(st.integers(0, 255), SIDES, SIDES, SIDES, SIDES)
def test_a_constant_stays_constant(value: int, height: int, width: int, to_height: int, to_width: int) -> None:
    resized = resize(np.full((height, width, 1), value, np.uint8), to_height, to_width)
    assert resized.shape == (to_height, to_width, 1)
    assert (resized == value).all()


@given(st.integers(0, 2**32 - 1), SIDES, SIDES, SIDES, SIDES)
def test_no_pixel_leaves_the_range_of_the_frame(seed: int, height: int, width: int, to_h: int, to_w: int) -> None:
    low, high = sorted(np.random.default_rng(seed).integers(0, 256, 2))
    frame = np.random.default_rng(seed).integers(low, high, (height, width, 2), np.uint8, endpoint=True)
    resized = resize(frame, to_h, to_w)
    assert frame.min() <= resized.min()
    assert resized.max() <= frame.max()


def whole_products(frame: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """What `resize` is defined as: two products with the whole weight matrix, rounded after each."""

    def shrink(lines: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
        source = lines.shape[-1]
        reach, positions = 2 * max(source, size), 2 * size * np.arange(source)
        weights = np.zeros((source, size), np.int64)
        for column in range(size):
            raw = np.maximum(0, reach - np.abs(positions - ((2 * column + 1) * source - size)))
            weights[:, column] = (raw << RESIZE_BITS) // raw.sum()
            weights[np.argmax(weights[:, column]), column] += (1 << RESIZE_BITS) - weights[:, column].sum()
        return ((lines.astype(np.int64) @ weights + (1 << RESIZE_BITS - 1)) >> RESIZE_BITS).astype(np.uint8)

    rows = np.moveaxis(shrink(np.moveaxis(frame, -3, -1), height), -1, -3)
    return np.moveaxis(shrink(np.moveaxis(rows, -2, -1), width), -1, -2)


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([(), (1,), (3,)]), st.integers(1, 400), st.integers(1, 400), SIDES, SIDES
)
def test_parts_of_the_products_are_the_whole_ones(
    seed: int, steps: tuple[int, ...], height: int, width: int, to_h: int, to_w: int
) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (*steps, height, width, 2), np.uint8)
    np.testing.assert_array_equal(resize(frame, to_h, to_w), whole_products(frame, to_h, to_w))


@pytest.mark.parametrize("spec", [FrameSpec(1, 3, 32, 32), FrameSpec(1, 1, 32, 32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_cameras_frame_is_never_floats_as_a_whole(spec: FrameSpec, channels: int) -> None:
    frame = np.zeros((1080, 1920, channels), np.uint8)
    fit(frame, spec)
    tracemalloc.start()
    try:
        fit(frame, spec)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    grey = channels == 3 and spec.channels == 1
    assert peak < (24e6 if grey else 4e6), "floats of the whole frame take four times its bytes"


def test_a_mirrored_frame_gives_the_mirrored_result() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (13, 20, 1), np.uint8)
    difference = resize(frame[:, ::-1], 7, 9).astype(int) - resize(frame, 7, 9)[:, ::-1]
    assert np.abs(difference).max() <= 1  # the weights' own rounding error goes to one pixel


def test_a_frame_of_the_right_size_is_left_alone() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    np.testing.assert_array_equal(fit(frame, FrameSpec(2, 3, 8, 8)), frame)


def test_each_step_is_resized_by_itself() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (3, 10, 11, 2), np.uint8)
    fitted = fit(frame, FrameSpec(3, 2, 4, 6))
    assert fitted.shape == (3, 4, 6, 2)
    for step in range(3):
        np.testing.assert_array_equal(fitted[step], fit(frame[step], FrameSpec(3, 2, 4, 6)))


def test_grey_becomes_rgb_by_repetition_and_rgb_becomes_grey_by_weight() -> None:
    grey = np.array([[10, 255]], np.uint8)
    np.testing.assert_array_equal(fit(grey, FrameSpec(1, 3, 1, 2)), np.repeat(grey[:, :, None], 3, axis=2))
    rgb = np.array([[[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert fit(rgb, FrameSpec(1, 1, 1, 4)).ravel().tolist() == [255, 76, 149, 28]


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (
            np.zeros((8, 8)),
            "frames are uint8 arrays, this one is float64; convert it to 0-255, from 0 to 1 by "
            "(255 * frame).astype('uint8')",
        ),
        (np.zeros((8, 8), int), "frames are uint8 arrays, this one is int64; convert it to 0-255"),
        (
            [[0]],
            "frames are uint8 arrays, this is no numpy array but of type list; convert it with numpy.asarray(frame)",
        ),
        (
            np.uint8(3),
            "frames are uint8 arrays, this is no numpy array but of type uint8; convert it with numpy.asarray(frame)",
        ),
        (np.zeros(8, np.uint8), SHAPES.format("(8,)")),
        (np.zeros((1, 2, 8, 8, 1), np.uint8), SHAPES.format("(1, 2, 8, 8, 1)")),
        (np.zeros((3, 8, 8, 1), np.uint8), "a frame with time steps needs 2 of them, this one has 3"),
        (np.zeros((0, 8, 1), np.uint8), "sides of a frame are 1 to 4096 pixels, these are 0 x 8; this one is empty"),
        (
            np.zeros((1, 4097, 1), np.uint8),
            "sides of a frame are 1 to 4096 pixels, these are 1 x 4097; thin it out first: frame[::2, ::2]",
        ),
        (
            np.zeros((2, 6000, 4000, 1), np.uint8),
            "sides of a frame are 1 to 4096 pixels, these are 6000 x 4000; thin it out first: frame[:, ::2, ::2]",
        ),
        (
            np.zeros((1, 9000, 1), np.uint8),
            "sides of a frame are 1 to 4096 pixels, these are 1 x 9000; thin it out first: frame[::3, ::3]",
        ),
        (np.zeros((8, 8, 2), np.uint8), "this network takes 1 channels, the frame has 2"),
        (
            np.zeros((8, 8, 4), np.uint8),
            "this network takes 1 channels, the frame has 4; if the fourth is alpha, leave it out: frame[..., :3]",
        ),
        (
            np.zeros((3, 8, 16), np.uint8),
            "this network takes 1 channels, the frame has 16; if its channels stand first: frame.transpose(1, 2, 0)",
        ),
        (
            np.zeros((2, 1, 8, 16), np.uint8),
            "this network takes 1 channels, the frame has 16; if its channels stand first: frame.transpose(0, 2, 3, 1)",
        ),
        (np.zeros((8, 8, 0), np.uint8), "this network takes 1 channels, the frame has 0"),
    ],
)
def test_frames_that_do_not_fit_are_explained(frame: NDArray[np.uint8], text: str) -> None:
    with pytest.raises(FrameError) as caught:
        fit(frame, FrameSpec(2, 1, 8, 8))
    assert str(caught.value) == text


@pytest.mark.parametrize("have", [1, 3])
def test_two_channels_are_event_polarities_and_nothing_else(have: int) -> None:
    with pytest.raises(FrameError, match=f"this network takes 2 channels, the frame has {have}"):
        fit(np.zeros((8, 8, have), np.uint8), FrameSpec(2, 2, 8, 8))
