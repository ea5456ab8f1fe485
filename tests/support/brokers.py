"""A real broker in the hands of a test."""

from __future__ import annotations

import signal
from pathlib import Path

from ecc_broker.server import RunningBroker, start_broker


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
