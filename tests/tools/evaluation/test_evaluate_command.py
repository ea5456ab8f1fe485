"""`ecc-tools evaluate` as people and programs meet it."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

from ecc_tools.cli import app
from ecc_tools.data.parts import DataSet, Part
from ecc_tools.evaluation import printing
from ecc_tools.evaluation.evaluate import Evaluation, evaluate
from ecc_tools.evaluation.pictures import draw_confusion
from ecc_tools.evaluation.printing import print_evaluation, si
from ecc_tools.evaluation.subjects import EvaluationError, open_subject
from support.models import DIGITS, TinyModels, write_tiny_models

ECC_TOOLS = Path(sys.executable).with_name("ecc-tools")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return write_tiny_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images with a test part: four of each digit."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for part, count in (("train", 2), ("test", 4)):
        for name in DIGITS:
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (16, 16), np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{index}.png")
    return folder


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_from_the_shell(models: TinyModels, images: Path, tmp_path: Path) -> None:
    command = [ECC_TOOLS, "evaluate", models.edge, "--data", images, "--out", tmp_path / "out", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    written = (tmp_path / "out" / "evaluation.json").read_text()
    assert json.loads(done.stdout) == json.loads(written)
    assert msgspec.json.decode(written, type=Evaluation).n == 24
    for name in ("confusion.png", "reliability.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert min(picture.size) > 400
    failed = subprocess.run([*command[:2], "missing.pt", *command[3:]], capture_output=True, text=True, check=False)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr == (
        "error: missing.pt: no such model file; check the path, or make one with: ecc-tools demo-train\n"
    )


def test_what_people_read(models: TinyModels, images: Path) -> None:
    done = call(models.edge, "--data", images, "--against", models.cloud)
    lines = done.stdout.splitlines()
    assert lines[0] == f"{models.edge}: integer program, 6 classes"
    assert [line.split()[0] for line in lines[1:5]] == ["accuracy", "calibration", "activity", "NeuroBench"]
    assert f"% of 24 test frames of {images} (95 %: " in lines[1]
    assert "at temperature 1 (from the model file)" in lines[2]
    assert any(line.startswith(" head.0 ") and line.rstrip().endswith(" MAC") for line in lines)
    assert lines[-1].startswith(f"against {models.cloud} (cloud's network for frames): ")
    assert "on the 24 frames of the 6 classes that both know" in lines[-1]


def test_float_and_part_are_passed_on(models: TinyModels, images: Path) -> None:
    done = call(models.edge, "--data", images, "--float", "--part", "validation", "--json", "--against", models.edge)
    found = json.loads(done.stdout)
    assert (found["what"], found["part"], found["n"]) == ("float network", "validation", 6)
    assert found["against"]["what"] == "integer program"


def test_another_part_is_a_usage_error(models: TinyModels, images: Path) -> None:
    done = call(models.edge, "--data", images, "--part", "train")
    assert done.exit_code == 2
    assert "'train' is not one of 'test', 'validation'" in done.stderr


def test_a_folder_that_cannot_be_written_is_one_line(models: TinyModels, images: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = call(models.edge, "--data", images, "--out", blocked)
    assert isinstance(done.exception, EvaluationError)
    assert str(done.exception) == f"{blocked}: cannot be written (File exists); choose another folder"


@pytest.fixture
def found(models: TinyModels) -> Evaluation:
    rng = np.random.default_rng(0)
    part = Part(rng.integers(0, 256, (60, 16, 16, 1), np.uint8), np.arange(60) % 10)
    data = DataSet("noise", DIGITS, lambda: part, lambda: part)
    return evaluate(open_subject(models.edge), data, "test", lambda share: None)


def printed(found: Evaluation) -> list[str]:
    console = Console(width=80, file=io.StringIO())
    print_evaluation(found, console)
    return console.file.getvalue().splitlines()


def test_of_many_classes_the_worst_are_listed(found: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing, "MAX_CLASSES", 5)
    monkeypatch.setattr(printing, "WORST", 2)
    lines = printed(found)
    start = lines.index(next(line for line in lines if line.startswith("The 2 classes that are known least, of 6")))
    listed = [line.split()[0] for line in lines[start + 4 : start + 6]]
    scores = sorted(found.per_class, key=lambda score: score.accuracy)
    assert listed == [score.label for score in scores[:2]]


def test_a_dense_network_has_no_columns_for_spikes(models: TinyModels, images: Path) -> None:
    lines = call(models.cloud, "--data", images).stdout.splitlines()
    (head,) = (line.split() for line in lines if line.startswith(" layer"))
    assert head == ["layer", "input", "%", "passes", "MACs", "effective"]
    assert not any(line.startswith("activity") for line in lines)


def test_of_many_layers_the_number_is_told(found: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printing, "MAX_LAYERS", 3)
    assert printed(found)[-1] == "9 layers: --json lists each"


def test_a_confusion_of_many_classes_stays_a_picture(found: Evaluation, tmp_path: Path) -> None:
    many = 200
    large = msgspec.structs.replace(
        found, labels=tuple(map(str, range(many))), confusion=np.eye(many, dtype=int).tolist()
    )
    draw_confusion(large, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as picture:
        assert picture.size == (1440, 1440)


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.5"), (999, "999"), (1000, "1 k"), (12_345_678, "12.3 M"), (4.6e9, "4.6 G")]
)
def test_counts_as_people_say_them(value: float, text: str) -> None:
    assert si(value) == text
