"""Augmentation of whole batches, and mixing."""

import pytest
import torch
import torch.nn.functional as F

from ecc_tools import augmentation
from ecc_tools.augmentation import AUGMENTATIONS, CUTOUT, MIXES, Augmentation, UnknownAugmentation, mix
from ecc_tools.image_operations import (
    COLOUR_OPERATIONS,
    SHAPE_OPERATIONS,
    brightness,
    colour,
    contrast,
    posterize,
    rotate,
    sample,
    shear_x,
    shear_y,
    solarize,
    translate_x,
    translate_y,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=7, least=1):
    return torch.randint(least, 256, shape, dtype=torch.uint8, generator=seeded(seed))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("shape", [(5, 8, 12, 3), (3, 16, 16, 1), (1, 7, 9, 2)])
def test_the_generator_alone_decides_and_frames_stay(name, shape):
    frames = noise(*shape)
    before = frames.clone()
    apply = Augmentation(name)
    torch.manual_seed(1)
    once = apply(frames, seeded())
    torch.manual_seed(2)
    assert torch.equal(once, apply(frames, seeded()))
    assert (once.shape, once.dtype) == (frames.shape, torch.uint8)
    assert torch.equal(frames, before)
    assert torch.equal(once, apply(frames, seeded(1))) == (name == "none")


def test_none_changes_nothing():
    frames = noise(2, 4, 4, 3)
    assert torch.equal(Augmentation("none")(frames, seeded()), frames)


def test_crop_flip_is_a_crop_of_the_padded_image_or_its_mirror_image():
    frame = noise(6, 7, 3)
    padded = F.pad(frame, (0, 0, 4, 4, 4, 4))
    possible = {}
    for top in range(9):
        for left in range(9):
            crop = padded[top : top + 6, left : left + 7]
            possible[crop.numpy().tobytes()] = (top, left, False)
            possible[crop.flip(1).contiguous().numpy().tobytes()] = (top, left, True)
    views = Augmentation("crop-flip")(frame.expand(4000, 6, 7, 3), seeded())
    found = [possible[view.contiguous().numpy().tobytes()] for view in views]
    assert set(found) == set(possible.values())
    assert 0.45 < sum(mirrored for _, _, mirrored in found) / len(found) < 0.55


def test_strong_uses_every_operation_and_leaves_a_black_hole(monkeypatch):
    used = set()

    def spy(operation):
        def call(*arguments):
            used.add(operation.__name__)
            return operation(*arguments)

        return call

    monkeypatch.setattr(augmentation, "COLOUR_OPERATIONS", [spy(operation) for operation in COLOUR_OPERATIONS])
    monkeypatch.setattr(augmentation, "SHAPE_OPERATIONS", [spy(operation) for operation in SHAPE_OPERATIONS])
    monkeypatch.setattr(augmentation, "CROP_PADDING", 0)
    views = Augmentation("strong")(torch.full((300, 32, 32, 3), 200, dtype=torch.uint8), seeded())
    assert used == {operation.__name__ for operation in (*COLOUR_OPERATIONS, *SHAPE_OPERATIONS)}
    side = int(32 * CUTOUT)
    black = (views == 0).all(-1)
    assert black.flatten(1).sum(1).min() >= (side // 2) ** 2
    assert len({view.numpy().tobytes() for view in views}) > 290


def test_operations_without_strength_change_nothing():
    frames = noise(4, 9, 8, 3, least=0)
    nothing = torch.zeros(4)
    for operation in COLOUR_OPERATIONS:
        assert torch.equal(operation(frames, nothing), frames), operation.__name__
    for operation in SHAPE_OPERATIONS:
        assert torch.equal(sample(frames, operation(nothing)), frames), operation.__name__


def test_colour_operations_are_those_of_the_table():
    frames = torch.tensor([100, 200, 50], dtype=torch.uint8).expand(2, 1, 2, 3).clone()
    frames[:, :, 1] = 0
    both = torch.tensor([-1.0, 1.0])
    grey = (77 * 100 + 150 * 200 + 29 * 50) / 256
    red = [view[0, 0, 0].item() for view in brightness(frames, both)]
    assert red == [10, 190]
    assert [view[0, 0, 0].item() for view in colour(frames, both)] == [
        round(grey + 0.1 * (100 - grey)),
        round(grey + 1.9 * (100 - grey)),
    ]
    assert [view[0, 0, 1].item() for view in contrast(frames, both)] == [round(grey / 2 + 0.1 * (200 - grey / 2)), 255]
    assert posterize(frames, both)[0, 0, 0].tolist() == [96, 192, 48]
    assert solarize(frames, torch.tensor([0.5, -1.0]))[:, 0, 0].tolist() == [[100, 55, 50], [155, 55, 205]]


def test_each_image_gets_its_own_strength():
    frames = torch.full((3, 2, 2, 3), 100, dtype=torch.uint8)
    assert brightness(frames, torch.tensor([-1.0, 0.0, 1.0]))[:, 0, 0, 0].tolist() == [10, 100, 190]


def test_images_move_the_way_the_strength_says():
    frame = torch.zeros(1, 21, 21, 1, dtype=torch.uint8)
    frame[0, 10, 10] = 1
    frame[0, 10, 14] = 2
    frame[0, 14, 10] = 3

    def places(operation, strength):
        view = sample(frame, operation(torch.tensor([strength])))[0, :, :, 0]
        return [tuple((view == level).nonzero()[0].tolist()) for level in (1, 2, 3)]

    def shift(share):
        return round(share * 0.45 * 21)

    assert places(translate_x, 0.5) == [(10, 10 - shift(0.5)), (10, 14 - shift(0.5)), (14, 10 - shift(0.5))]
    assert places(translate_y, -0.5) == [(10 + shift(0.5), 10), (10 + shift(0.5), 14), (14 + shift(0.5), 10)]
    assert places(shear_x, 1.0) == [(10, 10), (10, 14), (14, 9)]
    assert places(shear_y, 1.0) == [(10, 10), (9, 14), (14, 10)]
    assert places(rotate, 1.0) == [(10, 10), (8, 13), (13, 12)]


def test_sample_turns_by_a_right_angle_and_fills_with_black():
    frames = noise(2, 5, 5, 3)
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]).expand(2, 2, 3)
    assert torch.equal(sample(frames, quarter), frames.rot90(1, (1, 2)))
    away = torch.tensor([[1.0, 0.0, 0.6], [0.0, 1.0, 0.0]]).expand(2, 2, 3)
    moved = sample(frames, away)
    assert torch.equal(moved[:, :, :2], frames[:, :, 3:])
    assert not moved[:, :, 2:].any()


