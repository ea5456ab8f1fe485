"""Ending frames early, measured: its shares add up, and a model that knows nothing of it is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from ecc_device.sources import save_npz
from ecc_model.errors import ModelError
from ecc_model.modelfile import EarlyInfo
from ecc_tools.cli import app
from support.models import write_tiny_models


@pytest.fixture
def stream(tmp_path):
    path = tmp_path / "stream.npz"
    frames = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 1), np.uint8)
    save_npz(path, frames, np.arange(40) % 6, "012345")
    return path


def test_every_frame_may_end_after_its_first_step(tmp_path, stream):
    info = EarlyInfo(temperatures=[1.0], limit=1.0)
    models = write_tiny_models(tmp_path, threshold=1.0, early=info)
    done = CliRunner().invoke(app, ["bench", "early", str(models.edge), "--data", str(stream), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert (found["n"], found["ended_early"], found["steps"], found["fewer_steps"]) == (40, 1.0, 1.0, 0.5)
    assert found["time"]["p5"] > 0
    text = CliRunner().invoke(app, ["bench", "early", str(models.edge), "--data", str(stream)]).output
    assert "100.0% of 40 frames" in text
    assert "1.000 of 2 (50.0% fewer)" in text


def test_a_model_without_a_limit_is_refused(tmp_path, stream):
    models = write_tiny_models(tmp_path)
    done = CliRunner().invoke(app, ["bench", "early", str(models.edge), "--data", str(stream)])
    assert isinstance(done.exception, ModelError)
    assert str(done.exception).endswith("says nothing of ending frames early; assemble or compile it again")
