"""Sets by name, digits, figures, contact sheet, and the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ecc_tools.data.cli import data_app
from ecc_tools.data.describe import describe
from ecc_tools.data.errors import BadImages, DataError, DataNotFound, DataUnreadable, UnknownSet
from ecc_tools.data.parts import hold_out
from ecc_tools.data.sets import SETS, data_root, open_dataset
from ecc_tools.data.sheet import write_sheet
from support.datasets import write_classes, write_tiny_imagenet

KNOWN = "known are cifar-10, cifar-100, tiny-imagenet, caltech-101, digits, and any folder of images"


@pytest.fixture(autouse=True)
def no_data(tmp_path, monkeypatch):
    monkeypatch.delenv("ECC_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def test_the_root_is_what_is_given_else_the_environment_else_data(tmp_path, monkeypatch):
    assert str(data_root(None)) == "data"
    monkeypatch.setenv("ECC_DATA", str(tmp_path))
    assert data_root(None) == tmp_path
    assert data_root(tmp_path / "x") == tmp_path / "x"
    write_tiny_imagenet(tmp_path)
    assert open_dataset("tiny-imagenet").names == ("banana", "goldfish")


def test_names_that_nothing_has_are_told():
    with pytest.raises(UnknownSet) as caught:
        open_dataset("imagenet")
    assert str(caught.value) == f"no data set is called 'imagenet'; {KNOWN}"
    with pytest.raises(BadImages) as caught:
        open_dataset("./imagenet")
    assert str(caught.value) == "imagenet: no such folder; check the path"


def test_a_recording_is_no_data_set(tmp_path):
    (tmp_path / "first.npz").write_bytes(b"")
    for name in ("first.npz", str(tmp_path / "first.npz")):
        with pytest.raises(BadImages) as caught:
            open_dataset(name)
        assert str(caught.value) == (
            f"{name}: a file, and no data set; give a set's name or a folder of images per class "
            "(collaborate and costs take recordings)"
        )


@pytest.mark.parametrize("name", [name for name in SETS if name != "digits"])
def test_a_root_that_is_not_there_is_told(tmp_path, name):
    with pytest.raises(DataNotFound) as caught:
        open_dataset(name, tmp_path / "none")
    assert str(caught.value).startswith(f"{tmp_path / 'none'}/")
    assert str(caught.value).endswith("'ecc-tools data fetch', or name its folder with --root or ECC_DATA")


def test_digits_learn_from_other_scans_than_they_test_with():
    data = open_dataset("digits")
    learning, test = data.learning(), data.test()
    assert (len(learning.labels), len(test.labels)) == (1140, 600)
    assert not {frame.tobytes() for frame in learning.frames} & {frame.tobytes() for frame in test.frames}
    assert [len(part.labels) for part in data.training()] == [1030, 110]


def test_a_description_counts_every_part(tmp_path):
    data = open_dataset(str(write_classes(tmp_path / "mine", {"a": 20, "b": 10})))
    told = describe(data)
    assert (told["classes"], told["page"]) == (["a", "b"], None)
    assert told["terms"] == "your own: the images come from a folder of yours"
    counts = {name: part["per_class"] for name, part in told["parts"].items()}
    assert counts == {
        "learning": {"a": 16, "b": 8},
        "train": {"a": 14, "b": 7},
        "validation": {"a": 2, "b": 1},
        "test": {"a": 4, "b": 2},
    }
    assert told["parts"]["validation"]["sha256"] == hold_out(data.learning())[1].sha256
    assert told["parts"]["test"]["shape"] == [10, 12, 3]
    assert told["parts"]["test"]["images"] == 6


def test_a_sheet_shows_a_row_for_each_class_and_opens_no_test_file(tmp_path):
    folder = write_tiny_imagenet(tmp_path)
    (folder / "val" / "val_annotations.txt").unlink()
    data = open_dataset("tiny-imagenet", tmp_path)
    assert write_sheet(data, tmp_path / "sheet") == (970, 140)
    with Image.open(tmp_path / "sheet") as image:
        shown = np.asarray(image)
    assert np.array_equal(shown[4:68, 150:214], data.learning().frames[0])
    assert np.array_equal(shown[72:136, 150 + 68 : 214 + 68], data.learning().frames[4])
    assert (shown[:, :140] < 128).any()


def test_a_sheet_enlarges_small_grey_images(tmp_path):
    data = open_dataset("digits")
    write_sheet(data, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        shown = np.asarray(image)
    first = data.learning().frames[np.flatnonzero(data.learning().labels == 0)[0]]
    assert np.array_equal(shown[4:68:4, 150:214:4], first.repeat(3, axis=-1))


def test_a_sheet_that_cannot_be_written_is_told(tmp_path):
    path = tmp_path / "none" / "sheet.png"
    with pytest.raises(DataUnreadable) as caught:
        write_sheet(open_dataset("digits"), path)
    assert str(caught.value) == (
        f"{path}: No such file or directory; check the path, its permissions, and the space on its disk"
    )


def run(*arguments):
    done = CliRunner().invoke(data_app, arguments)
    if isinstance(done.exception, DataError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_list_tells_what_is_here(tmp_path):
    write_tiny_imagenet(tmp_path)
    lines = run("list", "--root", str(tmp_path)).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["cifar-10", "-"],
        ["cifar-100", "-"],
        ["tiny-imagenet", "here"],
        ["caltech-101", "-"],
        ["digits", "here"],
    ]
    rows = json.loads(run("list", "--root", str(tmp_path), "--json"))
    assert [row["here"] for row in rows] == [False, False, True, False, True]
    assert set(rows[0]) == {"name", "holds", "here", "page", "terms"}


def test_describe_prints_each_part(tmp_path):
    write_tiny_imagenet(tmp_path)
    lines = run("describe", "tiny-imagenet", "--root", str(tmp_path)).splitlines()
    assert lines[0] == "tiny-imagenet: 2 classes; terms: ImageNet's: non-commercial research and education"
    assert lines[2].startswith("  train           4 images, 2 of each class, 64 x 64 x 3, ")
    told = json.loads(run("describe", "tiny-imagenet", "--root", str(tmp_path), "--json"))
    assert told == describe(open_dataset("tiny-imagenet", tmp_path))


def test_verify_and_sheet_say_what_they_did(tmp_path):
    write_classes(tmp_path / "mine", {"a": 3})
    assert run("verify", "./mine") == ("./mine: 3 images can be read; there are no checksums to compare them with\n")
    assert run("sheet", "./mine", "--out", "sheet.png") == "sheet.png: 922 x 58 pixels\n"
    assert (tmp_path / "sheet.png").exists()


def test_fetch_passes_over_what_is_there(tmp_path):
    folder = write_tiny_imagenet(tmp_path)
    assert run("fetch", "tiny-imagenet", "--root", str(tmp_path)) == f"{folder}: was there already\n"


def test_an_error_is_one_line_and_the_import_is_light():
    code = (
        "import sys; from ecc_model import console; from ecc_tools.data.cli import data_app\n"
        "assert not {'torch', 'sklearn', 'PIL', 'numpy'} & set(sys.modules), 'heavy'\n"
        "console.run(data_app)"
    )
    done = subprocess.run([sys.executable, "-c", code, "describe", "x"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: no data set is called 'x'; {KNOWN}\n")


def test_without_pillow_only_what_reads_or_draws_images_is_missing_and_names_the_install_command(tmp_path):
    write_classes(tmp_path / "mine", {"a": 3})
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from ecc_model import console; from ecc_tools.data.cli import data_app; console.run(data_app)"
    )

    def told(*words):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        return done.returncode, done.stderr

    command = "needs the package 'pillow'; install it with: pip install 'ecc-snn[images]'"
    assert told("list") == (0, "")
    assert told("describe", "./mine") == (1, f"error: reading images {command}\n")
    assert told("sheet", "digits", "--out", "sheet.png") == (1, f"error: a contact sheet {command}\n")
