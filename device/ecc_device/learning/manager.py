"""Updates, from the device's side: when one starts and stops, and how a candidate becomes the active model.

rows + active model -> job -> child process -> outcome -> trial -> swap -> confirm. The old model answers until the
swap; a device that dies anywhere before `confirm` starts again with the old one and all its rows.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ecc_device.clock import Clock
from ecc_device.engines import NumpyEngine
from ecc_device.learning.job import Job, Outcome, assemble, read_outcome, write_job
from ecc_device.learning.recipes import DEFAULT
from ecc_device.models import add_model, discard_trial, load_version, turn_down
from ecc_device.store import Store, Version
from ecc_model import bits
from ecc_model.errors import EccError, UpdateError
from ecc_model.modelfile import EdgeModel, read_edge

BUDGET_S = 600.0  # an update that takes longer is given up
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # the environment that numpy's libraries read
STARTS = ("charging", "offline")
STOPS = ("undocked",)
_log = logging.getLogger("ecc_device")


@dataclass(frozen=True)
class Decision:
    """How an update ended. `no` is the version that it made, accepted or rejected; None when it made none."""

    accepted: bool
    reason: str
    no: int | None = None
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class UpdateManager:
    """Starts an update when the robot charges or goes offline, stops it when the robot leaves the dock.

    `swap(model, no)` is called between `begin_trial` and `confirm`; from its return on, the new model answers.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        clock: Clock,
        swap: Callable[[EdgeModel, int], None],
        *,
        learner: str = DEFAULT,
        budget_s: float = BUDGET_S,
        seed: int = 0,
    ) -> None:
        self._store, self._folder, self._clock, self._swap = store, folder, clock, swap
        self._learner, self._budget_s, self._seed = learner, budget_s, seed
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._child: subprocess.Popen[str] | None = None
        self._stop_reason: str | None = None
        self._closed = False
        self._progress = 0
        self._decision: Decision | None = None
        self._listeners: list[Callable[[bool, str], None]] = []

    def on_decision(self, listener: Callable[[bool, str], None]) -> None:
        """Call `listener(accepted, reason)` at the end of each update, on its thread."""
        self._listeners.append(listener)

    def handle(self, event: str) -> None:
        """React to a device event: see `STARTS` and `STOPS`."""
        if event in STARTS:
            self.start()
        elif event in STOPS:
            self.stop(event)

    def start(self) -> None:
        """Start an update in the background, unless one runs or the manager is closed."""
        with self._lock:
            if self._closed or (self._thread is not None and self._thread.is_alive()):
                return
            self._stop_reason, self._progress = None, 0
            self._thread = threading.Thread(target=self._run, name="ecc-update", daemon=True)
            self._thread.start()

    def stop(self, reason: str) -> None:
        """End a running update; its rows stay for the next one."""
        with self._lock:
            self._stop_reason = reason
            if self._child is not None:
                self._child.kill()

    def wait(self, timeout_s: float | None = None) -> Decision | None:
        """Wait for a running update and return the latest decision; None when there was none, or time is up."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
            if thread.is_alive():
                return None
        return self._decision

    def status(self) -> dict[str, Any]:
        """Whether an update runs, how far it is, and how the last one ended."""
        running = self._thread is not None and self._thread.is_alive()
        last = self._decision.to_dict() if self._decision else None
        return {"running": running, "progress_percent": self._progress if running else None, "last": last}

    def close(self) -> None:
        """Stop what runs and wait for its end; no update starts any more."""
        with self._lock:
            self._closed = True
        self.stop("the device stops")
        self.wait()

    def _run(self) -> None:
        started = time.monotonic()
        try:
            decision = self._update()
        except EccError as error:
            decision = Decision(False, str(error))
        except OSError as error:
            place = error.filename or self._folder
            decision = Decision(False, f"{place}: {error.strerror}; the rows stay for the next update")
        seconds = round(time.monotonic() - started, 3)
        self._decision = Decision(decision.accepted, decision.reason, decision.no, seconds, decision.figures)
        _log.info("update %s: %s", "accepted" if decision.accepted else "not made", decision.reason)
        for listener in list(self._listeners):
            listener(decision.accepted, decision.reason)

    def _update(self) -> Decision:
        discard_trial(self._store, self._folder, "the model could not be confirmed")
        active = self._store.active_version()
        if active is None:
            raise UpdateError("no model is active yet")
        model = load_version(active, self._folder)
        features = bytes.fromhex(model.program.features_id)
        rows = [row for row in self._store.labelled(features) if row.state == "labelled"]
        job, arrays = assemble(model.path, model.labels, rows, self._store.labels, self._learner, self._seed)
        last_row = max(job.row_ids)
        latest = self._store.versions()[-1]
        if latest.state == "rejected" and latest.parent == active.no and latest.figures.get("last_row") == last_row:
            raise UpdateError(f"these rows were turned down before (version {latest.no}); waiting for new answers")
        work = self._folder / "update"
        shutil.rmtree(work, ignore_errors=True)
        try:
            write_job(work, job, arrays)
            outcome = self._learn(work)
            candidate = self._checked(work / "candidate.pt", outcome, model)
            figures = outcome.figures | {"reason": outcome.reason, "last_row": last_row}
            no = add_model(self._store, self._folder, candidate, active.no, figures, self._clock.now())
        finally:
            shutil.rmtree(work, ignore_errors=True)
        if not outcome.accepted:
            turn_down(self._store, self._folder, no, figures)
            return Decision(False, outcome.reason, no, 0.0, figures)
        self._replace_active(no, job)
        return Decision(True, outcome.reason, no, 0.0, figures)

    def _replace_active(self, no: int, job: Job) -> None:
        """Trial, swap, confirm; if it is not confirmed, the device goes back to what the store calls active."""
        self._store.begin_trial(no)
        try:
            self._swap(load_version(self._version(no), self._folder), no)
            self._store.confirm(no, job.row_ids)
        except EccError:
            active = self._store.active_version()
            if active is not None:
                self._swap(load_version(active, self._folder), active.no)
            raise

    def _version(self, no: int) -> Version:
        return next(version for version in self._store.versions() if version.no == no)

    def _learn(self, work: Path) -> Outcome:
        """Run the child until its outcome; `UpdateError` when it was stopped, ran out of time or failed."""
        with self._lock:
            if self._stop_reason is not None:
                raise UpdateError(f"stopped: {self._stop_reason}; the rows stay for the next update")
            command = [sys.executable, "-m", "ecc_device.learning.child", str(work), str(os.getpid())]
            with (work / "errors.txt").open("w") as errors:
                child = self._child = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=errors, text=True, env=os.environ | ONE_THREAD
                )
        timer = threading.Timer(self._budget_s, self.stop, [f"longer than {self._budget_s:.0f} s"])
        timer.daemon = True
        timer.start()
        try:
            with child:
                for line in child.stdout or ():
                    self._progress = int(line) if line.strip().isdigit() else self._progress
        finally:
            timer.cancel()
            with self._lock:
                self._child = None
        if self._stop_reason is not None:
            raise UpdateError(f"stopped: {self._stop_reason}; the rows stay for the next update")
        if child.returncode != 0:
            lines = (work / "errors.txt").read_text().strip().splitlines()
            reason = lines[-1] if lines else "no message"
            raise UpdateError(f"the learner failed (exit {child.returncode}): {reason}")
        return read_outcome(work)

    def _checked(self, path: Path, outcome: Outcome, model: EdgeModel) -> EdgeModel:
        """The candidate, if it is the file that was judged, reads the same features and gives the same bits here."""
        candidate = read_edge(path)
        if candidate.sha256 != outcome.sha256 or candidate.program.features_id != model.program.features_id:
            raise UpdateError("the candidate is not the model that was judged; the update is discarded")
        engine = NumpyEngine(candidate.program)
        rows = candidate.guard.bits[candidate.guard.judge.astype(np.bool_)][: len(outcome.probe)]
        here = [engine.exit(bits.unpack(row.tobytes(), candidate.program.split_shape)).tolist() for row in rows]
        if here != outcome.probe:
            raise UpdateError("the candidate answers otherwise here than in the learner; the update is discarded")
        return candidate
