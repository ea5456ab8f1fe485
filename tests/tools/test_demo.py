"""The main promise, whole: every check of the demo is kept."""

import json
import subprocess

import pytest

from ecc_tools.processes import find


@pytest.mark.timeout(900)
def test_the_demo_keeps_its_promises(tmp_path):
    command = [find("ecc-tools"), "demo", "--out", str(tmp_path / "demo"), "--seed", "0", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [check for check in report["checks"] if not check["kept"]] == []
    assert report["worker"]["received"] == report["device"]["sent"] > 100
    assert (tmp_path / "demo" / "report.html").stat().st_size > 50_000
    assert json.loads((tmp_path / "demo" / "report.json").read_text()) == report
