"""What is told about an update from a cloud that is sometimes wrong."""

import numpy as np
import pytest

from ecc_device.engines import NumpyEngine
from ecc_device.sources import save_npz
from ecc_model.modelfile import read_edge
from ecc_tools.bench.flips import bench_flips
from support.models import DIGITS, noise, write_tiny_models


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return read_edge(write_tiny_models(tmp_path_factory.mktemp("models"), learnable=True, threshold=0.0).edge)


@pytest.fixture(scope="module")
def stream(model, tmp_path_factory):
    """Frames of noise: 30 of the class that the edge takes them for, 10 of a class that it does not know."""
    frames, engine = noise(model.program), NumpyEngine(model.program)
    labels = [int(engine.exit(engine.head(frame)).argmax()) for frame in frames[:30]] + [7] * 10
    path = tmp_path_factory.mktemp("streams") / "stream.npz"
    save_npz(path, frames, np.array(labels), DIGITS)
    return path


def test_every_rate_is_compared_with_the_same_model_before(model, stream):
    shares = []
    found = bench_flips(model, stream, stream, [0.0, 1.0], "analytic", 0, shares.append)
    assert found["before"] == {"accuracy": 0.75, "known_accuracy": 1.0}
    assert (found["learner"], found["rows"], [row["rate"] for row in found["rates"]]) == ("analytic", 40, [0.0, 1.0])
    assert shares == [0.5, 1.0]
    right, wrong = found["rates"]
    assert right["accuracy"] > wrong["accuracy"]
    for row in found["rates"]:
        assert row["known_loss_points"] == pytest.approx(100 * (1.0 - row["known_accuracy"]))
    assert not wrong["accepted"]


def test_an_update_that_is_not_made_changes_nothing(stream, tmp_path):
    bare = read_edge(write_tiny_models(tmp_path, learnable=True, threshold=0.0, statistics=False).edge)
    [row] = bench_flips(bare, stream, stream, [0.0], "analytic", 0, lambda share: None)["rates"]
    assert (row["accepted"], row["known_loss_points"]) == (False, 0.0)
    assert row["reason"].endswith("learn with: --learner lwf")
