"""The learner's process, from the device's side: started for one job at a time, stopped at a moment's notice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from ecc_device.learning.job import OUTCOME, Outcome, read_outcome
from ecc_model.errors import UpdateError

GRACE_S = 0.7  # for a learner that is stopped to keep what it has
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # the environment that numpy's libraries read


class Interrupted(UpdateError):
    """A job that was stopped and that a later update goes on with."""


class LearnerProcess:
    """Runs jobs in a child, one at a time; any thread may stop it. progress: of the present job, 0 to 100."""

    def __init__(self) -> None:
        self.progress = 0
        self._lock = threading.Lock()
        self._child: subprocess.Popen[str] | None = None
        self._stop_reason: str | None = None

    def allow(self) -> None:
        """Forget an earlier stop: another job may run."""
        with self._lock:
            self._stop_reason, self.progress = None, 0

    def stop(self, reason: str) -> None:
        """End the job within a second; until `allow` no other one starts."""
        with self._lock:
            self._stop_reason = reason
            if self._child is not None:
                self._child.terminate()
                killer = threading.Timer(GRACE_S, self._child.kill)
                killer.daemon = True
                killer.start()

    def run(self, work: Path, budget_s: float) -> Outcome:
        """The outcome of the job in `work`; one that is there already was made before the device died.

        `Interrupted` when it was stopped, `UpdateError` when it took longer than its budget, or failed.
        """
        if (work / OUTCOME).exists():
            return read_outcome(work)
        with self._lock:
            if self._stop_reason is not None:
                raise Interrupted(_stopped(self._stop_reason))
            command = [sys.executable, "-m", "ecc_device.learning.child", str(work), str(os.getpid())]
            with (work / "errors.txt").open("w") as errors:
                child = self._child = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | ONE_THREAD
                )
        overtime = threading.Event()

        def give_up() -> None:
            overtime.set()
            child.kill()

        timer = threading.Timer(budget_s, give_up)
        timer.daemon = True
        timer.start()
        try:
            with child:
                for line in child.stdout or ():
                    self.progress = int(line) if line.strip().isdigit() else self.progress
        finally:
            timer.cancel()
            with self._lock:
                self._child = None
        if overtime.is_set():
            raise UpdateError(f"stopped: longer than {budget_s:.0f} s; the rows stay for the next update")
        if self._stop_reason is not None:
            raise Interrupted(_stopped(self._stop_reason))
        if child.returncode == -signal.SIGKILL:
            raise Interrupted("the learner was killed, perhaps for its memory; the next update goes on from here")
        if child.returncode != 0:
            lines = (work / "errors.txt").read_text().strip().splitlines()
            reason = lines[-1] if lines else "no message"
            raise UpdateError(f"the learner failed (exit {child.returncode}): {reason}")
        return read_outcome(work)


def _stopped(reason: str) -> str:
    return f"stopped: {reason}; the next update goes on from here"
