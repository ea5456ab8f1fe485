"""Leading time steps first against all at once, as a command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from ecc_broker.codec import encode_spikes
from ecc_device.sources import save_npz
from ecc_model.errors import SourceError
from ecc_model.modelfile import LeadingInfo, read_edge
from ecc_tools.cli import app
from ecc_tools.frame_by_frame import encode
from support.models import CONFIG, DIGITS, write_tiny_models

FRAMES = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 1), np.uint8)


def run(folder: Path, leading: LeadingInfo | None, *arguments: str) -> Any:
    config = msgspec.structs.replace(CONFIG, steps=4, code_channels=8)
    models = write_tiny_models(folder, config=config, rates="channel+step", leading=leading)
    save_npz(folder / "f.npz", FRAMES, labels=np.arange(40) % 10, names=DIGITS, times=np.arange(40) / 10)
    arguments = ("bench", "steps", str(models.edge), str(models.cloud), "--data", str(folder / "f.npz"), *arguments)
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


@pytest.mark.parametrize(("margin", "needed"), [(0.0, 0.0), (1.0, 1.0)])
def test_bytes_and_answers_of_both_ways(tmp_path: Path, margin: float, needed: float) -> None:
    info = LeadingInfo(steps=1, margin=margin, temperature=1.0, more=0.2)
    found = run(tmp_path, info, "--json")
    model = read_edge(tmp_path / "vgg9.pt")
    codes = encode(model.program, FRAMES)
    whole = np.mean([len(encode_spikes(code, model.rates)) for code in codes])
    first = np.mean([len(encode_spikes(code[:1], model.rates)) for code in codes])
    rest = np.mean([len(encode_spikes(code, model.rates, known=1)) for code in codes])
    assert found["whole"]["body_bytes"] == pytest.approx(whole)
    assert found["whole"]["request_bytes"] == pytest.approx(whole + 15, abs=1)
    assert found["progressive"]["body_bytes"] == pytest.approx(first + needed * rest)
    assert (found["needed_the_rest"], found["began_with_leading"]) == (needed, 1.0)
    assert found["saved"]["body_bytes"] == pytest.approx(1 - (first + needed * rest) / whole)
    if needed:
        assert found["lost_points"] == 0.0
    assert found["leading"] == {"steps": 1, "margin": margin, "more_on_validation": 0.2}
    assert (found["n"], found["steps"], found["part"]) == (40, 4, "")


def test_the_table_for_people(tmp_path: Path) -> None:
    text = run(tmp_path, LeadingInfo(steps=1, margin=0.5, temperature=1.0, more=0.2))
    assert "1 of 4 time steps first" in text
    assert "20.0% of the validation images" in text


def test_a_worker_without_leading_steps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="it answers whole messages only; make one with: assemble --progressive"):
        run(tmp_path, None)
