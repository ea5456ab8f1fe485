"""What lies in examples/: small enough, open to torch, as right as it is said to be, and good for the demo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ecc_cloud.model import CloudModel
from ecc_model.modelfile import read_edge
from ecc_tools.batched import BatchedProgram, in_chunks
from ecc_tools.compiling import load_validation
from ecc_tools.processes import find
from support.imports import ROOT

MODELS, STREAMS = ROOT / "examples" / "models", ROOT / "examples" / "streams"
EDGE, CLOUD = MODELS / "vgg9.pt", MODELS / "cloud.pt"
NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def test_they_are_small_and_torch_opens_them() -> None:
    files = [*MODELS.glob("*.pt"), *STREAMS.glob("*.npz")]
    assert len(files) == 4
    assert sum(file.stat().st_size for file in files) <= 30_000_000
    for path in (EDGE, CLOUD):
        assert torch.load(path, map_location="cpu", weights_only=True)


def test_the_streams_are_two_disjoint_sets_of_all_ten_classes() -> None:
    seen = []
    for name in ("first.npz", "second.npz"):
        frames, labels, names = load_validation(str(STREAMS / name))
        assert (frames.shape, names) == ((1000, 32, 32, 3), NAMES)
        assert (np.bincount(labels) >= 80).all()
        seen.append({frame.tobytes() for frame in frames})
    assert not seen[0] & seen[1]


@pytest.mark.parametrize(("stream", "edge_right", "cloud_right"), [("first", 526, 844), ("second", 516, 829)])
def test_they_are_as_right_as_is_said(stream: str, edge_right: int, cloud_right: int) -> None:
    """docs/results has the figures of the whole test part; these are of the frames at hand."""
    edge, cloud = read_edge(EDGE), CloudModel(CLOUD)
    frames, labels, names = load_validation(str(STREAMS / f"{stream}.npz"))
    truth = np.array(names)[labels]
    program = BatchedProgram(edge.program)
    outputs = [program.run(chunk) for chunk in in_chunks(frames)]
    answers = np.array(edge.labels)[np.concatenate([one.logits for one in outputs]).argmax(axis=1)]
    assert int((answers == truth).sum()) == edge_right  # integers: the same on every machine
    logits = np.concatenate([cloud.features(list(one.code)) for one in outputs])
    assert abs(int((np.array(cloud.labels)[logits.argmax(axis=1)] == truth).sum()) - cloud_right) <= 2


@pytest.mark.timeout(900)
def test_the_demo_on_them_keeps_its_promises(tmp_path: Path) -> None:
    command = [find("ecc-tools"), "demo", "--out", str(tmp_path / "demo"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [check for check in report["checks"] if not check["kept"]] == []
    assert report["worker"]["received"] == report["device"]["sent"] > 200
    assert report["update"]["figures"]["shadow_frames"] == 100
    assert "<h2>The update</h2>" in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")


def test_the_robots_loop_runs_on_them(tmp_path: Path) -> None:
    loop = [sys.executable, str(ROOT / "examples" / "01_robot_loop.py"), "--state", str(tmp_path), "--frames", "40"]
    driven = subprocess.run(loop, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    assert len(driven) == 41
    assert any("slower" in line for line in driven)


def test_elsewhere_the_demo_says_where_it_runs(tmp_path: Path) -> None:
    done = subprocess.run([find("ecc-tools"), "demo"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "error: examples/models/vgg9.pt: no such file; run in a checkout of ecc-snn, "
        "or give --model, --cloud, --first and --second\n",
    )
