"""From two runs to the pair of model files."""

import json

import numpy as np
import pytest
import torch

from ecc_model.modelfile import read_edge
from ecc_model.nets.checkpoint import load_cloud
from ecc_model.nets.neuron import Lif
from ecc_tools.assembling import BottleneckConfig, assemble
from ecc_tools.bottleneck import features_logits
from ecc_tools.data.parts import DataSet
from ecc_tools.runs import NetworkConfig, RunError
from ecc_tools.training import Plan
from support.patterns import NAMES, forbidden, patterns
from support.runs import train_run

CONFIG = BottleneckConfig(
    seed=0,
    split=2,
    code_channels=4,
    code_stride=2,
    tail_channels=8,
    plan=Plan(epochs=4, learning_rate=4e-3),
    tune=Plan(epochs=2, learning_rate=1e-3),
    copies=2,
)


def data() -> DataSet:
    """Enough images that the held-out tenth of each class can judge updates."""
    return patterns(4400)


def silent(title):
    return lambda share: None


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    plan = Plan(epochs=2, learning_rate=8e-3, batch=64)

    train_run(folder / "edge", data(), NetworkConfig(kind="vgg9", width=0.1, steps=2), plan, "B3-Inc1")
    train_run(folder / "teacher", data(), NetworkConfig(kind="vgg16", width=0.1), plan)
    return folder


@pytest.fixture(scope="module")
def made(runs):
    accuracy = assemble(runs / "edge", runs / "teacher", data(), CONFIG, runs / "models", half=True, stage=silent)
    return runs / "models", accuracy


def test_device_and_worker_files_fit_each_other(made):
    folder, accuracy = made
    edge = read_edge(folder / "vgg9.pt")
    cloud, manifest = load_cloud(folder / "cloud.pt", Lif)
    assert edge.labels == NAMES[:3]
    assert tuple(manifest.labels) == NAMES
    assert [encoder.features_id for encoder in manifest.encoders] == [edge.program.features_id]
    assert edge.program.code_shape == (2, 4, 2, 2)
    assert min(accuracy.values()) > 60  # chance is 33, 25 and 25
    _, choose = data().training()
    logits = features_logits(edge.program, cloud, choose.frames)
    assert 100 * np.mean(logits.argmax(1) == choose.labels) == pytest.approx(accuracy["features"], abs=1e-9)


def test_the_files_say_where_they_come_from(made):
    folder, _ = made
    said = read_edge(folder / "vgg9.pt").manifest.provenance
    assert json.loads(said["edge"])["network"] == {"kind": "vgg9", "width": 0.1, "steps": 2}
    assert json.loads(said["bottleneck"])["code_channels"] == 4
    assert len(said["data_sha256"]) == len(said["teacher_weights_sha256"]) == 64
    assert said["code"].startswith("ecc-snn ")


def test_torch_opens_both_files_with_weights_only(made):
    folder, _ = made
    for name in ("vgg9.pt", "cloud.pt"):
        state = torch.load(folder / name, weights_only=True)
        assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_runs_in_the_wrong_places_are_refused(runs):
    with pytest.raises(RunError, match=r"teacher holds a vgg16; the edge network of a model file is a vgg9$"):
        assemble(runs / "teacher", runs / "teacher", data(), CONFIG, runs / "x", half=False, stage=silent)
    other = DataSet("others", ("across", "along", "both", "spiral"), data().learning, forbidden)
    with pytest.raises(RunError, match=r"teacher knows the class 'neither', which teacher or data lack; give runs"):
        assemble(runs / "edge", runs / "teacher", other, CONFIG, runs / "x", half=False, stage=silent)
