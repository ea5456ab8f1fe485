"""`ecc-tools train`, `distill` and `assemble`, as a user types them, on scikit-learn's digits."""

import json
import re
import shutil
import subprocess

import pytest
from PIL import Image

from ecc_model.modelfile import read_edge, read_manifest
from ecc_tools.processes import find
from support.patterns import NAMES, pattern_part

QUICK = ["--data", "digits", "--augment", "digits", "--batch", "32", "--lr", "8e-3"]
EDGE = [*QUICK, "--network", "vgg9", "--width", "0.125", "--steps", "2"]


def tools(*arguments, code=0):
    done = subprocess.run([find("ecc-tools"), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("commands")


@pytest.fixture(scope="module")
def teacher(folder):
    out = folder / "teacher"
    done = tools("train", *QUICK, "--network", "vgg16", "--width", "0.125", "--epochs", "6", "--out", out)
    lines = done.stdout.splitlines()
    assert len(lines) == 7
    assert lines[0].startswith("epoch 0  cross_entropy ")
    assert lines[-1].startswith(f"{out}: best epoch ")
    assert lines[-1].endswith(" % of the validation images")
    return out


@pytest.fixture(scope="module")
def edge(folder, teacher):
    out = folder / "edge"
    more = ["--teacher", teacher, "--features", "1", "--epochs", "3", "--tasks", "B6-Inc2", "--out", out, "--json"]
    told = json.loads(tools("distill", *EDGE, *more).stdout)
    assert told["run"] == str(out)
    assert {"cross_entropy", "logits", "features", "accuracy", "validation_loss"} <= told.keys()
    return out


def test_a_run_folder_holds_what_the_page_says(edge):
    files = {"config.toml", "log.csv", "curve.png", "weights.pt", "checkpoint.pt"}
    assert {path.name for path in edge.iterdir()} == files
    assert (edge / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_stopped_run_goes_on_with_resume_and_not_without(edge, teacher, tmp_path):
    copy = shutil.copytree(edge, tmp_path / "edge")
    more = ["--teacher", teacher, "--features", "1", "--epochs", "3", "--tasks", "B6-Inc2", "--out", copy]
    refused = tools("distill", *EDGE, *more, code=1)
    assert refused.stderr == f"error: {copy} holds a run already; go on with it by --resume, or name another --out\n"
    told = tools("distill", *EDGE, *more, "--resume")  # nothing is left to do
    assert told.stdout.startswith(f"{copy}: best epoch ")
    assert (copy / "log.csv").read_text() == (edge / "log.csv").read_text()


def test_too_few_images_to_judge_updates_with_are_told_before_any_training(edge, teacher, tmp_path):
    out = tmp_path / "models"
    quick = ["--epochs", "1", "--tune-epochs", "1", "--copies", "1", "--tail-channels", "8"]
    refused = tools("assemble", edge, teacher, "--data", "digits", "--out", out, *quick, code=1)
    assert refused.stderr == (
        "error: 66 validation frames leave 18 to judge updates with; give at least 248 "
        "(of a set they are a tenth of the training images, so some 2,500 of those)\n"
    )
    assert not out.exists()


def test_two_runs_become_the_files_of_device_and_worker(tmp_path):
    """On a folder of images, as users have."""
    part = pattern_part(2300, 0, classes=2)
    for index, (frame, label) in enumerate(zip(part.frames, part.labels, strict=True)):
        folder = tmp_path / "bars" / ("test" if index < 20 else "train") / NAMES[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame[..., 0]).save(folder / f"{index}.png")
    quick = ["--data", tmp_path / "bars", "--lr", "8e-3"]
    small = [*quick, "--width", "0.1", "--epochs", "1"]
    tools("train", *small, "--network", "vgg16", "--out", tmp_path / "teacher")
    tools("train", *small, "--network", "vgg9", "--steps", "2", "--out", tmp_path / "edge")
    out = tmp_path / "models"
    once = ["--epochs", "1", "--tune-epochs", "1", "--copies", "1", "--tail-channels", "8", "--half"]
    codes = ["--code-channels", "4", "--code-channels", "8"]
    done = tools("assemble", tmp_path / "edge", tmp_path / "teacher", *quick, "--out", out, *once, *codes)
    assert re.fullmatch(
        rf"{out}: validation images: edge [\d.]+ % of its classes in integers, cloud [\d.]+ % by features, "
        r"[\d.]+ % by frames\n"
        r"encoder 8-bytes: [\d.]+ % by features, [\d.]+ bytes a message on the mean\n"
        r"encoder 4-bytes: [\d.]+ % by features, [\d.]+ bytes a message on the mean\n",
        done.stdout,
    )
    assert read_edge(out / "vgg9.pt").program.code_shapes == ((2, 8, 2, 2), (2, 4, 2, 2))
    assert read_manifest(out / "cloud.pt", "cloud").labels == list(NAMES[:2])


@pytest.mark.parametrize("channels", [[4, 8, 4], range(1, 10)])
def test_the_same_code_twice_or_too_many_are_refused(tmp_path, channels):
    codes = [word for count in channels for word in ("--code-channels", count)]
    refused = tools("assemble", tmp_path, tmp_path, "--data", "digits", "--out", tmp_path / "x", *codes, code=2)
    assert "give 1 to 8 numbers, each once: encoders differ in bytes" in " ".join(refused.stderr.split())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--network", "vgg10"], "error: no network is called 'vgg10'; known are vgg9, spiking-resnet18, "),
        (["--data", "imagenet"], "error: no data set is called 'imagenet'; known are cifar-10, "),
        (["--tasks", "B6-Inc2", "--task", "3"], "error: B6-Inc2 makes 3 tasks of digits; give --task 0 to 2"),
        (["--task", "1", "--epochs", "1"], "error: --task 1 is one of a split's; give the split with --tasks"),
        (["--device", "cuda"], "error: torch finds no device 'cuda' here to train on; give --device cpu"),
    ],
)
def test_a_wrong_option_is_one_line_and_takes_no_folder(tmp_path, change, message):
    refused = tools("train", *EDGE, *change, "--out", tmp_path / "run", code=1)
    assert refused.stderr.splitlines()[0].startswith(message)
    assert len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--code-channels", "--code-stride"])
def test_a_code_without_a_place_to_travel_from_is_refused(tmp_path, option):
    refused = tools("train", *EDGE, "--epochs", "1", option, "2", "--out", tmp_path / "run", code=2)
    assert f"Invalid value for {option}: it belongs to a spiking bottleneck; say with --split where that is" in told(
        refused
    )
    assert not (tmp_path / "run").exists()


def told(done):
    return " ".join(done.stderr.replace("│", " ").split())


def test_a_name_of_the_hub_without_a_network_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    out, name = tmp_path / "run", "google/vit-base-patch16-224-in21k"
    refused = tools("train", *QUICK, "--network", "vit-b16", "--start-from", name, "--out", out, code=1)
    assert re.fullmatch(
        rf"error: {name}: no pretrained ViT can be read there \(.+\); give a folder, or a name such as {name} and a "
        r"network connection\n",
        refused.stderr,
    )
    assert not out.exists()


def test_a_teacher_without_weights_is_named(tmp_path):
    refused = tools("distill", *EDGE, "--teacher", tmp_path, "--out", tmp_path / "run", code=1)
    assert refused.stderr == (
        f"error: {tmp_path} holds no trained network (weights.pt); give the --out of a training\n"
    )
