"""`ecc-tools bench wire`: every coder brings the message back, and the figures are those of the bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ecc_model import bits
from ecc_model.errors import SourceError
from ecc_model.modelfile import read_edge
from ecc_tools.bench import wire as bench
from ecc_tools.cli import app
from support.models import write_tiny_models
from support.rate_tables import KINDS, SHAPE, rate_table, sample

SPIKE_CODERS = ["raw bits", "zstd 1", "zstd 3", "zstd 19", "sparse bitarray", "rates", "message"]
IMAGE_CODERS = ["PNG", "WebP lossless", "WebP 75", "JPEG 75"]


@pytest.mark.parametrize("name", SPIKE_CODERS)
def test_spikes_come_back_from_every_coder(name: str) -> None:
    for kind in KINDS:
        coder = bench.spike_coders(SHAPE, rate_table(kind))[name]
        for spikes in [*sample(rate_table(kind), 1, 3), np.zeros(SHAPE, np.bool_), np.ones(SHAPE, np.bool_)]:
            np.testing.assert_array_equal(coder.decode(coder.encode(spikes)), spikes)


@pytest.mark.parametrize("channels", [1, 3])
def test_lossless_images_come_back(channels: int) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (16, 12, channels), np.uint8)
    for name, coder in bench.image_coders(frame.shape[2]).items():
        back = coder.decode(coder.encode(frame))
        assert back.shape == (16, 12, channels)
        if name in ("PNG", "WebP lossless"):
            np.testing.assert_array_equal(back, frame)


def test_bytes_and_ratios_are_those_of_the_messages() -> None:
    table = rate_table("channel")
    codes = sample(table, 2, 30)
    measured = bench.measure(bench.spike_coders(SHAPE, table), list(codes), "zstd 3")
    assert list(measured) == SPIKE_CODERS
    sent = [len(table.encode(code)) for code in codes]
    assert (measured["rates"]["bytes"], measured["rates"]["bytes_most"]) == (round(np.mean(sent), 2), max(sent))
    assert measured["raw bits"]["bytes"] == bits.packed_size(SHAPE)
    assert measured["message"]["bytes"] == measured["rates"]["bytes"] + 1
    assert measured["zstd 3"]["encode_ratio"] == {"median": 1.0, "p5": 1.0, "p95": 1.0}
    for row in measured.values():
        for figure in ("encode_us", "decode_us", "encode_ratio"):
            assert 0 < row[figure]["p5"] <= row[figure]["median"] <= row[figure]["p95"]


def test_a_model_with_frames(tmp_path: Path) -> None:
    model = read_edge(write_tiny_models(tmp_path).edge)
    frames = np.random.default_rng(3).integers(0, 256, (60, 16, 16, 1), np.uint8)
    measured = bench.bench_wire(model, frames)
    assert (measured["messages"], measured["rates"]["fitted_to"]) == (30, 30)
    assert measured["shape"] == list(model.program.code_shape)
    assert list(measured["images"]) == IMAGE_CODERS
    assert list(measured["one_kilobyte"]) == ["zstd 3", "rates"]
    entropy = measured["entropy_bits"]["mean"]
    assert entropy - 8 < 8 * measured["spikes"]["rates"]["bytes"] < entropy + 8


def test_a_model_with_its_own_rates_is_measured_with_them(tmp_path: Path) -> None:
    model = read_edge(write_tiny_models(tmp_path).edge)
    table = rate_table("channel", model.program.code_shape)
    measured = bench.bench_wire(model, None, table)
    assert (measured["messages"], measured["rates"]["kind"]) == (24, "channel")
    assert measured["rates"]["fitted_to"] == 0
    assert "images" not in measured


def test_too_few_frames_are_refused(tmp_path: Path) -> None:
    model = read_edge(write_tiny_models(tmp_path).edge)
    with pytest.raises(SourceError, match=r"^19 messages are too few to measure; give 20 frames at least$"):
        bench.bench_wire(model, np.zeros((19, 16, 16, 1), np.uint8))


def test_the_command_prints_json_and_a_table(tmp_path: Path) -> None:
    model = write_tiny_models(tmp_path).edge
    frames = np.random.default_rng(3).integers(0, 256, (40, 16, 16, 1), np.uint8)
    data = tmp_path / "frames.npz"
    names = np.array(["0", "1"])
    np.savez(data, frames=frames, labels=np.arange(40) % 2, names=names, times=np.arange(40) / 10)
    result = CliRunner().invoke(app, ["bench", "wire", "--model", str(model), "--data", str(data), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["messages"] == 20
    result = CliRunner().invoke(app, ["bench", "wire", "--model", str(model)])
    assert result.exit_code == 0, result.output
    first, *lines = result.stdout.splitlines()
    assert first.startswith("12 messages of shape (2, 4, 4, 4), ")
    assert [line[:18].strip() for line in lines[1:]] == [*SPIKE_CODERS, "1 KB: zstd 3", "1 KB: rates"]
