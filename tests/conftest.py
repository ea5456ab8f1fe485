"""What the tests of several rooms share: golden files and a real Mosquitto."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ecc_broker.server import RunningBroker, start_broker

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


class BrokerProcess:
    """A real broker that tests may kill, freeze and start again on the same port and data folder."""

    def __init__(self, data_dir: Path, kind: str) -> None:
        self._data_dir = data_dir
        self._broker: RunningBroker = start_broker(None, data_dir, kind)
        self.kind = kind
        self.port = self._broker.port
        self.url = self._broker.url

    @property
    def pid(self) -> int:
        return self._broker.process.pid

    @property
    def running(self) -> bool:
        return self._broker.process.poll() is None

    def kill(self) -> None:
        """SIGKILL: nothing is saved, no connection is closed in order."""
        self._broker.process.kill()
        self._broker.process.wait()

    def restart(self) -> None:
        """Back on the same port with the same data folder; killed first if it still runs."""
        self.kill()
        self._broker = start_broker(self.port, self._data_dir, self.kind)

    def pause(self) -> None:
        """SIGSTOP: connections stand, nothing moves."""
        self._broker.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._broker.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """SIGTERM, as `ecc-broker` ends it: what is retained is saved."""
        self.resume()
        self._broker.stop()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[BrokerProcess]:
    """A running Mosquitto on a free port of 127.0.0.1."""
    broker = BrokerProcess(tmp_path / "mosquitto", "mosquitto")
    yield broker
    broker.stop()
