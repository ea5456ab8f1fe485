"""`ecc-tools energy`: what it prints and writes, what each name rests on, measuring with and without a meter."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ecc_device.engines import make_engine
from ecc_device.sources import save_npz
from ecc_model.errors import EccError
from ecc_model.modelfile import read_edge
from ecc_tools.cli import app
from ecc_tools.ledger import meters
from ecc_tools.ledger.measuring import measure_edge
from ecc_tools.ledger.meters import Measured
from support.datasets import write_classes
from support.models import DIGITS, write_tiny_models
from support.runs import LABELS, write_run

TINY = ["energy", "--network", "spiking-resnet18", "--width", "0.03", "--side", "8", "--steps", "2", "--classes", "3"]


def run(*arguments: object, code: int = 0) -> Result:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    return done


def asked(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json").stdout)
    return found


def refused(*arguments: object) -> str:
    done = run(*arguments, code=1)
    assert isinstance(done.exception, EccError)
    return str(done.exception)


def leaves(value: Any, name: str = "") -> list[str]:
    """The names of all figures."""
    if isinstance(value, dict):
        return [leaf for key, inside in value.items() for leaf in leaves(inside, key)]
    return [name]


def test_every_energy_says_what_it_rests_on() -> None:
    found = asked(*TINY, "--everything")
    assert found["rates"] == {"kind": "assumed", "about": "assumed: 0.1 everywhere"}
    rows = found["splits"]
    assert [row["split"] for row in rows] == [f"RB{number}" for number in range(1, 9)]
    names = [name for name in leaves(rows[0]) if "mj" in name or "sops" in name]
    assert len(names) == 4 + 3 * 8
    assert [name for name in names if not re.search("_(modelled|assumed)", name)] == []
    parts = rows[0]["everything"]["ac"]
    assert parts["everything_mj_modelled_at_assumed_rate_and_assumed"] == pytest.approx(
        parts["everything_but_radio_mj_modelled_at_assumed_rate"] + parts["radio_mj_assumed"]
    )
    assert rows[0]["mac_mj_modelled"] == found["splits"][0]["everything"]["mac"]["paper_mj_modelled"]
    assert {constant["kind"] for constant in found["constants"].values()} == {"modelled", "assumed"}
    assert all(constant["source"] for constant in found["constants"].values())
    assert [layer["rate_assumed"] for layer in found["layers"]][:2] == [None, 0.1]


def test_parts_are_listed_only_where_everything_is_asked_for() -> None:
    assert "everything" not in asked(*TINY)["splits"][0]
    text = run(*TINY).output
    assert "shortcuts" not in text
    assert "shortcuts" in run(*TINY, "--everything").output
    assert "SpikeBottleNet" not in text  # its tables are about another network
    assert "mJ modelled at an assumed firing rate, MAC mJ modelled" in text.replace("\n", " ")


def test_the_published_rows_stand_beside_ours() -> None:
    found = asked("energy", "--network", "spiking-resnet50", "--rate", "0.2")
    last = found["splits"][-1]
    assert (last["split"], last["bytes"], last["code"], last["map"]) == ("RB16", 64, [4, 32, 2, 2], [2048, 4, 4])
    assert last["published"]["SpikeBottleNet bytes"] == {"published": 64, "ours": 64, "difference": 0}
    assert last["published"]["BottleNet++ MAC"]["published"] == 5.42
    assert last["published"]["BottleNet++ MAC"]["ours"] == pytest.approx(5.4216, abs=1e-4)
    assert last["published"]["rate_implied"] == pytest.approx(0.247, abs=1e-3)
    assert found["published_rows"]["BottleNet++ MAC"]["source"] == "SpikeBottleNet, table 3"
    printed = run("energy", "--network", "spiking-resnet50").output
    assert re.search(r"RB16 +5\.42 +5\.42 +\+0\.00 ", printed)
    assert re.search(r"RB9 +2 +4096 +4096 +\+0 +1024 +1024 +\+0 +3\.90", printed)


def test_rates_of_a_run_are_measured_on_its_data(tmp_path: Path) -> None:
    images = write_classes(tmp_path / "images", dict.fromkeys(LABELS, 12), height=8, width=8)
    folder = write_run(tmp_path / "run", "vgg9", data=str(images))
    found = asked("energy", "--run", folder, "--frames", "4")
    assert found["network"] == {"kind": "vgg9", "width": 0.0625, "steps": 2, "frame": [8, 8, 1], "classes": 3}
    assert found["rates"]["kind"] == "measured"
    assert found["rates"]["about"].endswith(f"on 3 validation frames of {images}")
    assert {"rate_measured", "sops_modelled", "ac_mj_modelled", "rolls_mj_modelled"} <= found["splits"][0].keys()
    borrowed = asked("energy", "--network", "vgg9", "--run", folder, "--width", "0.5", "--part", "test")
    assert borrowed["network"]["width"] == 0.5
    assert "ac_mj_modelled_at_borrowed_rates" in borrowed["splits"][0]


def test_out_holds_json_and_a_table(tmp_path: Path) -> None:
    found = asked(*TINY, "--everything", "--out", tmp_path / "energy")
    assert json.loads((tmp_path / "energy" / "energy.json").read_text()) == found
    with (tmp_path / "energy" / "energy.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["split"] for row in rows] == [row["split"] for row in found["splits"]]
    assert rows[0]["map"] == "2x8x8"
    assert (
        float(rows[3]["everything ac radio_mj_assumed"]) == found["splits"][3]["everything"]["ac"]["radio_mj_assumed"]
    )


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--network", "vgg16"], "'vgg16' is no spiking network with split points; choose vgg9, spiking-resnet18, "),
        (
            ["--network", "vgg9", "--side", "12"],
            "vgg9 cannot be built so: sides divisible by 8 are needed, not 12 x 12; change the images' size or the ",
        ),
        (["--run", "nowhere"], "nowhere is no run folder: it has no config.toml; give the --out of a training"),
    ],
)
def test_what_cannot_be_counted_is_told(arguments: list[str], text: str) -> None:
    assert refused("energy", *arguments).startswith(text)


def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    text = refused(*TINY, "--out", tmp_path / "taken")
    assert text == f"{tmp_path / 'taken'}: cannot be written into (File exists); give another folder with --out"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give --network, --run or --measure"),
        (["--run", "r", "--rate", "0.1"], "rates are measured with --run; give one of the two"),
        (["--measure", "vgg9.pt"], "needs --data, and neither --network nor --run"),
        (["--measure", "vgg9.pt", "--data", "d", "--network", "vgg9"], "needs --data, and neither --network nor --run"),
        (["--measure", "vgg9.pt", "--data", "d", "--out", "o"], "leave --out and --everything out"),
        (["--network", "vgg9", "--rate", "1.5"], "Invalid value for '--rate'"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], text: str) -> None:
    assert text in re.sub(r"\s+", " ", run("energy", *arguments, code=2).output.replace("│", " "))


# ---- measuring ----


class Steady:
    """A meter that says what a machine of 2 W, 5 W when busy, would take in seconds of its own."""

    source, resolution, seconds = "made up", "exact", 0.0

    def __init__(self) -> None:
        self.readings = [
            Measured(2000.0, 1.0, self.source, self.resolution),
            Measured(10_000.0, 2.0, "made up", "exact"),
        ]

    def measure(self, work: Callable[[], object]) -> Measured:
        work()
        return self.readings.pop(0)


@pytest.fixture
def edge(tmp_path: Path) -> list[str]:
    write_tiny_models(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 1), dtype=np.uint8)
    save_npz(tmp_path / "frames.npz", frames, np.zeros(3, np.int64), DIGITS[:6])
    return ["energy", "--measure", str(tmp_path / "vgg9.pt"), "--data", str(tmp_path / "frames.npz")]


def test_idle_power_is_subtracted_and_stated(tmp_path: Path, edge: list[str]) -> None:
    frames = np.zeros((2, 16, 16, 1), np.uint8)
    found = measure_edge(read_edge(tmp_path / "vgg9.pt"), frames, Steady(), 0.0)
    assert found.frames == 1
    assert found.idle_mw == 2000.0
    assert found.mj_per_frame == 10_000 - 2 * 2000
    assert found.mj_per_frame_with_idle == 10_000


def test_a_measurement_names_its_meter(edge: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meters, "find_meter", lambda: Steady())
    found = asked(*edge)
    assert found["reason"] is None
    assert found["measured"]["mj_per_frame_measured"] == 6000.0
    assert (found["measured"]["idle_mw_measured"], found["measured"]["source"]) == (2000.0, "made up")
    assert found["measured"]["busy"] == {"mj": 10_000.0, "seconds": 2.0, "source": "made up", "resolution": "exact"}
    engine = found["measured"]["engine"]
    assert engine == make_engine(None, read_edge(Path(edge[2])).program).name
    said = (
        f"measured: 6000 mJ a frame (head and exit, engine '{engine}', 1 frames), 1e+04 with the idle machine's 2000 mW"
    )
    assert said in run(*edge).output


def test_a_machine_without_a_meter_is_told_so(edge: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = meters.find_meter
    monkeypatch.setattr(meters, "find_meter", lambda: find(tmp_path / "sys"))
    done = run(*edge)
    assert done.stdout == (
        "not measured: this machine has no meter of energy that can be read; supported are RAPL (processors by Intel "
        "and AMD), INA3221 (Jetson boards), the gauge of a battery that discharges\n"
    )
    found = asked(*edge)
    assert found["measured"] is None
    assert found["reason"].startswith("this machine has no meter of energy that can be read; supported are RAPL")
