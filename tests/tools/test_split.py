"""The search for a cut: candidates are trained and measured once, the best one within the limit is chosen."""

import csv
import json
import shutil

import msgspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ecc_broker.codec import encode_spikes
from ecc_device.linkprofiles import LinkProfile
from ecc_model.modelfile import read_edge
from ecc_model.nets.neuron import Lif
from ecc_model.nets.vgg import SpikingVgg9, VggConfig
from ecc_tools.assembling import BottleneckConfig, recut
from ecc_tools.cli import app
from ecc_tools.data import sets
from ecc_tools.frame_by_frame import encode
from ecc_tools.runs import NetworkConfig, RunError
from ecc_tools.splitting import command
from ecc_tools.splitting import search as searching
from ecc_tools.splitting.candidates import DEFAULT, Candidate, parse
from ecc_tools.splitting.report import COLUMNS, write
from ecc_tools.splitting.search import Figures, choose, link_ms, none_within, search
from ecc_tools.training import Plan
from support.patterns import NAMES, patterns
from support.runs import train_run

CONFIG = BottleneckConfig(
    seed=0,
    split=2,
    code_channels=4,
    code_stride=2,
    tail_channels=8,
    plan=Plan(epochs=1, learning_rate=4e-3),
    tune=Plan(epochs=1, learning_rate=1e-3),
    copies=1,
)
TRIED = (Candidate(2, 4, 2), Candidate(3, 4, 1))
LINK = LinkProfile(name="slow", delay_s=0.05, jitter_s=0.01, bytes_per_s=1000.0)


def data():
    return patterns(4400)


def silent(title):
    return lambda share: None


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    plan = Plan(epochs=1, learning_rate=8e-3, batch=64)
    train_run(folder / "edge", data(), NetworkConfig(kind="vgg9", width=0.1, steps=2), plan)
    train_run(folder / "teacher", data(), NetworkConfig(kind="vgg16", width=0.1), plan)
    return folder


@pytest.fixture(scope="module")
def found(runs):
    return search(runs / "edge", runs / "teacher", data(), CONFIG, TRIED, runs / "split", half=False, stage=silent)


def figures(candidate, features, body_bytes, *, head_mj=0.01, device_ms=1.0):
    return Figures(
        candidate=candidate,
        inputs="",
        files=("", ""),
        n=100,
        edge=80.0,
        features=features,
        teacher=90.0,
        raw_bits=256,
        body_bytes=body_bytes,
        entropy_bits=8.0 * body_bytes,
        head_mj=head_mj,
        encoder_mj=0.001,
        device_ms=device_ms,
        reply_bytes=40,
    )


def test_figures_are_those_of_the_files(runs, found):
    _, validation = data().training()
    for candidate, row in zip(TRIED, found, strict=True):
        model = read_edge(runs / "split" / str(candidate) / "vgg9.pt")
        codes = encode(model.program, validation.frames)
        assert row.candidate == str(candidate)
        assert row.n == len(validation.labels) == len(codes)
        assert row.raw_bits == codes[0].size
        assert row.body_bytes == pytest.approx(np.mean([len(encode_spikes(code, model.rates)) for code in codes]))
        assert row.entropy_bits / 8 < row.body_bytes <= row.raw_bits / 8 + 1
        assert row.head_mj > row.encoder_mj > 0
        assert row.reply_bytes == 4 * len(NAMES)
    shallow, deep = found
    assert shallow.head_mj < deep.head_mj


class TrainedAgain(Exception):
    """A candidate is trained: its folder's name."""


def searched(folder, monkeypatch, *, shown=None, config=CONFIG, tried=TRIED, half=False):
    """A search that may not train."""

    def refused(edge, teacher, data, config, out, **_options):
        raise TrainedAgain(out.name)

    monkeypatch.setattr(searching, "assemble", refused)
    shown = data() if shown is None else shown
    return search(folder / "edge", folder / "teacher", shown, config, tried, folder / "split", half=half, stage=silent)


def test_a_search_goes_on_where_it_stopped_in_any_order(runs, found, monkeypatch):
    assert searched(runs, monkeypatch) == found
    assert searched(runs, monkeypatch, tried=TRIED[::-1]) == found[::-1]


def test_figures_of_another_training_are_not_reused(runs, found, monkeypatch):
    for other in (
        {"config": msgspec.structs.replace(CONFIG, tail_channels=16)},
        {"config": msgspec.structs.replace(CONFIG, seed=1)},
        {"half": True},
        {"shown": patterns(4401)},
    ):
        with pytest.raises(TrainedAgain, match="pool2-4x2"):
            searched(runs, monkeypatch, **other)


