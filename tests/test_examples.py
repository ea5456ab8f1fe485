"""Every example runs, headless, on models that were made in this moment."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ecc_device.sources import save_npz
from ecc_snn import Edge
from support.imports import ROOT
from support.models import write_tiny_models

EXAMPLES = ROOT / "examples"
SCRIPTS = [*sorted(EXAMPLES.glob("*.py")), EXAMPLES / "05_recorded_bug" / "make_recording.py"]
MAX_LINES = 170
LINE = re.compile(r" *(\d+)  (\S+) +(\S.*\S) +(\d\.\d\d) m/s  (slower|faster|steady)")


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """An example from another folder than the repository's."""
    command = [sys.executable, str(EXAMPLES / arguments[0]), *arguments[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`vgg9.pt` of an edge that knows little, and `stream.npz` of 30 frames."""
    folder = tmp_path_factory.mktemp("example")
    write_tiny_models(folder, threshold=0.5)
    frames = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 1), np.uint8)
    save_npz(folder / "stream.npz", frames)
    return folder


def test_every_example_is_run_by_a_test_of_its_own() -> None:
    tested = ["01_robot_loop.py", "02_minimum_over_heads.py"]  # here; the others in tests/examples
    tested += ["03_ros_node.py", "04_service.py", "05_recorded_bug", "06_event_camera.py"]
    assert sorted(path.name for path in EXAMPLES.glob("0*") if path.suffix in ("", ".py")) == tested


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_examples_are_short_and_explain_themselves(path: Path, tmp_path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < MAX_LINES
    name = path.relative_to(EXAMPLES).as_posix()
    done = run(name, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"python examples/{name}" in done.stdout


def test_the_list_of_examples_names_them_all() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\w+(?:\.py)?)\]", text, re.MULTILINE)
    assert listed == sorted(path.name for path in EXAMPLES.glob("0*") if path.suffix in ("", ".py"))


def test_the_robot_slows_down_when_unsure(folder: Path, tmp_path: Path) -> None:
    inputs = ["--model", str(folder / "vgg9.pt"), "--source", str(folder / "stream.npz")]
    done = run("01_robot_loop.py", *inputs, "--state", "state", "--frames", "20", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    said = [re.fullmatch(LINE, line).groups() for line in lines]
    with Edge(folder / "vgg9.pt", state=tmp_path / "again") as edge, np.load(folder / "stream.npz") as stream:
        results = [edge.classify(pixels) for pixels in stream["frames"][:20]]
    assert [(int(frame), label, why) for frame, label, why, _, _ in said] == [
        (result.frame, result.label, result.why) for result in results
    ]
    before = 1.0
    for (*_, speed, decision), result in zip(said, results, strict=True):
        wanted = max(0.1, 1.0 - result.entropy)
        if decision == "slower":
            assert float(speed) == pytest.approx(wanted, abs=0.01)
        elif decision == "faster":
            assert before <= float(speed) <= wanted + 0.01
        before = float(speed)
    assert {decision for *_, decision in said} >= {"slower", "faster"}
    ambiguous = sum(result.ambiguous for result in results)
    assert 0 < ambiguous < 20
    assert last == f"unsure about {ambiguous} frames, 0 went up"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (["--model", "nowhere.pt"], "error: nowhere.pt: no such model file; check the path, or make one with: "),
        (["--source", "nowhere.npz"], "error: nowhere.npz: no such file or folder; a source is "),
        (["--broker", "mqtt://robots.example"], "error: mqtt://robots.example:1883 is another machine and mqtt:// is "),
    ],
)
def test_bad_input_of_the_robot_is_one_line(folder: Path, tmp_path: Path, change: list[str], error: str) -> None:
    inputs = ["--model", str(folder / "vgg9.pt"), "--source", str(folder / "stream.npz"), "--state", "state"]
    done = run("01_robot_loop.py", *inputs, *change, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(error)
    assert done.stderr.count("\n") == 1


def test_the_minimum_over_heads_falls_with_every_head_and_the_joint_softmax_does_not(tmp_path: Path) -> None:
    """On noise: 27.8 % of the frames above the threshold with one head, 0.1 % with five, but 28 to 37 % jointly."""
    done = run("02_minimum_over_heads.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [[float(figure.rstrip("%")) for figure in line.split()] for line in done.stdout.splitlines()[2:]]
    heads, smallest, joint = zip(*rows, strict=True)
    assert heads == (1, 2, 3, 4, 5)
    assert smallest == pytest.approx((27.8, 8.0, 2.4, 0.7, 0.1), abs=1.0)
    assert smallest[0] == joint[0]
    assert all(27.0 < share < 38.0 for share in joint)
