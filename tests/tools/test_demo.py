"""The main promise, whole: every check of the demo is kept, and others can run what it has made."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ecc_tools.processes import find

EXAMPLE = Path(__file__).parents[2] / "examples" / "01_robot_loop.py"


@pytest.mark.timeout(900)
def test_the_demo_on_digits_keeps_its_promises(tmp_path):
    out = tmp_path / "demo"
    command = [find("ecc-tools"), "demo-train", "--out", str(out), "--seed", "0", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [check for check in report["checks"] if not check["kept"]] == []
    assert report["worker"]["received"] == report["device"]["sent"] > 100
    assert (out / "report.html").stat().st_size > 50_000
    assert json.loads((out / "report.json").read_text()) == report

    loop = [sys.executable, str(EXAMPLE), "--model", str(out / "vgg9.pt"), "--source", str(out / "second.npz")]
    loop += ["--state", str(tmp_path / "robot"), "--frames", "40"]
    driven = subprocess.run(loop, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(driven) == 41
    assert any("slower" in line for line in driven)
    assert any("faster" in line for line in driven)

    live = [find("ecc-device"), "start", "--model", str(out / "vgg9.pt"), "--source", str(out / "second.npz")]
    started = subprocess.run([*live, "--state", str(tmp_path / "live")], capture_output=True, text=True, check=False)
    assert (started.returncode, started.stderr.count("working alone")) == (0, 1)
