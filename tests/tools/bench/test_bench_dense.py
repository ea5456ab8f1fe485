"""The dense network beside the spiking one: int8 answers as its floats do, and has the model's classes and layers."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ecc_model.errors import DeviceError
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_network
from ecc_model.nets.vgg import SpikingVgg9, VggConfig, to_unit
from ecc_model.program import Program
from ecc_tools.bench.dense import LEVELS, DenseLayer, dense_of_run
from ecc_tools.bench.peers import DENSE as DENSE_PEERS
from ecc_tools.cli import app
from ecc_tools.data.parts import DataSet
from ecc_tools.networks import DENSE_VGG9
from ecc_tools.runs import NetworkConfig, load_run
from ecc_tools.training import Plan
from support.models import write_tiny_models
from support.patterns import SIDE, patterns
from support.runs import train_run

pytest.importorskip("onnxruntime")
pytest.importorskip("ai_edge_litert")

WIDTH = 0.1


DIGITS = ("0", "1", "2", "3")  # the classes of the tiny model
DENSE = NetworkConfig(kind=DENSE_VGG9, width=WIDTH)
PLAN = Plan(epochs=10, learning_rate=8e-3, batch=16)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_run(tmp_path_factory.mktemp("runs") / "dense", data(), DENSE, PLAN)


def data() -> DataSet:
    return dataclasses.replace(patterns(), names=DIGITS)


def config(width: float = WIDTH) -> VggConfig:
    return VggConfig(
        steps=2, channels=1, height=SIDE, width_px=SIDE, width=width, classes=len(DIGITS), split=2, code_channels=4
    )


def spiking(width: float = WIDTH) -> Program:
    return compile_network(SpikingVgg9(config(width), Lif).eval())


@pytest.mark.parametrize("runtime", DENSE_PEERS)
def test_integers_answer_as_the_trained_floats_do(run: Path, runtime: str) -> None:
    frames, labels = (part := patterns().training()[1]).frames, part.labels
    layers = dense_of_run(run, program := spiking(), DIGITS, frames)
    peer, step = DENSE_PEERS[runtime](program, layers), layers[-1].output if runtime == "ann-tflite" else 1.0
    logits = step * np.array([peer(frame).ravel() for frame in frames])
    with torch.inference_mode():
        floats = load_run(run)[0](to_unit(torch.from_numpy(frames))).numpy()
    assert (floats.argmax(1) == labels).mean() > 0.6  # chance is 0.25
    assert (logits.argmax(1) == floats.argmax(1)).mean() >= 0.9
    assert np.abs(logits - floats).max() < 0.2 * np.abs(floats).max()


def test_a_bias_that_drowns_its_channels_weights_is_kept(run: Path, tmp_path: Path) -> None:
    state = torch.load(run / "weights.pt", weights_only=True)
    state["head.0.norm.weight"][0], state["head.0.norm.bias"][0] = 1e-6, 0.7
    shutil.copytree(run, tmp_path / "run")
    torch.save(state, tmp_path / "run" / "weights.pt")
    first = dense_of_run(tmp_path / "run", spiking(), DIGITS, patterns().training()[1].frames)[0]
    assert isinstance(first, DenseLayer)
    assert first.bias[0] * first.scale[0] / LEVELS == pytest.approx(0.7, abs=1e-3)


def test_a_run_that_cannot_stand_beside_the_model_is_refused(run: Path, tmp_path: Path) -> None:
    frames = patterns().training()[1].frames
    with pytest.raises(DeviceError, match=r"dense knows other classes than the model; train it on the same ones$"):
        dense_of_run(run, spiking(), DIGITS[:3], frames)
    with pytest.raises(DeviceError, match=r"dense has layers \(6, 1, 3, 3\) to \(4, 102\), the model \(13, 1, 3, 3\)"):
        dense_of_run(run, spiking(0.2), DIGITS, frames)
    plan = Plan(epochs=1, learning_rate=1e-3, batch=16)
    other = train_run(tmp_path / "spiking", data(), NetworkConfig(kind="vgg9", width=WIDTH, steps=1), plan)
    with pytest.raises(DeviceError, match=r"spiking holds a vgg9; what stands beside an edge is a dense-vgg9$"):
        dense_of_run(other, spiking(), DIGITS, frames)


def test_the_command_tells_both_accuracies(run: Path, tmp_path: Path) -> None:
    model = write_tiny_models(tmp_path, config=config()).edge
    part = patterns().training()[1]
    np.savez(tmp_path / "frames.npz", frames=part.frames, labels=part.labels, names=np.array(DIGITS))
    arguments = [
        "bench",
        "edge",
        "--rounds",
        "5",
        "--frames",
        "4",
        "--against",
        "ann",
        "--against",
        "ann-tflite",
        "--dense",
        str(run),
    ]
    pair = ["--model", str(model), "--data", str(tmp_path / "frames.npz")]
    done = CliRunner().invoke(app, [*arguments, *pair, "--json"], catch_exceptions=False)
    (network,) = json.loads(done.stdout)["networks"]
    assert network["accuracy"]["n"] == len(part.labels)
    assert min(network["accuracy"]["ann"], network["accuracy"]["ann-tflite"]) > 0.6
    assert set(network["candidates"]) == {"event", "ann", "ann-tflite"}
    with pytest.raises(DeviceError, match=r"dense: nothing runs this network; add --against ann,ann-tflite$"):
        CliRunner().invoke(app, ["bench", "edge", "--dense", str(run), *pair], catch_exceptions=False)
    with pytest.raises(DeviceError, match=r"dense: a trained dense network stands beside a trained edge; name that "):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
