"""From two runs to the pair of model files."""

import json

import msgspec
import numpy as np
import pytest
import torch

from ecc_broker.codec import encode_spikes
from ecc_cloud.model import CloudModel
from ecc_model.errors import CompileError
from ecc_model.modelfile import read_edge
from ecc_model.nets.checkpoint import load_cloud
from ecc_model.nets.neuron import Lif
from ecc_model.rates import plain_id
from ecc_tools import leading_fitting
from ecc_tools.assembling import BottleneckConfig, assemble
from ecc_tools.bottleneck import code_logits
from ecc_tools.data.parts import DataSet
from ecc_tools.frame_by_frame import encode
from ecc_tools.leading_fitting import MOST_LOST, PartBytes, margins, part_bytes
from ecc_tools.runs import NetworkConfig, RunError
from ecc_tools.training import Plan
from support.patterns import NAMES, forbidden, patterns
from support.runs import train_run, write_run

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
    logits = code_logits(cloud, encode(edge.program, choose.frames))
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


def test_a_progressive_pair_answers_leading_steps_as_fitted(runs, monkeypatch):
    """Two requests are never shorter than one with codes this small: the bytes are as if nothing were around them."""

    def bare(*args):
        return PartBytes(*(sizes - around for sizes, around in zip(part_bytes(*args), (18, 19, 15), strict=True)))

    monkeypatch.setattr(leading_fitting, "part_bytes", bare)
    config = msgspec.structs.replace(CONFIG, progressive=True)
    accuracy = assemble(runs / "edge", runs / "teacher", data(), config, runs / "steps", half=True, stage=silent)
    edge, worker = read_edge(runs / "steps" / "vgg9.pt"), CloudModel(runs / "steps" / "cloud.pt")
    leading = worker.encoders[plain_id(edge.program.features_id)].leading
    assert leading is not None
    assert (leading.steps, 100 * leading.more) == (accuracy["leading_steps"], accuracy["more"])
    _, choose = data().training()
    codes = encode(edge.program, choose.frames)
    alone, full = (np.stack([worker.features([code[:steps]])[0] for code in codes]) for steps in (1, 2))
    needs_more = margins(alone / np.float32(leading.temperature)) < leading.margin
    assert needs_more.mean() == pytest.approx(leading.more, abs=0.02)  # sums of other batches round otherwise
    right = np.where(needs_more, full.argmax(1), alone.argmax(1)) == choose.labels
    assert right.mean() >= (full.argmax(1) == choose.labels).mean() - MOST_LOST - 0.003


@pytest.fixture(scope="module")
def several(runs):
    config = msgspec.structs.replace(CONFIG, code_channels=8, others=(4, 2))
    found = assemble(runs / "edge", runs / "teacher", data(), config, runs / "several", half=True, stage=silent)
    return runs / "several", found


def test_several_encoders_are_read_by_one_tail(several, made):
    folder, accuracy = several
    _, alone = made
    edge, worker = read_edge(folder / "vgg9.pt"), CloudModel(folder / "cloud.pt")
    assert edge.encoders == ("8-bytes", "4-bytes", "2-bytes")
    assert edge.program.code_shapes == ((2, 8, 2, 2), (2, 4, 2, 2), (2, 2, 2, 2))
    assert [worker.encoders[plain_id(name)].decoder for name in edge.program.features_ids] == [0, 1, 2]
    assert None not in edge.tables
    _, choose = data().training()
    for decoder, name in enumerate(edge.encoders):
        codes = encode(edge.program, choose.frames, decoder)
        logits = worker.features(list(codes), decoder)
        assert 100 * np.mean(logits.argmax(1) == choose.labels) == pytest.approx(accuracy[f"features, {name}"], abs=0.3)
        sizes = [len(encode_spikes(code, edge.tables[decoder])) for code in codes]
        assert np.mean(sizes) == accuracy[f"bytes, {name}"]
    assert accuracy["features"] == accuracy["features, 8-bytes"]
    assert accuracy["features, 4-bytes"] > alone["features"] - 5, "beside others as well as alone"
    assert accuracy["bytes, 8-bytes"] > accuracy["bytes, 4-bytes"] > accuracy["bytes, 2-bytes"]


def test_codes_that_are_no_shorter_are_told_before_the_training(runs):
    config = msgspec.structs.replace(CONFIG, code_stride=4, code_channels=2, others=(1,))
    with pytest.raises(CompileError, match=r"encoders of \[1, 1\] bytes; they stand in order, each smaller than"):
        assemble(runs / "edge", runs / "teacher", data(), config, runs / "x", half=False, stage=silent)


def test_an_edge_that_is_trained_on_serves_both_sides(runs, made):
    config = msgspec.structs.replace(CONFIG, together=True, early=0.5)
    together = assemble(runs / "edge", runs / "teacher", data(), config, runs / "together", half=True, stage=silent)
    _, alone = made
    assert together["features"] > alone["features"]
    assert together["edge"] > alone["edge"] - 3


def test_early_answers_are_trained_with_the_edge_alone(runs):
    config = msgspec.structs.replace(CONFIG, early=0.5)
    with pytest.raises(RunError, match="early answers are the edge network's, which is trained with --together alone"):
        assemble(runs / "edge", runs / "teacher", data(), config, runs / "x", half=False, stage=silent)


@pytest.fixture(scope="module")
def one(runs):
    """A run whose network has one time step."""
    network, plan = NetworkConfig(kind="vgg9", width=0.1, steps=1), Plan(epochs=1, learning_rate=8e-3)
    train_run(runs / "one", patterns(240), network, plan)


@pytest.mark.usefixtures("one")
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"progressive": True}, "and none can come before the others; leave --progressive out"),
        ({"together": True, "early": 0.5}, "and nothing can be answered before it; leave --early out"),
    ],
)
def test_one_time_step_has_none_before_it(runs, change, text):
    config = msgspec.structs.replace(CONFIG, **change)
    with pytest.raises(RunError, match=f"one has one time step, {text}$"):
        assemble(runs / "one", runs / "teacher", data(), config, runs / "x", half=False, stage=silent)


def test_runs_in_the_wrong_places_are_refused(runs):
    with pytest.raises(RunError, match=r"teacher holds a vgg16; the edge network of a model file is a vgg9$"):
        assemble(runs / "teacher", runs / "teacher", data(), CONFIG, runs / "x", half=False, stage=silent)
    with pytest.raises(RunError, match=r"edge holds a vgg9; the cloud's network is one of: vgg16, "):
        assemble(runs / "edge", runs / "edge", data(), CONFIG, runs / "x", half=False, stage=silent)
    with pytest.raises(RunError, match=r"edge did not learn from these images of patterns; give what it learnt from$"):
        assemble(runs / "edge", runs / "teacher", patterns(4401), CONFIG, runs / "x", half=False, stage=silent)
    small = write_run(runs / "small", "vgg16")
    with pytest.raises(RunError, match=r"edge takes frames of \(16, 16, 1\), .*small of \(8, 8, 1\); give runs on the"):
        assemble(runs / "edge", small, data(), CONFIG, runs / "x", half=False, stage=silent)
    other = DataSet("others", ("across", "along", "both", "spiral"), data().learning, forbidden)
    with pytest.raises(RunError, match=r"teacher knows the class 'neither', which teacher or data lack; give runs"):
        assemble(runs / "edge", runs / "teacher", other, CONFIG, runs / "x", half=False, stage=silent)
