"""The event-camera classifier: that it trains, and what the shipped model makes of event files on every engine."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ecc_device.engines import ENGINES, check_engine
from ecc_device.replay import Replay
from ecc_model.errors import MissingEngine, SourceError
from ecc_model.modelfile import read_edge
from support.imports import ROOT

torch = pytest.importorskip("torch")

SCRIPT, MODEL = ROOT / "examples/06_event_camera.py", ROOT / "examples/06_event_camera.pt"
SAMPLES = ROOT / "examples/streams/nmnist"
MAX_BYTES = 300_000


@pytest.fixture(scope="module")
def events(example: Callable[[str], ModuleType]) -> ModuleType:
    return example("06_event_camera.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small N-MNIST of the samples: two recordings of each digit to train with, the rest to judge."""
    folder = tmp_path_factory.mktemp("nmnist")
    with (folder / "labels.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["file", "label"])
        for digit in "0123456789":
            for number, file in enumerate(sorted((SAMPLES / digit).iterdir())):
                part = "train" if number < 2 else "test"
                (folder / part).mkdir(exist_ok=True)
                shutil.copy(file, folder / part / file.name)
                rows.writerow([f"{part}/{file.name}", digit])
    return folder


def test_a_network_is_trained_written_and_judged_as_the_device_sees_it(data: Path, tmp_path: Path) -> None:
    options = ["--data", str(data), "--out", "models", "--seeds", "1", "--epochs", "1"]
    command = [sys.executable, str(SCRIPT), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=290)
    assert (done.returncode, done.stderr) == (0, "")
    first, _, seed, mean = done.stdout.splitlines()
    assert first == "20 recordings to train with, 9 to judge"
    held, tested = re.fullmatch(r"   0 +(\d+\.\d) % +(\d+\.\d) %", seed).groups()
    assert mean.split() == ["mean", held, "%", tested, "%"]
    model = read_edge(tmp_path / "models/seed-0.pt")
    assert model.labels == tuple("0123456789")
    assert (model.program.input.steps, model.program.input.channels, model.program.input.height) == (3, 2, 32)
    with Replay(f"{data / 'test'}#steps=3", model=model.path) as replay:  # the files by name
        answers = [result.label for result in replay]
    with (data / "labels.csv").open(newline="") as stream:
        rows = sorted((row["file"], row["label"]) for row in csv.DictReader(stream))
    truth = [label for file, label in rows if file.startswith("test/")]
    right = sum(answer == label for answer, label in zip(answers, truth, strict=True))
    assert tested == f"{100 * right / 9:.1f}"


def test_without_labels_it_says_what_is_wanted(events: ModuleType) -> None:
    with pytest.raises(SourceError, match=r"^nowhere: no labels.csv; give the folder with N-MNIST's train, test and"):
        events.read_files(Path("nowhere"), "train")


def test_steps_and_polarities_of_a_recording_move_alike(events: ModuleType) -> None:
    plane = np.random.default_rng(0).integers(0, 256, (4, 1, 32, 32, 1), np.uint8)
    frames = torch.from_numpy(np.tile(plane, (1, 3, 1, 1, 2)))
    moved = events.MOVED(frames, torch.Generator().manual_seed(0))
    assert moved.shape == frames.shape
    assert not torch.equal(moved, frames)
    assert torch.equal(moved, moved[:, :1, :, :, :1].expand_as(moved))


def test_every_fifth_has_every_class_and_each_recording_is_in_one(events: ModuleType) -> None:
    labels = np.repeat(np.arange(10), 7)
    folds = events.folds_of(labels)
    assert all(set(labels[folds == fold]) == set(range(10)) for fold in range(5))
    assert np.bincount(folds).tolist() == [20, 20, 10, 10, 10]


def test_the_shipped_model_is_small_and_says_where_it_is_from() -> None:
    assert MODEL.stat().st_size <= MAX_BYTES
    assert read_edge(MODEL).manifest.provenance == {"data": "N-MNIST, CC BY-SA 4.0"}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_shipped_model_reads_event_files_alike_on_every_engine(engine: str) -> None:
    try:
        check_engine(engine)
        with Replay(f"{SAMPLES}#steps=3", model=MODEL, engine=engine) as replay:
            told = [(result.to_record(), truth) for result, truth in replay.run()]
    except MissingEngine as missing:
        pytest.skip(str(missing))
    with Replay(f"{SAMPLES}#steps=3", model=MODEL, engine="numpy") as replay:
        assert json.dumps(told) == json.dumps([(result.to_record(), truth) for result, truth in replay.run()])
    assert sum(record["label"] == truth for record, truth in told) == 19  # of 29


@pytest.mark.skipif(not Path(os.environ.get("ECC_DATA", "nowhere"), "nmnist").is_dir(), reason="N-MNIST is not there")
def test_the_shipped_model_on_the_hundred_test_recordings(events: ModuleType) -> None:
    data = Path(os.environ["ECC_DATA"], "nmnist")
    assert events.accuracy(MODEL, *events.read_files(data, "test")) == 80.0
