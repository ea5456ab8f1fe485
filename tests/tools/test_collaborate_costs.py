"""Costs by part: sums that say what they add, savings against the cloud alone, the command."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ecc_device.sources import save_npz
from ecc_tools.cli import app
from ecc_tools.collaborate.costs import COLUMNS, Timing, stream_rows
from ecc_tools.collaborate.observe import CloudSide, EdgeSide, Observed
from support.models import DIGITS, write_tiny_models

TIMINGS = {
    "edge": Timing(2.0, 1.0, 9.0, 100),
    "encoder": Timing(0.5, 0.1, 9.0, 100),
    "cloud features": Timing(1.0, 0.1, 9.0, 100),
    "cloud frames": Timing(4.0, 0.1, 9.0, 100),
}


def side(bytes_up, link_mj, mj):
    """The cloud on four frames of equal size."""
    return CloudSide([], [], np.full(4, bytes_up), 40, upload_mj=0.2, link_mj=np.full(4, link_mj), mj=mj)


def observed(cloud):
    scores, thresholds = {"entropy": np.array([[0.9, 0.1, 0.8, 0.2]])}, {"entropy": [0.5]}
    edge = EdgeSide([], np.zeros(0, bool), scores, thresholds, mj=1.0, encoder_mj=0.2)
    return Observed(edge, cloud, *(np.array(right, bool) for right in ([0, 1, 0, 1], [1, 1, 1, 0], [1, 1, 1, 1])))


def rows():
    return stream_rows("s", observed(side(210.0, 3.0, 8.0)), observed(side(2460.0, 6.0, 20.0)), TIMINGS)


def test_edge_and_cloud_by_hand():
    row = rows()[1]
    assert (row.system, row.frames, row.upload_rate, row.accuracy) == ("edge and cloud", 4, 0.5, 1.0)
    assert (row.edge_mj_modelled, row.link_mj_assumed, row.cloud_mj_modelled) == (1.1, 1.5, 4.0)
    assert row.sum_mj_modelled_and_assumed == pytest.approx(6.6)
    assert (row.cloud_mj_paper, row.sum_mj_with_cloud_of_paper) == (7583.5, pytest.approx(7586.1))
    assert row.link_ms_assumed == pytest.approx(0.5 * (10 + 0.1))  # 250 bytes at 20 Mbit/s
    assert (row.edge_ms_measured, row.cloud_ms_measured, row.cloud_ms_paper) == (2.25, 0.5, 2.15)
    assert row.sum_ms_measured_and_assumed == pytest.approx(2.25 + 5.05 + 0.5)
    assert row.sum_ms_with_cloud_of_paper == pytest.approx(2.25 + 5.05 + 2.15)


def test_the_edge_alone_sends_nothing_and_the_cloud_alone_everything():
    edge, _, cloud = rows()
    assert (edge.system, edge.upload_rate, edge.accuracy) == ("edge alone", 0.0, 0.5)
    assert (edge.sum_mj_modelled_and_assumed, edge.sum_ms_measured_and_assumed) == (1.0, 2.0)
    assert (cloud.system, cloud.upload_rate, cloud.accuracy) == ("cloud alone", 1.0, 0.75)
    assert (cloud.edge_mj_modelled, cloud.edge_ms_measured) == (0.0, 0.0)
    assert (cloud.sum_mj_modelled_and_assumed, cloud.cloud_mj_paper) == (26.0, 15167.0)
    assert cloud.sum_ms_measured_and_assumed == pytest.approx(10 + 1 + 4)


def test_savings_are_against_the_cloud_alone_in_sums_of_the_same_kind():
    edge, both, cloud = rows()
    assert both.saving_mj == pytest.approx(1 - 6.6 / 26)
    assert both.saving_mj_with_cloud_of_paper == pytest.approx(1 - 7586.1 / 15173)
    assert both.saving_ms == pytest.approx(1 - 7.8 / 15)
    assert both.saving_ms_with_cloud_of_paper == pytest.approx(1 - 9.45 / 15.3)
    assert edge.saving_mj == pytest.approx(1 - 1 / 26)
    assert cloud.saving_mj is cloud.saving_ms is None


def test_without_a_teacher_there_is_no_cloud_alone():
    two = stream_rows("s", observed(side(210.0, 3.0, 8.0)), None, TIMINGS)
    assert [(row.system, row.saving_mj) for row in two] == [("edge alone", None), ("edge and cloud", None)]


def test_every_cost_says_whether_it_was_measured_modelled_or_assumed():
    kinds = ("_measured", "_modelled", "_assumed", "_paper")
    costs = [name for name in COLUMNS if ("_mj" in name or "_ms" in name) and not name.startswith("saving")]
    assert len(costs) == 12
    assert all(name.endswith(kinds) for name in costs)


# ---- the command ----


def run(*arguments):
    return CliRunner().invoke(app, ["costs", *map(str, arguments)])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_tiny_models(Path(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    folder = Path(tmp_path_factory.mktemp("streams"))
    for seed, name in enumerate(("first.npz", "second.npz")):
        frames = np.random.default_rng(seed).integers(0, 256, (12, 16, 16, 1), np.uint8)
        save_npz(folder / name, frames, labels=np.arange(12) % 10, names=DIGITS)
    return [folder / "first.npz", folder / "second.npz"]


def test_each_stream_may_have_an_edge_of_its_own(models, streams, tmp_path):
    learnt = write_tiny_models(tmp_path / "learnt", threshold=0.0)
    edges = ["--edge", models.edge, "--edge", learnt.edge]
    data = ["--data", streams[0], "--data", streams[1]]
    done = run(models.cloud, *edges, *data, "--out", tmp_path / "costs", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "costs" / "costs.json").read_text())
    assert [(row["stream"], row["system"]) for row in found["rows"]] == [
        (stream, system)
        for stream in ("1 first.npz", "2 second.npz")
        for system in ("edge alone", "edge and cloud", "cloud alone")
    ]
    assert found["rows"][4]["upload_rate"] == 1.0  # threshold 0: everything goes up
    assert found["rows"][1]["upload_rate"] < 1.0
    steps = found["streams"][0]["measured_ms"]
    assert set(steps) == {"edge", "encoder", "cloud features", "cloud frames"}
    assert all(0 < step["p5"] <= step["median"] <= step["p95"] and step["n"] == 7 for step in steps.values())
    assert (found["paper"]["saving_mj"], found["paper"]["saving_ms"]) == (0.794, 0.391)
    with (tmp_path / "costs" / "costs.csv").open(newline="") as lines:
        table = list(csv.reader(lines))
    assert tuple(table[0]) == COLUMNS
    assert len(table) == 7
    assert sorted(path.name for path in (tmp_path / "costs").iterdir()) == ["costs.csv", "costs.json", "costs.png"]


def test_the_table_names_the_papers_power(models, streams, tmp_path):
    done = run(models.cloud, "--edge", models.edge, "--data", streams[0], "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "which is 3,527 W; its ViT-B/16 at 4.6 pJ per MAC: 81 mJ. It reports 79.4% energy" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()[:-2]) <= 80


def test_as_many_edges_as_streams_or_one(models, streams):
    data = [option for stream in (*streams, streams[0]) for option in ("--data", stream)]
    done = run(models.cloud, "--edge", models.edge, "--edge", models.edge, *data)
    assert done.exit_code == 2
    assert "2 edge models for 3 streams; give one, or one for each" in done.output