def test_digits_without_range_are_left_as_they_are(monkeypatch):
    for name in ("TURN", "SCALE", "SHIFT"):
        monkeypatch.setattr(augmentation, name, 0.0)
    frames = noise(3, 16, 12, 1)
    assert torch.equal(Augmentation("digits")(frames, seeded()), frames)


def test_digits_move_little_and_are_never_mirrored():
    frame = torch.zeros(16, 16, 1, dtype=torch.uint8)
    frame[6:10, 2:6] = 240
    views = Augmentation("digits")(frame.expand(500, 16, 16, 1), seeded()).float().squeeze(-1)
    pixels = torch.arange(16.0)
    for axis, middle in ((1, 7.5), (2, 3.5)):
        centre = (views.sum(3 - axis) * pixels).sum(1) / views.flatten(1).sum(1)
        assert (centre - middle).abs().max() < 1.5 + 1.2  # the shift, and turn and scale of what lies off the centre
        assert centre.std() > 0.5


@pytest.mark.parametrize("kind", MIXES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frames_and_targets_are_mixed_by_the_same_share(kind, dtype):
    count = 8
    targets = torch.eye(count)
    frames = targets[:, :, None, None].expand(count, count, 16, 16).to(dtype).contiguous()  # image i is channel i
    before = frames.clone()
    mixed, mixed_targets = mix(frames, targets, kind, seeded())
    shown = mixed.float().mean(dim=(2, 3))
    assert torch.allclose(shown, mixed_targets, atol=1e-6 if dtype == torch.float32 else 4e-3)
    assert torch.allclose(mixed_targets.sum(1), torch.ones(count))
    assert (mixed.dtype, mixed_targets.dtype) == (dtype, torch.float32)
    assert torch.equal(frames, before)
    assert ((mixed_targets > 0).sum(1) > 1).any()
    if kind == "cutmix":
        assert set(mixed.float().unique().tolist()) == {0.0, 1.0}
    again = mix(frames, targets, kind, seeded())
    assert torch.equal(again[0], mixed)
    assert not torch.equal(mix(frames, targets, kind, seeded(1))[0], mixed)


@pytest.mark.parametrize("kind", MIXES)
def test_shares_are_drawn_evenly(kind):
    targets = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(2000, 1)
    _, mixed = mix(torch.zeros(4000, 1, 32, 32), targets, kind, seeded())
    crossed = mixed[(mixed[:, 0] > 0) & (mixed[:, 0] < 1), 0]
    assert abs(crossed.mean().item() - 0.5) < 0.05
    assert crossed.min() < 0.1
    assert crossed.max() > 0.9


def test_names_that_nothing_has_are_told():
    with pytest.raises(UnknownAugmentation) as caught:
        Augmentation("flip")
    assert str(caught.value) == "no augmentation is called 'flip'; known are none, crop-flip, strong, digits"
    with pytest.raises(UnknownAugmentation) as caught:
        mix(torch.zeros(2, 1, 2, 2), torch.eye(2), "none", seeded())
    assert str(caught.value) == "no augmentation is called 'none'; known are mixup, cutmix"
