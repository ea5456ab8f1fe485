"""What the demo does to its folder, and what it says when there is nothing to report."""

import json
import subprocess
import sys

import pytest

from ecc_tools.compiling import Agreement
from ecc_tools.demo import DemoRefused, _decision, _integers_check, _loss_check, clear


def test_what_another_demo_left_goes(tmp_path):
    (tmp_path / "state" / "models").mkdir(parents=True)
    for name in ("vgg9.pt", "first.npz", "report.json", "cloud.pt.partial"):
        (tmp_path / name).touch()
    clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_is_made(tmp_path):
    clear(tmp_path / "runs" / "demo")
    assert (tmp_path / "runs" / "demo").is_dir()


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path):
    for name in ("broker", "thesis.tex", "vgg9.pt"):
        (tmp_path / name).touch()
    with pytest.raises(DemoRefused) as refused:
        clear(tmp_path)
    assert str(refused.value) == f"{tmp_path}: 'thesis.tex' is not from a demo; give another folder with --out"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(DemoRefused, match=r"out: cannot be emptied \(File exists\); give another folder with --out$"):
        clear(tmp_path / "out")


def said(tmp_path, monkeypatch, decision, code):
    path = tmp_path / "ecc-fake"
    path.write_text(f"#!{sys.executable}\nimport sys\nprint({json.dumps(decision)!r})\nsys.exit({code})\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return _decision(["ecc-fake"])


def test_a_candidate_that_was_turned_down_is_a_result(tmp_path, monkeypatch):
    decision = {"accepted": False, "reason": "known classes lose", "no": 2, "seconds": 3.0, "figures": {"rows": 9}}
    assert said(tmp_path, monkeypatch, decision, 1) == decision


def test_an_update_that_was_not_made_ends_the_demo_with_its_reason(tmp_path, monkeypatch):
    decision = {"accepted": False, "reason": "stopped: undocked", "no": None, "seconds": 3.0, "figures": {}}
    with pytest.raises(DemoRefused, match=r"^the device made no update: stopped: undocked$"):
        said(tmp_path, monkeypatch, decision, 1)


TERMINATED = """
import sys, threading
import ecc_tools.demo
from ecc_tools import cli

def run_demo(*_):
    try:
        print("up", flush=True)
        threading.Event().wait()
    finally:
        print("down", flush=True)

ecc_tools.demo.run_demo = run_demo
sys.argv = ["ecc-tools", "demo-train"]
cli.main()
"""


def test_sigterm_unwinds_the_demo_so_that_its_processes_end(tmp_path):
    with subprocess.Popen([sys.executable, "-c", TERMINATED], stdout=subprocess.PIPE, text=True, cwd=tmp_path) as demo:
        assert demo.stdout.readline() == "up\n"
        demo.terminate()
        assert demo.communicate(timeout=30)[0] == "down\n"
    assert demo.returncode == 130


def test_a_loss_is_too_much_where_the_frames_are_enough_to_tell():
    promise, measured, kept = _loss_check(3.5, 600)
    assert (promise, kept) == ("old classes lose <= 3 points, as far as 600 frames tell", True)
    assert measured == "3.5 points (90 % sure: above 2.5)"
    assert not _loss_check(3.5, 6000)[2]
    assert not _loss_check(6.0, 600)[2]
    assert _loss_check(-1.0, 600)[1:] == ("-1.0 points (90 % sure: above -1.0)", True)


def test_integers_may_lose_what_these_frames_cannot_tell():
    some = Agreement(1200, 0.92, 0.852, 0.846)
    promise, measured, kept = _integers_check(some, 0.9)
    assert promise == "integers lose <= 0.3 points of floats, as far as 1200 frames tell, and answer >= 90% alike"
    assert measured == f"{some} (90 % sure: above -0.4 points)"
    assert kept
    assert not _integers_check(Agreement(120_000, 0.92, 0.852, 0.846), 0.9)[2]
    assert not _integers_check(Agreement(1200, 0.88, 0.852, 0.852), 0.9)[2]
    assert _integers_check(Agreement(1200, 0.88, 0.852, 0.9), 0.0)[::2] == (
        "integers lose <= 0.3 points of floats, as far as 1200 frames tell",
        True,
    )
