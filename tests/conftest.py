"""What the tests of several rooms share: golden files and a real Mosquitto."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.brokers import BrokerProcess
from support.golden import Golden

# One thread for every library and child process: small networks are fastest so, and beside other work by far.
os.environ.setdefault("OMP_NUM_THREADS", "1")

pytest_plugins = ["support.torchless"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate-golden", action="store_true", help="Write the golden files anew.")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(regenerate=request.config.getoption("--regenerate-golden"))


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A running Mosquitto on a free port of 127.0.0.1."""
    broker = BrokerProcess(tmp_path / "mosquitto", "mosquitto")
    yield broker
    broker.stop()
