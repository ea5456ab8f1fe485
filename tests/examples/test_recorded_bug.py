"""The recorded bug: the user's own test passes, finds the bug when it is back, and the recording is what it says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ecc_device.replay import Replay
from support.imports import ROOT

pytest.importorskip("mcap")

FOLDER = ROOT / "examples/05_recorded_bug"
FIX = "and (not unsure or before == number)"
ALONE = ["-p", "no:cacheprovider", "-q", "-c", "/dev/null"]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The user's folder, somewhere else."""
    return Path(shutil.copytree(FOLDER, tmp_path / "robot", ignore=shutil.ignore_patterns("__pycache__")))


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    """Pytest in the user's folder, with nothing of this repository's settings."""
    command = [sys.executable, "-m", "pytest", *ALONE, "--rootdir", str(folder), str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)


def test_the_users_test_passes(copy: Path) -> None:
    done = run(copy)
    assert done.returncode == 0, done.stdout
    assert "7 passed" in done.stdout


def test_the_users_test_fails_when_the_bug_is_back(copy: Path) -> None:
    text = (copy / "courier.py").read_text()
    assert text.count(FIX) == 1
    (copy / "courier.py").write_text(text.replace(FIX, ""))
    done = run(copy)
    assert done.returncode == 1
    assert "assert 16 == 28" in done.stdout
    assert "2 failed, 5 passed" in done.stdout  # the moment and the decisions are as they were


def test_the_script_makes_the_recording(tmp_path: Path) -> None:
    again = tmp_path / "again.mcap"
    command = [sys.executable, str(FOLDER / "make_recording.py"), "--out", str(again)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert " 16  house 5, read as 9: offline\n" in done.stdout
    with Replay(again, expect=FOLDER / "street.mcap") as replay:
        assert len(list(replay)) == 29


def test_the_recording_is_not_written_over(tmp_path: Path) -> None:
    command = [sys.executable, str(FOLDER / "make_recording.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "street.mcap" in done.stderr
