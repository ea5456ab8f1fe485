"""Bytes against accuracy: every way to send a frame, and where images become as accurate as spikes."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from ecc_broker.codec import encode_spikes
from ecc_cloud.model import CloudModel
from ecc_device.sources import save_npz
from ecc_model.errors import SourceError
from ecc_model.modelfile import read_edge
from ecc_tools.bench.images import QUALITIES, Point, at_least, image_points
from ecc_tools.cli import app
from ecc_tools.frame_by_frame import encode
from support.models import DIGITS, write_tiny_models

COUNT = 12


@pytest.fixture(scope="module")
def sent(tmp_path_factory):
    """Model files and a recording of noise with labels."""
    folder = tmp_path_factory.mktemp("images")
    models = write_tiny_models(folder, rates="channel+step")
    frames = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 1), np.uint8)
    save_npz(folder / "frames.npz", frames, labels=np.arange(COUNT) % 10, names=DIGITS, times=np.arange(COUNT) / 10)
    return models, folder / "frames.npz", frames


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_what_the_cloud_would_see(channels):
    frames = np.random.default_rng(1).integers(0, 256, (3, 16, 16, channels), np.uint8)
    shown = []

    def right(images):
        shown.append(images)
        return float(np.abs(images.astype(int) - frames).mean() < 1)

    points = list(image_points(frames, right))
    assert [(p.sent_as, p.quality) for p in points[:2]] == [("PNG lossless", None), ("WebP lossless", None)]
    assert [p.quality for p in points[2:]] == [*QUALITIES, *QUALITIES]
    assert {p.accuracy for p in points[:2]} == {1.0}
    assert all(images.shape == frames.shape and images.dtype == np.uint8 for images in shown)
    errors = [np.abs(images.astype(int) - frames).mean() for images in shown[1:]]
    assert errors[0] > errors[len(QUALITIES) - 1] > 0  # JPEG: the best quality is nearer than the worst
    assert points[2].bytes < points[1 + len(QUALITIES)].bytes


def test_between_two_qualities_bytes_are_a_mean():
    points = [Point("JPEG", q, b, a) for q, b, a in ((1, 100.0, 0.5), (50, 200.0, 0.7), (95, 400.0, 0.9))]
    assert at_least(points, "JPEG", 0.6) == pytest.approx(150.0)
    assert at_least(points, "JPEG", 0.9) == 400.0
    assert at_least(points, "JPEG", 0.4) == 100.0
    assert at_least(points, "JPEG", 0.91) is None
    assert at_least(points, "WebP", 0.1) is None


def test_the_command_writes_points_and_plot(sent, tmp_path):
    models, recording, frames = sent
    arguments = ["bench", "images", str(models.edge), str(models.cloud), "--data", str(recording)]
    run = CliRunner().invoke(
        app, [*arguments, "--out", str(tmp_path), "--frames", "10", "--json"], catch_exceptions=False
    )
    assert run.exit_code == 0
    found = json.loads((tmp_path / "images.json").read_text())
    assert found["n"] == 10
    assert (tmp_path / "images.png").read_bytes().startswith(b"\x89PNG")
    spikes = found["points"][0]
    model, codes = read_edge(models.edge), encode(models.program, frames[:10])
    assert spikes["bytes"] == np.mean([len(encode_spikes(code, model.rates)) for code in codes])
    answers = CloudModel(models.cloud).features(list(codes)).argmax(1)
    assert spikes["accuracy"] == np.mean(answers == np.arange(10))


def test_frames_with_steps_are_refused(sent, tmp_path):
    models, _, _ = sent
    steps = np.zeros((4, 2, 16, 16, 1), np.uint8)
    save_npz(tmp_path / "steps.npz", steps, labels=np.arange(4), names=DIGITS, times=np.arange(4) / 10)
    arguments = ["bench", "images", str(models.edge), str(models.cloud), "--data", str(tmp_path / "steps.npz")]
    run = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)])
    assert isinstance(run.exception, SourceError)
    assert "still frames" in str(run.exception)
