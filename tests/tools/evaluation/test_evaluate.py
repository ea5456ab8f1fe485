"""Models of edge and cloud and runs of a training, judged on frames; tiny, but real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ecc_device.calibration import fit_temperature, fit_threshold
from ecc_device.engines import NumpyEngine
from ecc_model.errors import FrameError, ModelCorrupt, ModelNotFound
from ecc_model.modelfile import read_edge
from ecc_model.nets.checkpoint import load_cloud, load_edge, save_cloud
from ecc_model.nets.cloud import CloudConfig, CloudNet
from ecc_model.nets.neuron import Lif
from ecc_model.nets.vgg import to_unit
from ecc_model.numerics import normalized_entropy, softmax
from ecc_tools.data.parts import DataSet, Part
from ecc_tools.evaluation.evaluate import Evaluation, evaluate
from ecc_tools.evaluation.statistics import mcnemar, wilson
from ecc_tools.evaluation.subjects import EvaluationError, open_subject
from ecc_tools.fitting import fit
from ecc_tools.runs import DataConfig, LossConfig, NetworkConfig, RunConfig, RunError, load_run
from ecc_tools.training import Plan
from support.models import DIGITS, TinyModels, write_tiny_models
from support.patterns import forbidden, pattern_part, patterns

FRAMES = 150


def noise(count: int = FRAMES, *, classes: int = 10, side: int = 16, channels: int = 1, seed: int = 0) -> Part:
    """Frames of random brightness with labels in turn."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (count, side, side, channels)) * rng.random((count, 1, 1, 1))
    return Part(frames.astype(np.uint8), np.arange(count, dtype=np.int64) % classes)


def digits(part: Part | None = None, names: tuple[str, ...] = DIGITS) -> DataSet:
    """Noise as the test part of the digits; nobody may read the rest."""
    return DataSet("noise", names, forbidden, lambda: noise() if part is None else part)


def judge(
    path: Path, data: DataSet, part: str = "test", *, as_float: bool = False, against: Path | None = None
) -> Evaluation:
    other = None if against is None else open_subject(against)
    return evaluate(open_subject(path, as_float=as_float), data, part, lambda share: None, against=other)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return write_tiny_models(tmp_path_factory.mktemp("models"), threshold=0.6)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "edge"
    config = RunConfig(
        seed=0,
        data=DataConfig(name="patterns"),
        network=NetworkConfig(kind="vgg9", width=0.1, steps=2),
        plan=Plan(epochs=4, learning_rate=8e-3, batch=16),
        loss=LossConfig(),
    )
    fit(config, patterns(), folder, progress=lambda share: None, report=lambda line: None)
    return folder


def test_an_edge_model_is_judged_on_its_own_classes_as_the_device_runs_it(models: TinyModels) -> None:
    model, known = read_edge(models.edge), noise().of(range(6))
    engine = NumpyEngine(model.program)
    logits = np.array([engine.exit(engine.head(frame)) for frame in known.frames])
    hits = int((logits.argmax(axis=1) == known.labels).sum())
    found = judge(models.edge, digits())
    assert (found.what, found.labels, found.n) == ("integer program", DIGITS[:6], 90)
    assert (found.accuracy, found.interval) == (hits / 90, wilson(hits, 90))
    assert (found.model_sha256, found.data_sha256) == (model.sha256, known.sha256)
    probabilities = [softmax(row, model.temperature) for row in logits.tolist()]
    calibration = found.calibration
    assert (calibration.fitted_on, calibration.temperature, calibration.threshold) == ("model", 1.0, 0.6)
    assert calibration.above_threshold == sum(normalized_entropy(row) > 0.6 for row in probabilities) / 90
    assert sum(cell.n for cell in calibration.bins) == 90
    assert 0 < found.operations.mean_firing < 1
    assert [layer.place for layer in found.operations.layers][:2] == ["head.0", "head.1"]
    assert "encoder.0" not in [layer.place for layer in found.operations.layers]


def test_confusion_and_classes_add_up(models: TinyModels) -> None:
    found = judge(models.edge, digits())
    counts = np.array(found.confusion)
    assert counts.sum(axis=1).tolist() == [15] * 6 == [score.n for score in found.per_class]
    assert counts.trace() == round(found.accuracy * 90)
    for index, score in enumerate(found.per_class):
        assert score.accuracy == counts[index, index] / 15
        others = counts[index] * (np.arange(6) != index)
        assert score.mistaken_for == (found.labels[others.argmax()] if others.any() else None)


