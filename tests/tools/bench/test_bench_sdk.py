"""`ecc-tools bench sdk`: every frame is accounted for, and the figures are those of the run."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from ecc_tools.bench import sdk as bench
from ecc_tools.cli import app
from support.models import TinyModels, write_tiny_models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return write_tiny_models(tmp_path_factory.mktemp("models"))


def test_what_an_edge_adds_is_what_it_takes_less_the_engine(models: TinyModels) -> None:
    found = bench.bench_overhead(models.edge, 5)
    assert list(found) == ["engine", "sure", "ambiguous", "sure adds", "ambiguous adds"]
    assert found["engine"]["ratio"] == {"median": 1.0, "p5": 1.0, "p95": 1.0}
    for name in ("sure", "ambiguous"):
        assert found[name]["ratio"]["median"] == pytest.approx(1.0 + found[f"{name} adds"]["ratio"]["median"], abs=1e-3)


def test_every_answer_is_in_time_or_a_correction(models: TinyModels) -> None:
    told: list[float] = []
    found = bench.bench_deadlines(models.edge, 40, 4, 50.0, told.append)
    assert (found["frames"], found["twice"], found["threads"]) == (40, 0, 4)
    assert found["in_time"] + found["corrected"] == 40
    assert sorted(told)[-1] == 1.0
    for name in ("classify", "bare wait"):
        values = list(found[name].values())
        assert list(found[name]) == ["p50", "p99", "p99.9", "most"]
        assert values == sorted(values)
        assert values[-1] > 0


def test_the_command(models: TinyModels) -> None:
    arguments = ["bench", "sdk", str(models.edge), "--rounds", "5", "--calls", "10", "--threads", "2"]
    printed = CliRunner().invoke(app, [*arguments, "--deadline-ms", "5"])
    assert printed.exit_code == 0, printed.output
    assert "sure adds: " in printed.output
    assert "bare wait, beyond its 5 ms: p50 " in printed.output
    assert "10 frames, " in printed.output
    record = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert list(record) == ["overhead", "deadlines", "machine"]
    assert record["deadlines"]["frames"] == 10
