"""Anytime exit: frames that are sure after some of their time steps end there, in the runtime and in replays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecc_device.device import Device, DeviceConfig
from ecc_device.early import fit_early, see, temperature_after
from ecc_device.engines import make_engine
from ecc_device.replay import Replay
from ecc_model import bits
from ecc_model.errors import ModelCorrupt
from ecc_model.modelfile import EarlyInfo, read_edge
from ecc_model.numerics import normalized_entropy, softmax
from support.models import TinyModels, write_tiny_models
from support.workers import World, frames, row_of

SHOWN = frames(30)


def early_models(folder: Path, limit: float, threshold: float = 0.5, temperature: float = 0.5) -> TinyModels:
    folder.mkdir(exist_ok=True)
    info = EarlyInfo(temperatures=[temperature], limit=limit)
    return write_tiny_models(folder, threshold=threshold, learnable=True, early=info)


@pytest.fixture(scope="module")
def entropies(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Of the frames shown, after their first step."""
    model = read_edge(early_models(tmp_path_factory.mktemp("early"), 1.0).edge)
    return [see(make_engine(None, model.program), model, frame, 1.0).answer.entropy for frame in SHOWN]


def test_a_sure_frame_ends_after_its_first_step_and_the_others_take_all(tmp_path: Path, entropies: list[float]) -> None:
    limit = float(np.median(entropies))
    model = read_edge(early_models(tmp_path, limit).edge)
    engine, whole = make_engine(None, model.program), make_engine(None, model.program)
    for frame, entropy in zip(SHOWN, entropies, strict=True):
        seen, split = see(engine, model, frame, limit), whole.head(frame.pixels)
        steps = 1 if entropy <= limit else 2
        np.testing.assert_array_equal(seen.split, split[:steps])
        assert seen.logits == whole.exit(split[:steps]).tolist()
        assert seen.temperature == temperature_after(model, steps) == (0.5 if steps == 1 else 1.0)


def test_a_device_says_how_many_steps_it_took_and_stores_all_of_what_goes_up(
    tmp_path: Path, entropies: list[float]
) -> None:
    limit = float(np.median(entropies))
    models = early_models(tmp_path / "models", limit=1.0, threshold=limit)  # the smaller of the two counts
    device = Device(DeviceConfig(model=models.edge, state=tmp_path / "state")).start(watch=False)
    try:
        results = [device.runtime.classify(frame) for frame in SHOWN]
        assert [result.steps for result in results] == [1 if entropy <= limit else 2 for entropy in entropies]
        assert all(not result.ambiguous for result in results if result.steps == 1)
        rows = [row_of(device, result.row) for result in results if result.row is not None]
        assert rows
        assert {len(row.bits) for row in rows} == {bits.packed_size(models.program.split_shape)}
    finally:
        device.close()


@pytest.mark.parametrize("name", ["margin", "cloud-only", "entropy+novelty"])
def test_other_filters_see_all_steps(tmp_path: Path, name: str) -> None:
    models = early_models(tmp_path / "models", limit=1.0)
    device = Device(DeviceConfig(model=models.edge, state=tmp_path / "state", filter=name)).start(watch=False)
    try:
        assert {device.runtime.classify(frame).steps for frame in SHOWN[:5]} == {2}
    finally:
        device.close()


@pytest.mark.parametrize("content", ["frames", "spikes"])
def test_a_replay_ends_the_same_frames_early(tmp_path: Path, entropies: list[float], content: str) -> None:
    world = World(early_models(tmp_path / "models", float(np.median(entropies))), tmp_path)
    device = world.device(record=tmp_path / "out.mcap", record_as=content)
    steps = [device.runtime.classify(frame).steps for frame in SHOWN[:12]]
    world.close()
    assert set(steps) == {1, 2}
    for engine in ("reference", "numpy", None):
        with Replay(tmp_path / "out.mcap", expect=tmp_path / "out.mcap", engine=engine) as replay:
            assert [result.steps for result in replay] == steps


def logits(*rows: tuple[list[float], list[float]]) -> np.ndarray:
    return np.array(rows, np.float32)


def test_the_limit_is_the_largest_that_keeps_right_answers_right() -> None:
    sure, unsure = [9.0, 0.0], [0.6, 0.0]
    easy = [(sure, sure)] * 60
    shaky = [(unsure, [0.0, 9.0])] * 40  # the second step corrects the first
    found = fit_early(logits(*easy, *shaky), np.array([0] * 60 + [1] * 40))
    assert found is not None
    model_entropy = 0.99  # of the unsure ones, whatever the temperature
    assert 0.0 < found.limit < model_entropy
    assert len(found.temperatures) == 1


def test_a_class_of_few_rows_counts_as_much_as_the_others() -> None:
    sure = ([9.0, 0.0], [9.0, 0.0])
    hasty = ([5.0, 0.0], [0.0, 5.0])  # the first step takes the new class for the old one, and is sure
    rows, labels = logits(*[sure] * 400, hasty), np.array([0] * 400 + [1])
    found = fit_early(rows, labels)
    assert found is not None
    assert found.limit < normalized_entropy(softmax([5.0, 0.0], found.temperatures[0]))


def test_without_a_sure_first_step_there_is_no_limit() -> None:
    assert fit_early(logits(*[([0.1, 0.0], [0.0, 9.0])] * 50), np.ones(50, np.int64)) is None
    assert fit_early(np.zeros((5, 1, 3), np.float32), np.zeros(5, np.int64)) is None  # one step has none before it


@pytest.mark.parametrize(
    ("info", "problem"),
    [
        (
            EarlyInfo(temperatures=[1.0, 1.0], limit=0.5),
            r"temperatures \[1\.0, 1\.0\] for the steps before the last",
        ),
        (EarlyInfo(temperatures=[0.0], limit=0.5), r"temperatures \[0\.0\] for the steps before the last"),
        (EarlyInfo(temperatures=[1.0], limit=1.5), r"frames end early at an entropy of 1\.5"),
    ],
)
def test_a_file_that_says_nonsense_about_it_is_refused(tmp_path: Path, info: EarlyInfo, problem: str) -> None:
    models = write_tiny_models(tmp_path, early=info)
    with pytest.raises(ModelCorrupt, match=problem):
        read_edge(models.edge)
