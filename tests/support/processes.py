"""The installed commands as processes: their lines, their signals, their end."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0


def script(name: str) -> str:
    """Path of an installed command, e.g. `ecc-device`."""
    return str(Path(sys.executable).with_name(name))


def run(name: str, *arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [script(name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
    )


class Process:
    """A running command. Its lines are read as they come; use as a context manager."""

    def __init__(self, *command: object, **environment: str) -> None:
        first, *rest = map(str, command)
        program = [script(first) if first.startswith("ecc-") else first, *rest]
        self.popen = subprocess.Popen(
            program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment}
        )
        self.output: list[str] = []
        self.errors: list[str] = []
        self._lines: dict[str, queue.Queue[str | None]] = {"stdout": queue.Queue(), "stderr": queue.Queue()}
        self._readers = [
            threading.Thread(target=self._read, args=(name, kept), daemon=True)
            for name, kept in (("stdout", self.output), ("stderr", self.errors))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        if self.popen.poll() is None:
            self.end(signal.SIGKILL)

    def line(self, containing: str = "", stream: str = "stdout") -> str:
        """The next line of a stream that has this text in it, those before it passed over."""
        while (line := self._lines[stream].get(timeout=PATIENCE_S)) is not None:
            if containing in line:
                return line
        raise AssertionError(f"{stream} ended without '{containing}': {self.output[-5:]} {self.errors[-5:]}")

    def end(self, number: signal.Signals | None = signal.SIGTERM) -> int:
        """Send a signal (None: wait for the process's own end) and return the exit code."""
        if number is not None and self.popen.poll() is None:
            self.popen.send_signal(number)
        code = self.popen.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        for stream in (self.popen.stdout, self.popen.stderr):
            if stream is not None:
                stream.close()
        return code

    def _read(self, name: str, kept: list[str]) -> None:
        stream: Any = getattr(self.popen, name)
        for line in stream:
            kept.append(line.rstrip("\n"))
            self._lines[name].put(kept[-1])
        self._lines[name].put(None)