def test_classes_are_matched_by_name(models: TinyModels) -> None:
    part, order = noise(), [3, 9, 0, 5, 1, 8, 2, 7, 4, 6]
    turned = Part(part.frames, np.array([order.index(label) for label in part.labels]))
    names = tuple(DIGITS[label] for label in order)
    ours, theirs = judge(models.edge, digits(part)), judge(models.edge, digits(turned, names))
    assert (theirs.confusion, theirs.data_sha256) == (ours.confusion, ours.data_sha256)


def test_a_class_without_frames_has_no_accuracy(models: TinyModels) -> None:
    found = judge(models.edge, digits(noise(classes=5)))
    last = found.per_class[5]
    assert (last.n, last.accuracy, last.interval, last.mistaken_for) == (0, None, (0.0, 1.0), None)


def test_float_judges_the_torch_network(models: TinyModels) -> None:
    known = noise().of(range(6))
    with torch.inference_mode():
        answers = load_edge(models.edge, Lif)(to_unit(torch.from_numpy(known.frames))).argmax(1).numpy()
    found = judge(models.edge, digits(), as_float=True)
    assert found.what == "float network"
    assert found.accuracy == (answers == known.labels).mean()
    assert found.calibration.threshold == 0.6


def test_of_a_cloud_model_the_network_for_frames_is_judged(models: TinyModels) -> None:
    part = noise()
    with torch.inference_mode():
        answers = load_cloud(models.cloud, Lif)[0].frames(to_unit(torch.from_numpy(part.frames))).argmax(1).numpy()
    found = judge(models.cloud, digits())
    assert (found.what, found.n) == ("cloud's network for frames", FRAMES)
    assert found.accuracy == (answers == part.labels).mean()
    assert (found.calibration.threshold, found.calibration.above_threshold) == (None, None)
    assert (found.operations.mean_firing, found.operations.effective_acs) == (None, 0)
    assert found.operations.effective_macs > 0


def test_frames_of_another_size_are_fitted_as_on_the_device(models: TinyModels) -> None:
    large = noise(60, side=24, channels=3)
    engine = NumpyEngine(models.program)
    known = large.of(range(6))
    answers = [engine.exit(engine.head(frame)).argmax() for frame in known.frames]
    assert judge(models.edge, digits(large)).accuracy == (np.array(answers) == known.labels).mean()


