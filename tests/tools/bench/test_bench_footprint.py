"""`ecc-tools bench footprint`: whose files are counted, and a device that is really started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecc_tools.bench import footprint as bench
from ecc_tools.cli import app
from support.models import write_tiny_models


def test_the_core_install_is_ours_and_what_it_needs() -> None:
    sizes = bench.installed_mb()
    assert {"ecc-snn", "numpy", "msgspec", "zstandard", "bitarray", "paho-mqtt", "typer", "psutil"} <= set(sizes)
    assert not {"torch", "matplotlib", "pytest", "amqtt"} & set(sizes)
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)
    assert sizes["numpy"] > 20
    assert 0.5 < sizes["ecc-snn"] < 20


@pytest.mark.parametrize(
    ("requirement", "name"),
    [
        ("numpy>=1.23", "numpy"),
        ('torch>=2.2; extra == "learn"', ""),
        ('colorama; sys_platform == "win32"', ""),
        ('tomli>=1; python_version >= "3.0"', "tomli"),
    ],
)
def test_needs_of_extras_and_of_other_systems_do_not_count(requirement: str, name: str) -> None:
    assert bench._needed(requirement) == name


def test_a_device_is_started_and_weighed(tmp_path: Path) -> None:
    model = write_tiny_models(tmp_path).edge
    done = CliRunner().invoke(
        app, ["bench", "footprint", "--model", str(model), "--runs", "3", "--json"], catch_exceptions=False
    )
    measured = json.loads(done.stdout)
    assert 0 < measured["first_result_s"]["median"] < 60
    assert 10 < measured["own_mb"]["median"] < measured["rss_mb"]["median"] < 500
    parts = sum(size for name, size in measured["installed_mb"].items() if name != "all")
    assert measured["installed_mb"]["all"] == pytest.approx(parts, abs=0.1)
