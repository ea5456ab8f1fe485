"""What the tests of several rooms share: golden files and a real Mosquitto."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.brokers import BrokerProcess

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate-golden", action="store_true", help="Write the golden files anew.")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, bytes], None]:
    """`golden(name, data)`: `data` equals the golden file `name`, or becomes it with --regenerate-golden."""

    def check(name: str, data: bytes) -> None:
        path = GOLDEN / name
        if request.config.getoption("--regenerate-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        assert path.exists(), f"{path} is missing; make it with: pytest --regenerate-golden"
        assert data.hex() == path.read_bytes().hex(), (
            f"{name} changed: other programs cannot read it; if that is meant, docs/wire.md says what follows"
        )

    return check


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A running Mosquitto on a free port of 127.0.0.1."""
    broker = BrokerProcess(tmp_path / "mosquitto", "mosquitto")
    yield broker
    broker.stop()
