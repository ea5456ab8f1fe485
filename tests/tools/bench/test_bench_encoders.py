"""Benches of a model with several encoders: each can be measured by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from ecc_broker.codec import encode_spikes
from ecc_cloud.model import CloudModel
from ecc_device.sources import save_npz
from ecc_model.errors import DeviceError
from ecc_model.modelfile import LeadingInfo, read_edge
from ecc_model.nets.cloud import CodeConfig
from ecc_model.rates import plain_id
from ecc_tools.cli import app
from ecc_tools.frame_by_frame import encode
from support.models import CONFIG, DIGITS, TinyModels, write_tiny_models

FRAMES = np.random.default_rng(0).integers(0, 256, (60, 16, 16, 1), np.uint8)
SECOND = "16-bytes"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    folder = tmp_path_factory.mktemp("encoders")
    config = msgspec.structs.replace(CONFIG, steps=4, code_channels=8)
    info = LeadingInfo(steps=1, margin=0.5, temperature=1.0, more=0.2)
    save_npz(folder / "f.npz", FRAMES, labels=np.arange(60) % 10, names=DIGITS, times=np.arange(60) / 10)
    return write_tiny_models(folder, config=config, rates="channel+step", leading=info, others=[CodeConfig(2, 1)])


def bench(models: TinyModels, name: str, *options: str) -> Any:
    data = ["--data", str(models.edge.parent / "f.npz"), "--json", *options]
    files = ["--model", str(models.edge)] if name == "wire" else [str(models.edge), str(models.cloud)]
    done = CliRunner().invoke(app, ["bench", name, *files, *data], catch_exceptions=False)
    return json.loads(done.stdout)


def test_every_bench_can_be_about_another_encoder_than_the_first(models: TinyModels, tmp_path: Path) -> None:
    model, cloud = read_edge(models.edge), CloudModel(models.cloud)
    assert model.encoders[1] == SECOND
    codes = encode(model.program, FRAMES, 1)
    size = np.mean([len(encode_spikes(code, model.tables[1])) for code in codes])
    decoder = cloud.encoders[plain_id(model.program.features_ids[1])].decoder
    right = np.mean(cloud.features(list(codes), decoder).argmax(1) == np.arange(60) % 10)

    wire = bench(models, "wire", "--encoder", SECOND)
    assert wire["shape"] == list(model.program.code_shapes[1]) != bench(models, "wire")["shape"]
    assert wire["spikes"]["message"]["bytes"] == pytest.approx(size, abs=0.01)
    spikes = bench(models, "images", "--encoder", SECOND, "--out", str(tmp_path))["points"][0]
    assert (spikes["bytes"], spikes["accuracy"]) == (pytest.approx(size), pytest.approx(right))
    whole = bench(models, "steps", "--encoder", SECOND)["whole"]
    assert (whole["body_bytes"], whole["accuracy"]) == (pytest.approx(size), pytest.approx(right))
    rows = bench(models, "channel", "--encoder", SECOND)["rows"]
    assert [row["accuracy"] for row in rows if row["share"] == 0.0] == [pytest.approx(right)] * 6


def test_an_encoder_that_is_none_is_named_with_all_that_are(models: TinyModels) -> None:
    with pytest.raises(DeviceError, match=rf"vgg9\.pt: has no encoder '3-bytes'; choose one of: .*, {SECOND}$"):
        bench(models, "wire", "--encoder", "3-bytes")
