"""The real programs as child processes: started, waited for by what they print, stopped by SIGTERM."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecc_model.errors import EccError

STOP_TIMEOUT_S = 30.0


class ProgramFailed(EccError):
    """A program ended when it should not have, or with an error."""


class Program:
    """One running `ecc-...` command; its standard error goes to a log file beside the run."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.arguments, self.log = arguments, log
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [find(arguments[0]), *arguments[1:]], stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def read_json(self) -> dict[str, Any]:
        """The next JSON document that it prints; `ProgramFailed` if it ends before one is complete."""
        text = ""
        for line in self.process.stdout or ():
            text += line
            with contextlib.suppress(json.JSONDecodeError):
                return dict(json.loads(text))
        raise ProgramFailed(f"{self} ended early (exit {self.process.wait()}): {self._last_words()}")

    def stop(self) -> str:
        """SIGTERM, wait, and return what it printed since; killed after `STOP_TIMEOUT_S`."""
        self.process.terminate()
        try:
            return self.process.communicate(timeout=STOP_TIMEOUT_S)[0]
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise ProgramFailed(f"{self} did not stop within {STOP_TIMEOUT_S:.0f} s; see {self.log}") from None

    def __str__(self) -> str:
        return shlex.join(self.arguments)

    def _last_words(self) -> str:
        lines = self.log.read_text().strip().splitlines()
        return lines[-1] if lines else f"see {self.log}"


@contextlib.contextmanager
def running(arguments: list[str], log: Path) -> Iterator[Program]:
    """A program that is ended when the block ends: by SIGTERM, so that it ends its own children, too."""
    program = Program(arguments, log)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.stop()
        program.process.communicate()


def run(arguments: list[str]) -> str:
    """Run a command to its end and return its standard output; `ProgramFailed` with its last words."""
    code, out, words = run_any(arguments)
    if code != 0:
        raise ProgramFailed(f"{shlex.join(arguments)} failed (exit {code}): {words}")
    return out


def run_any(arguments: list[str]) -> tuple[int, str, str]:
    """Run a command to its end: exit code, standard output, last line of standard error."""
    done = subprocess.run([find(arguments[0]), *arguments[1:]], capture_output=True, text=True, check=False)
    words = done.stderr.strip().splitlines()
    return done.returncode, done.stdout, words[-1] if words else ""


def find(command: str) -> str:
    """The installed script: beside this Python first, then on PATH."""
    beside = [Path(sys.executable).with_name(command), Path(sysconfig.get_path("scripts")) / command]
    for path in beside:
        if path.exists():
            return str(path)
    found = shutil.which(command)
    if found is None:
        raise ProgramFailed(f"{command} is not installed beside {sys.executable}; install with: pip install ecc-snn")
    return found