@pytest.mark.parametrize("name", ["vgg9.pt", "cloud.pt"])
def test_figures_of_files_that_are_not_there_any_more_are_not_reused(runs, found, monkeypatch, tmp_path, name):
    copy = shutil.copytree(runs, tmp_path / "runs")
    (copy / "split" / "pool3-4x1" / name).write_bytes(b"of another search")
    with pytest.raises(TrainedAgain, match="pool3-4x1"):
        searched(copy, monkeypatch)
    (copy / "split" / "pool3-4x1" / name).unlink()
    with pytest.raises(TrainedAgain, match="pool3-4x1"):
        searched(copy, monkeypatch)


def test_the_cut_moves_and_the_network_stays():
    config = VggConfig(steps=2, channels=1, height=16, width_px=16, width=0.1, classes=3, split=2)
    source = SpikingVgg9(config, Lif).eval()
    frames = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for split in (1, 2, 3):
        net = recut(source, msgspec.structs.replace(CONFIG, split=split)).eval()
        assert net.split(frames).shape[-1] == 16 >> split
        assert torch.equal(net(frames), source(frames))


def test_the_best_within_the_limit_is_chosen():
    wide, narrow, tiny = (
        figures("pool1-8x4", 89.0, 30.0, head_mj=0.002, device_ms=0.2),
        figures("pool2-4x2", 87.5, 10.0, device_ms=9.0),
        figures("pool3-2x1", 80.0, 5.0),
    )
    found = [wide, narrow, tiny]
    assert choose(found, 3.0, "bytes", LINK) is narrow
    assert choose(found, 1.0, "bytes", LINK) is wide
    assert choose(found, 3.0, "energy", LINK) is wide
    assert choose(found, 20.0, "bytes", LINK) is tiny
    # 20 bytes fewer save 20 ms on a link of 1,000 bytes a second; the device takes 8.8 ms longer
    assert choose(found, 3.0, "latency", LINK) is narrow
    assert choose(found, 0.5, "bytes", LINK) is None
    said = "every candidate loses more than 0.5 points, pool1-8x4 the least: 1.00; "
    assert str(none_within(found, 0.5)).startswith(said)


def test_link_time_counts_both_ways():
    assert link_ms(LINK, 60, 40) == pytest.approx(2 * 60.0 + 100.0)


def test_candidates_have_names_that_are_read_again():
    assert [parse(str(candidate)) for candidate in DEFAULT] == list(DEFAULT)
    for text in ("pool4-8x2", "pool2-0x2", "pool2-8x5", "pool2", "pool2-8x2 "):
        with pytest.raises(RunError, match=rf"^'{text}' is no candidate; write pool2-8x2 for 8 channels"):
            parse(text)


def test_tables_and_plots_are_written(tmp_path):
    found = [figures("pool2-4x2", 87.5, 10.0), figures("pool3-2x1", 80.0, 5.0)]
    record = write(tmp_path, found, found[0], LINK, "bytes", 3.0)
    assert json.loads((tmp_path / "split.json").read_text()) == record
    assert (record["chosen"], record["by"], record["link"]) == (
        "pool2-4x2",
        "bytes",
        {"name": "slow", "kind": "assumed"},
    )
    rows = list(csv.DictReader((tmp_path / "split.csv").read_text().splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert [float(row["drop"]) for row in rows] == [2.5, 10.0]
    for name in ("bytes.png", "energy.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_table_is_there_where_no_candidate_is_good_enough(runs, found, monkeypatch, capsys):
    monkeypatch.setattr(sets, "open_dataset", lambda *_args: data())
    monkeypatch.setattr(searching, "assemble", lambda *_args, **_kwargs: pytest.fail("trained again"))
    monkeypatch.setattr(command, "bottleneck_config", lambda _values: CONFIG)
    tried = [str(candidate) for candidate in TRIED]
    with pytest.raises(RunError, match="every candidate loses more than -100 points"):
        command.split(runs / "edge", runs / "teacher", "patterns", runs / "split", candidate=tried, max_drop=-100.0)
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()[1:3]] == tried
    assert json.loads((runs / "split" / "split.json").read_text())["chosen"] is None


def test_the_command_refuses_what_is_no_candidate(tmp_path):
    run = CliRunner().invoke(
        app, ["split", "a", "b", "--data", "cifar-10", "--out", str(tmp_path), "--candidate", "pool9-1x1"]
    )
    assert isinstance(run.exception, RunError)
    assert "'pool9-1x1' is no candidate" in str(run.exception)
