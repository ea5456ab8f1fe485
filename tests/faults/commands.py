"""The three commands as real processes in the hands of a test, and the invariants that hold after every fault.

I1 nothing lost: a frame whose result was printed is a row of the buffer, or was dropped and counted.
I2 once in effect: a row is answered once, whatever came twice.
I3 a clear error: one line for each cause, no traceback, and the process lives or ends with its documented code.
"""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

from ecc_device import control
from ecc_device.store import Store
from support.processes import Process, script

PATIENCE_S = 60.0
NOT_ROWS = ("confident", "disk-full", "disk-error", "buffer-too-small")  # results of frames that are in no row
ROW_DROPS = ("evicted-", "refused-")  # reasons for which a row goes
NOTES = (r"\S+: .*, model \d+, state in .*", r"\d+ frames, \d+ went up \(\d+ bytes\)")  # what every run says
T = TypeVar("T")


def eventually(check: Callable[[], T], what: str) -> T:
    """The first true value of `check`; the test fails when there is none in time."""
    pause, until_s = threading.Event(), time.monotonic() + PATIENCE_S
    while not (found := check()):
        assert time.monotonic() < until_s, f"in vain: {what}"
        pause.wait(0.02)
    return found


class Command(Process):
    """A running command whose lines can be waited for."""

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs; -9 for SIGKILL."""
        return self.popen.poll()

    def wait_output(self, count: int) -> None:
        """Wait for as many lines on standard output."""
        self._wait(lambda: len(self.output) >= count, f"{count} lines")

    def wait_error(self, text: str) -> None:
        """Wait for a line on standard error that holds `text`."""
        self._wait(lambda: any(text in line for line in self.errors), text)

    def clean_up(self) -> None:
        """Nothing of it runs after this."""
        if self.code is None:
            below = psutil.Process(self.popen.pid).children(recursive=True)  # strace's death would leave its program
            for process in below:
                process.kill()
            self.end(signal.SIGKILL)

    def peak_bytes(self) -> int:
        """The most memory that it has held so far."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.popen.pid}/status").read_text())
        assert found is not None
        return 1024 * int(found[1])

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        eventually(lambda: condition() or self.code is not None, f"{what}; said: {self.errors}")
        if not condition():
            self.end(None)  # all that it said has been read then
        assert condition(), f"ended with {self.code} before: {what}; said: {self.errors}"


class Robot:
    """A device and its state folder; its process may die and start again."""

    def __init__(self, model: Path, folder: Path) -> None:
        self.model, self.state = model, folder / "state"
        self.runs: list[Command] = []

    @property
    def run(self) -> Command:
        """The newest process."""
        return self.runs[-1]

    @property
    def results(self) -> list[dict[str, Any]]:
        """Every result that any process has printed, oldest first."""
        return [json.loads(line) for run in self.runs for line in run.output]

    def start(self, source: Path, *arguments: str, wrap: Sequence[str] = ()) -> Command:
        """Start `ecc-device start` on a recording, at its own rate; it is ready, unless `wrap` makes it die."""
        given = ["--model", self.model, "--state", self.state, "--source", source, "--json", *arguments]
        self.runs.append(Command(*wrap, script("ecc-device"), "start", *given))
        if not wrap:
            self.run.wait_error(f"state in {self.state}")
        return self.run

    def wait_results(self, more: int) -> None:
        """Wait for that many results more than there are."""
        self.run.wait_output(len(self.run.output) + more)

    def status(self) -> dict[str, Any]:
        """What the running device says of itself."""
        return dict(control.ask(self.state, "status", PATIENCE_S))

    def count(self, name: str) -> int:
        """One of the running device's counters."""
        return int(self.status()["counts"].get(name, 0))

    def wait_count(self, name: str, value: int) -> None:
        """Wait until a counter has come to `value`."""
        eventually(lambda: self.count(name) >= value, f"{name} = {value}")

    def count_kept(self, name: str) -> int:
        """One of the counters that the buffer keeps, while no device runs."""
        with self.store() as store:
            return store.counts().get(name, 0)

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The buffer, for reading."""
        with Store.open(self.state, read_only=True) as store:
            yield store

    def rows(self, state: str | None = None) -> dict[int, str]:
        """Row -> state of all rows, or of those in one state."""
        with closing(sqlite3.connect(f"file:{self.state}/store.sqlite?mode=ro", uri=True)) as db:
            found = dict(db.execute("SELECT id, state FROM rows"))
        return {row: is_ for row, is_ in found.items() if state in (None, is_)}


def assert_invariants(robot: Robot, said: Mapping[str, int], *, kills: int = 0, earlier: int = 0) -> None:
    """I1 to I3 of a robot whose processes have ended.

    said: pattern of a whole line on standard error -> how often it may stand there; once at least. kills: processes
    that ended by SIGKILL, each of which may have died between a row and its printed result. earlier: rows that the
    test put there.
    """
    with closing(sqlite3.connect(f"file:{robot.state}/store.sqlite?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        given = db.execute("SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'rows'").fetchone()[0]
        rows = db.execute("SELECT time_s, state, logits FROM rows").fetchall()
        drops, counts = (dict(db.execute(f"SELECT * FROM {table}")) for table in ("drops", "counters"))
    # I1: an id is given out in the transaction that stores its row, so one that is missing was dropped
    dropped = sum(n for reason, n in drops.items() if reason.startswith(ROW_DROPS))
    assert len(rows) + dropped == given
    acknowledged = [result["time_s"] for result in robot.results if result["why"] not in NOT_ROWS]
    missing = set(acknowledged) - {time_s for time_s, _, _ in rows}
    assert len(missing) <= dropped
    assert given - kills <= len(acknowledged) + earlier <= given
    # I2
    answered = [logits for _, state, logits in rows if state != "waiting"]
    assert all(answered)
    assert [logits for _, state, logits in rows if state == "waiting" and logits is not None] == []
    evicted = sum(n for reason, n in drops.items() if reason in ("evicted-labelled", "evicted-learnt"))
    assert counts.get("answered", 0) == len(answered) + evicted
    # I3
    codes = [run.code for run in robot.runs]
    assert codes.count(-signal.SIGKILL) == kills
    assert set(codes) <= {0, -signal.SIGKILL}
    assert_said([line for run in robot.runs for line in run.errors], said, runs=len(robot.runs))


def assert_said(lines: Sequence[str], said: Mapping[str, int], *, runs: int = 1) -> None:
    """Each of the lines is a known one, and none stands there too often."""
    allowed = dict.fromkeys(NOTES, runs) | dict(said)
    found = dict.fromkeys(allowed, 0)
    for line in lines:
        patterns = [pattern for pattern in allowed if re.fullmatch(pattern, line)]
        assert len(patterns) == 1, repr(line)
        found[patterns[0]] += 1
    assert {pattern: n for pattern, n in found.items() if n > allowed[pattern]} == {}, lines
    assert [pattern for pattern in said if not found[pattern]] == [], lines