def test_a_run_is_judged_after_a_temperature_fitted_on_validation_frames(run: Path) -> None:
    clear = pattern_part(80, seed=9)
    dim = Part(clear.frames // 2, clear.labels)
    data = DataSet("patterns", patterns().names, patterns().learning, lambda: dim)
    net, record = load_run(run)
    held_out = data.training()[1]
    with torch.inference_mode():
        fitting, shown = (net(to_unit(torch.from_numpy(part.frames))) for part in (held_out, dim))
    temperature = fit_temperature(fitting.tolist(), held_out.labels.tolist())
    threshold = fit_threshold([normalized_entropy(softmax(row, temperature)) for row in fitting.tolist()])
    found = judge(run, data)
    assert temperature != fit_temperature(shown.tolist(), dim.labels.tolist())
    assert found.what == "float network (vgg9)"
    assert found.labels == record.provenance.labels
    assert found.accuracy == (shown.argmax(1).numpy() == dim.labels).mean()
    assert (found.n, found.part, found.data_sha256) == (80, "test", dim.sha256)
    calibration = found.calibration
    assert (calibration.fitted_on, calibration.temperature) == ("validation", temperature)
    assert calibration.threshold == pytest.approx(threshold, abs=1e-6)
    assert found.operations.mean_firing > 0


def test_the_validation_part_is_judged_without_a_look_at_the_test_part(run: Path) -> None:
    found = judge(run, patterns(), "validation")
    assert (found.part, found.n) == ("validation", 24)
    assert found.data_sha256 == patterns().training()[1].sha256


def test_two_models_are_compared_on_the_classes_that_both_know(models: TinyModels) -> None:
    found = judge(models.cloud, digits(), against=models.edge)
    alone, other = judge(models.cloud, digits(noise().of(range(6)))), judge(models.edge, digits())
    against = found.against
    assert found.n == FRAMES
    assert (against.model, against.what, against.labels) == (str(models.edge), "integer program", DIGITS[:6])
    assert (against.accuracy, against.other_accuracy) == (alone.accuracy, other.accuracy)
    pair = against.paired
    assert (pair.n, pair.both + pair.only_first) == (90, round(90 * alone.accuracy))
    assert pair.both + pair.only_second == round(90 * other.accuracy)
    assert pair.p_value == mcnemar(pair.only_first, pair.only_second)
    assert judge(models.edge, digits(), against=models.edge).against.paired.difference_points == 0.0


def test_labels_that_stand_in_another_order_are_compared_by_name(models: TinyModels, tmp_path: Path) -> None:
    net, manifest = load_cloud(models.cloud, Lif)
    order = [9, 3, 0, 5, 1, 8, 2, 7, 4, 6]
    last = net.teacher[-1]
    with torch.no_grad():
        last.weight.copy_(last.weight[order].clone())
        last.bias.copy_(last.bias[order].clone())
    turned = tmp_path / "turned.pt"
    save_cloud(
        turned,
        net,
        labels=[DIGITS[label] for label in order],
        temperature=1.0,
        encoders=manifest.encoders,
        frame=manifest.frame,
        provenance={},
    )
    pair = judge(models.cloud, digits(), against=turned).against.paired
    assert (pair.n, pair.only_first, pair.only_second) == (FRAMES, 0, 0)


def refused(kind: type[Exception], *arguments, **options) -> str:
    with pytest.raises(kind) as caught:
        judge(*arguments, **options)
    return str(caught.value)


def test_models_that_cannot_be_judged_say_why(models: TinyModels, tmp_path: Path) -> None:
    missing = tmp_path / "missing.pt"
    assert refused(ModelNotFound, missing, digits()).startswith(f"{missing}: no such model file; ")
    assert refused(RunError, tmp_path, digits()) == (
        f"{tmp_path} is no run folder: it has no config.toml; give the --out of a training"
    )
    damaged = tmp_path / "damaged.pt"
    damaged.write_bytes(models.edge.read_bytes()[:1000])
    assert refused(ModelCorrupt, damaged, digits()).startswith(f"{damaged}: not a usable model file (")


def test_a_cloud_model_without_a_network_for_frames_is_refused(models: TinyModels, tmp_path: Path) -> None:
    net, manifest = load_cloud(models.cloud, Lif)
    fields = {name: getattr(net.config, name) for name in net.config.__struct_fields__}
    lean = CloudNet(CloudConfig(**fields | {"teacher": None}), Lif)
    path = tmp_path / "lean.pt"
    save_cloud(
        path,
        lean,
        labels=DIGITS,
        temperature=1.0,
        encoders=manifest.encoders,
        frame=manifest.frame,
        provenance={},
    )
    assert refused(EvaluationError, path, digits()) == (
        f"{path}: a cloud model without a network for frames; evaluate the run that it was made from"
    )


def test_data_that_do_not_fit_the_model_say_why(models: TinyModels, run: Path) -> None:
    others = DataSet("patterns", patterns().names, forbidden, forbidden)
    assert refused(EvaluationError, models.edge, others) == (
        f"{models.edge} knows the class '0', which patterns lacks; give the data it was trained for"
    )
    unseen = digits(noise().of([7, 8]), names=(*DIGITS[7:9], *DIGITS[:7]))
    unseen = DataSet(
        "noise", (*DIGITS[7:9], *DIGITS[:7]), forbidden, lambda: Part(noise().frames[:4], np.array([0, 1, 0, 1]))
    )
    assert refused(EvaluationError, models.edge, unseen) == (
        "the test part of noise has no frame of the model's classes; give other data"
    )
    assert refused(EvaluationError, models.edge, digits(), against=run) == (
        f"{models.edge} and {run} know no class in common that is shown; give two models of one task"
    )
    assert refused(FrameError, models.edge, digits(noise(channels=2))) == (
        "this network takes 1 channels, the frame has 2"
    )
