"""Sets of image files: Tiny ImageNet, Caltech-101, and any folder; and that their test files wait."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ecc_model.frames import resize
from ecc_tools.data.caltech import open_caltech
from ecc_tools.data.errors import BadImages, DataCorrupt, DataError, DataNotFound
from ecc_tools.data.folder import open_folder
from ecc_tools.data.images import list_classes, read_images, split
from ecc_tools.data.tiny_imagenet import open_tiny_imagenet
from support.datasets import write_classes, write_image, write_tiny_imagenet

REAL = Path(os.environ.get("ECC_DATA", "none"))
MISSING = "not there; fetch the set with 'ecc-tools data fetch', or name its folder with --root or ECC_DATA"


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_tiny_imagenet_keeps_the_official_order_of_the_classes_that_are_there(tmp_path):
    folder = write_tiny_imagenet(tmp_path)
    data = open_tiny_imagenet(tmp_path)
    assert data.names == ("banana", "goldfish")
    learning, test = data.learning(), data.test()
    assert learning.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(learning.frames[4], pixels(folder / "train/n01/images/n01_1.JPEG"))
    assert test.labels.tolist() == [1, 0, 0, 1]
    assert np.array_equal(test.frames[2], pixels(folder / "val/images/val_2.JPEG"))


def test_tiny_imagenet_tells_two_classes_of_one_word_apart(tmp_path):
    folder = write_tiny_imagenet(tmp_path)
    (folder / "words.txt").write_text("n01\tcrane, a bird\nn02\tcrane, a machine\n")
    assert open_tiny_imagenet(tmp_path).names == ("n02", "n01")


def test_tiny_imagenet_opens_no_validation_file_before_the_test(tmp_path):
    folder = write_tiny_imagenet(tmp_path)
    (folder / "val" / "val_annotations.txt").unlink()
    data = open_tiny_imagenet(tmp_path)
    assert [len(part.labels) for part in data.training()] == [4, 2]
    with pytest.raises(DataNotFound) as caught:
        data.test()
    assert str(caught.value) == f"{folder / 'val' / 'val_annotations.txt'}: {MISSING}"


TINY = [
    ("val/val_annotations.txt", "val_0.JPEG\tn77\n", "a class 'n77' without training images"),
    ("val/val_annotations.txt", "val_0.JPEG\n", "row 1 has fewer than 2 columns"),
    ("val/val_annotations.txt", "../../words.txt\tn01\n", "'../../words.txt' is no file name"),
    ("wnids.txt", "..\n", "'..' is no file name"),
    ("words.txt", "n01 goldfish\n", "row 1 has fewer than 2 columns"),
    ("words.txt", b"\xff\xfe", "no text"),
    ("train/n01/images/n01_1.JPEG", b"no image", "not a readable image"),
    ("val/images/val_1.JPEG", b"\xff\xd8\xff\xe0", "not a readable image"),
]


@pytest.mark.parametrize(("name", "content", "reason"), TINY)
def test_tiny_imagenet_tells_what_is_wrong_where(tmp_path, name, content, reason):
    path = write_tiny_imagenet(tmp_path) / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataCorrupt) as caught:
        [part() for data in [open_tiny_imagenet(tmp_path)] for part in (data.learning, data.test)]
    assert str(caught.value) == f"{path}: {reason}; fetch the set again"


def test_tiny_imagenet_images_have_one_size(tmp_path):
    path = write_image(write_tiny_imagenet(tmp_path) / "train/n01/images/n01_1.JPEG", 32, 64)
    with pytest.raises(DataCorrupt) as caught:
        open_tiny_imagenet(tmp_path).learning()
    assert str(caught.value) == f"{path}: 64 x 32 pixels, not 64 x 64; fetch the set again"


@pytest.mark.parametrize("name", ["wnids.txt", "words.txt", "train"])
def test_tiny_imagenet_tells_what_is_missing(tmp_path, name):
    path = write_tiny_imagenet(tmp_path) / name
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(DataNotFound) as caught:
        open_tiny_imagenet(tmp_path)
    assert str(caught.value) == f"{path}: {MISSING}"


@pytest.fixture
def caltech(tmp_path):
    folder = write_classes(tmp_path / "101_ObjectCategories", {"wrench": 10, "anchor": 5}, height=30, width=20)
    write_image(folder / "BACKGROUND_Google" / "x.jpg")
    write_image(folder / "wrench" / "grey.jpg", 50, 70, mode="L")
    return tmp_path


def test_caltech_is_split_class_by_class_and_resized(caltech):
    data = open_caltech(caltech, side=24)
    assert data.names == ("anchor", "wrench")
    learning, test = data.learning(), data.test()
    assert np.bincount(learning.labels).tolist() == [4, 9]
    assert np.bincount(test.labels).tolist() == [1, 2]
    every = {image.tobytes() for image in (*learning.frames, *test.frames)}
    expected = [resize(pixels(path), 24, 24) for path in (caltech / "101_ObjectCategories").glob("[aw]*/*")]
    assert every == {image.tobytes() for image in expected}
    assert open_caltech(caltech).learning().frames.shape == (13, 64, 64, 3)


def test_caltech_opens_no_test_file_before_the_test(caltech):
    folder = caltech / "101_ObjectCategories"
    _, test = split(list_classes(folder, without=["BACKGROUND_Google"]))
    for path in (path for paths in test.values() for path in paths):
        path.write_bytes(b"spoilt")
    data = open_caltech(caltech)
    assert len(data.learning().labels) == 13
    with pytest.raises(DataCorrupt) as caught:
        data.test()
    assert str(caught.value) == f"{test['anchor'][0]}: not a readable image; fetch the set again"


def test_the_split_of_a_class_does_not_depend_on_others(tmp_path):
    folder = write_classes(tmp_path, {"a": 20, "b": 20})
    both = split(list_classes(folder))
    write_classes(tmp_path, {"0": 4})
    three = split(list_classes(folder))
    assert [{name: part[name] for name in "ab"} for part in three] == list(both)
    assert [path.name for path in both[1]["a"]] == ["001.png", "002.png", "011.png", "015.png"]


def test_a_folder_with_two_parts_keeps_them(tmp_path):
    write_classes(tmp_path / "train", {"b": 3, "a": 2})
    write_classes(tmp_path / "test", {"b": 1})
    data = open_folder(tmp_path)
    assert data.names == ("a", "b")
    assert data.learning().labels.tolist() == [0, 0, 1, 1, 1]
    assert data.learning().frames.shape == (5, 10, 12, 3)
    assert data.test().labels.tolist() == [1]
    assert np.array_equal(data.test().frames[0], pixels(tmp_path / "test" / "b" / "000.png"))


def test_a_folder_with_two_parts_waits_with_the_test(tmp_path):
    write_classes(tmp_path / "train", {"b": 3, "a": 2})
    (tmp_path / "test").mkdir()
    data = open_folder(tmp_path)
    assert len(data.learning().labels) == 5
    with pytest.raises(BadImages) as caught:
        data.test()
    assert str(caught.value) == (
        f"{tmp_path / 'test'}: no folders with images in it; put the images of each class into a folder of its name"
    )


def test_a_folder_without_parts_is_split_and_waits_with_the_test(tmp_path):
    _, test = split(list_classes(write_classes(tmp_path, {"a": 10, "b": 5})))
    test["b"][0].write_bytes(b"spoilt")
    data = open_folder(tmp_path)
    assert [np.bincount(part.labels).tolist() for part in data.training()] == [[7, 3], [1, 1]]
    with pytest.raises(DataCorrupt) as caught:
        data.test()
    assert str(caught.value) == f"{test['b'][0]}: not a readable image; replace it or take it away"


def test_a_broken_image_of_ones_own_is_not_fetched_again(tmp_path):
    learning, _ = split(list_classes(write_classes(tmp_path, {"a": 10})))
    learning["a"][0].write_bytes(b"spoilt")  # its size cannot be read
    with pytest.raises(DataCorrupt) as caught:
        open_folder(tmp_path).learning()
    assert str(caught.value) == f"{learning['a'][0]}: not a readable image; replace it or take it away"


@pytest.mark.parametrize(("height", "width"), [(30, 20), (257, 4)])
def test_images_of_many_sizes_or_large_ones_become_squares(tmp_path, height, width):
    write_classes(tmp_path, {"a": 4}, height=height, width=width)
    expected = (height, width) if height < 257 else (64, 64)
    assert open_folder(tmp_path).learning().frames.shape[1:3] == expected
    for path in split(list_classes(tmp_path))[0]["a"][:1]:
        write_image(path, 11, 11)
    data = open_folder(tmp_path)
    assert data.learning().frames.shape == (3, 64, 64, 3)
    assert data.test().frames.shape == (1, 64, 64, 3)


def test_folders_that_make_no_set_are_told(tmp_path):
    with pytest.raises(DataNotFound) as caught:
        list_classes(tmp_path / "none")
    assert str(caught.value) == f"{tmp_path / 'none'}: {MISSING}"
    write_classes(tmp_path, {"a": 5, "b": 2})
    with pytest.raises(BadImages) as caught:
        open_folder(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'b'}: 2 images; a class needs at least 3"
    write_image(tmp_path / "stray.jpg")
    with pytest.raises(BadImages) as caught:
        open_folder(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: images (stray.jpg) beside class folders; keep all images in the class folders"
    )


def test_a_test_class_that_was_never_learnt_is_told(tmp_path):
    write_classes(tmp_path / "train", {"a": 3})
    write_classes(tmp_path / "test", {"a": 1, "z": 1})
    with pytest.raises(BadImages) as caught:
        open_folder(tmp_path).test()
    assert str(caught.value) == f"{tmp_path / 'test'}: a class 'z' that train/ lacks; give both the same classes"


def test_hidden_files_and_other_files_are_passed_over(tmp_path):
    write_classes(tmp_path, {"a": 3})
    write_classes(tmp_path, {".hidden": 3, "empty": 0})
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "a" / "notes.txt").write_text("x")
    write_image(tmp_path / "a" / ".thumb.png")
    assert {name: len(files) for name, files in list_classes(tmp_path).items()} == {"a": 3}


def test_images_of_16_bits_are_not_guessed_at(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(path)
    with pytest.raises(BadImages) as caught:
        read_images([path], [0], (4, 4), fit=True)
    assert str(caught.value) == f"{path}: more than 8 bits a channel (mode I;16); convert it to 8 bits"


@pytest.mark.parametrize(("width", "height"), [(4097, 1), (10_000, 10_000), (20_000, 20_000)])
def test_images_too_large_for_a_frame_are_told(tmp_path, width, height):
    path = tmp_path / "large.bmp"
    header = write_image(path).read_bytes()
    path.write_bytes(header[:18] + width.to_bytes(4, "little") + height.to_bytes(4, "little") + header[26:])
    text = "4097 x 1 pixels; sides are 1 to 4096 pixels" if height == 1 else "not a readable image; fetch the set again"
    with pytest.raises(DataError) as caught:
        read_images([path], [0], (4, 4), fit=True)
    assert str(caught.value) == f"{path}: {text}"


@pytest.fixture(scope="module", params=["x.png", "x.jpg", "x.bmp", "x.webp"])
def image_file(request, tmp_path_factory):
    path = write_image(tmp_path_factory.mktemp("image") / request.param)
    return path, path.read_bytes()


@given(st.data())
def test_corrupted_images_raise_nothing_but_data_errors(image_file, data):
    path, whole = image_file
    blob = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3))):
        if blob:
            blob[data.draw(st.integers(0, min(len(blob), 64) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(blob)
    try:
        part = read_images([path], [0], (10, 12), fit=data.draw(st.booleans()))
    except DataError:
        return
    assert part.frames.shape == (1, 10, 12, 3)


@pytest.mark.parametrize(
    ("folder", "opened", "sizes"),
    [("tiny-imagenet-200", open_tiny_imagenet, (500, 50)), ("101_ObjectCategories", open_caltech, (25, 6))],
)
def test_the_real_sets(folder, opened, sizes):
    if not (REAL / folder).is_dir():
        pytest.skip(f"ECC_DATA has no {folder}")
    data = opened(REAL)
    for part, least in zip((data.learning(), data.test()), sizes, strict=True):
        assert part.frames.shape[1:] == (64, 64, 3)
        assert np.bincount(part.labels, minlength=len(data.names)).min() >= least
