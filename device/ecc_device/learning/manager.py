"""Updates, from the device's side: when one starts and stops, and how a candidate becomes the active model.

rows + active model -> job -> child process -> outcome -> shadow run -> trial -> swap -> confirm. The old model answers
until the swap; a device that dies anywhere before `confirm` starts again with the old one and all its rows. It goes on
with a job that was stopped, and begins a shadow run again.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ecc_device.clock import Clock
from ecc_device.engines import NumpyEngine
from ecc_device.learning.job import Job, Outcome, assemble, read_job, write_job
from ecc_device.learning.process import Interrupted, LearnerProcess
from ecc_device.learning.recipes import DEFAULT
from ecc_device.learning.shadow import MAX_STARTS, SHADOW_FRAMES, ShadowRun
from ecc_device.models import ROW_IDS, add_model, discard_trial, load_version, turn_down
from ecc_device.results import Answer
from ecc_device.store import Store, Version
from ecc_model import bits
from ecc_model.errors import EccError, ModelError, UpdateError
from ecc_model.modelfile import EdgeModel, read_edge

BUDGET_S = 600.0  # an update that takes longer is given up
STARTS = ("charging", "offline")
STOPS = ("undocked",)
_log = logging.getLogger("ecc_device")


@dataclass(frozen=True)
class Decision:
    """How an update, or its shadow run, ended.

    no: the version that it made, accepted or rejected; None when it made none. shadow: frames that an accepted one
    answers silently before it takes over; 0 when it answers now.
    """

    accepted: bool
    reason: str
    no: int | None = None
    seconds: float = 0.0
    figures: dict[str, Any] = field(default_factory=dict)
    shadow: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Candidate:
    """A candidate in its shadow run."""

    version: Version
    model: EdgeModel
    run: ShadowRun


Shadow = Callable[[EdgeModel, int, Callable[[Answer, Answer], bool]], None]


class UpdateManager:
    """Starts an update when the robot charges or goes offline, stops it when the robot leaves the dock.

    `swap(model, no)` is called between `begin_trial` and `confirm`; from its return on, the new model answers. Before
    it an accepted candidate answers `shadow_frames` frames through `shadow`, which is `Runtime.shadow`; 0 for none.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        clock: Clock,
        swap: Callable[[EdgeModel, int], None],
        *,
        shadow: Shadow,
        shadow_frames: int = SHADOW_FRAMES,
        learner: str = DEFAULT,
        budget_s: float = BUDGET_S,
        seed: int = 0,
    ) -> None:
        self._store, self._folder, self._clock, self._swap = store, folder, clock, swap
        self._shadow, self._shadow_frames = shadow, shadow_frames
        self._learner, self._budget_s, self._seed = learner, budget_s, seed
        self._candidate: _Candidate | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process = LearnerProcess()
        self._closed = False
        self._decision: Decision | None = None
        self._listeners: list[Callable[[bool, str], None]] = []

    def on_decision(self, listener: Callable[[bool, str], None]) -> None:
        """Call `listener(accepted, reason)` at the end of each update and each shadow run, on its thread."""
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
            self._process.allow()
            self._thread = threading.Thread(target=self._run, name="ecc-update", daemon=True)
            self._thread.start()

    def stop(self, reason: str) -> None:
        """End a running update within a second; a later one goes on where it was."""
        self._process.stop(reason)

    def open(self) -> None:
        """After a start: begin the shadow run of an accepted candidate again; without it frames are classified, too."""
        try:
            self._resume()
        except (EccError, OSError) as error:
            _log.warning("the shadow run of a learnt model does not go on: %s", error)

    def _resume(self) -> bool:
        """Settle what an update has left behind; whether a candidate answers silently."""
        with self._lock:
            if self._candidate is not None:
                return True
        discard_trial(self._store, self._folder, "the model could not be confirmed")
        active = self._store.active_version()
        for version in self._store.versions():
            if version.state == "candidate":
                problem = _obstacle(version, active)
                if problem is None:
                    try:
                        self._begin_shadow(version)
                    except ModelError as error:
                        problem = str(error)
                    else:
                        return self._candidate is not None
                turn_down(self._store, self._folder, version.no, version.figures | {"reason": problem})
        return False

    def drop_shadow(self) -> None:
        """Listen no more to a candidate in its shadow run: somebody else decides on it."""
        with self._lock:
            self._candidate = None

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
        found, shadow = self._candidate, None
        if found is not None:
            shadow = {"no": found.version.no, "seen": found.run.seen, "frames": found.run.frames}
        progress = self._process.progress if running else None
        return {"running": running, "progress_percent": progress, "shadow": shadow, "last": last}

    def close(self) -> None:
        """Stop what runs and wait for its end; no update starts any more."""
        with self._lock:
            self._closed = True
            found, self._candidate = self._candidate, None
        self.stop("the device stops")
        self.wait()
        if found is not None:  # it did not end the device
            with contextlib.suppress(EccError):
                self._store.note(found.version.no, found.version.figures)

    def _run(self) -> None:
        started = time.monotonic()
        decision = self._typed(self._update)
        self._tell(replace(decision, seconds=round(time.monotonic() - started, 3)))

    def _typed(self, decide: Callable[[], Decision]) -> Decision:
        try:
            return decide()
        except EccError as error:
            return Decision(False, str(error))
        except OSError as error:
            place = error.filename or self._folder
            return Decision(False, f"{place}: {error.strerror}; the rows stay for the next update")

    def _tell(self, decision: Decision) -> None:
        self._decision = decision
        _log.info("update %s: %s", "accepted" if decision.accepted else "not made", decision.reason)
        for listener in list(self._listeners):
            listener(decision.accepted, decision.reason)

    def _update(self) -> Decision:
        if self._resume():
            raise UpdateError("a candidate is in its shadow run; the next update starts after it")
        active = self._store.active_version()
        if active is None:
            raise UpdateError("no model is active yet")
        model = load_version(active, self._folder)
        work = self._folder / "update"
        keep = False
        try:
            job = self._job(work, model)
            self._refuse_again(job, active)
            outcome = self._process.run(work, self._budget_s)
            candidate = self._checked(work / "candidate.pt", outcome, model)
            figures = outcome.figures | {"accepted": outcome.accepted, "reason": outcome.reason}
            figures["last_row"] = max(job.row_ids)
            known = figures | {ROW_IDS: outcome.row_ids}
            no = add_model(self._store, self._folder, candidate, active.no, known, self._clock.now(), job.row_ids)
        except Interrupted:
            keep = True
            raise
        finally:
            if not keep:
                shutil.rmtree(work, ignore_errors=True)
        if not outcome.accepted:
            turn_down(self._store, self._folder, no, figures)
            return Decision(False, outcome.reason, no, 0.0, figures)
        self._begin_shadow(self._version(no))
        return Decision(True, outcome.reason, no, 0.0, figures, self._shadow_frames)

    def _job(self, work: Path, model: EdgeModel) -> Job:
        """The job that was stopped, if the same model can still learn it; else one of the rows that there are now."""
        try:
            job, _ = read_job(work)
        except UpdateError:
            pass
        else:
            if (job.model, job.learner, job.seed) == (str(model.path), self._learner, self._seed):
                return job
        shutil.rmtree(work, ignore_errors=True)
        features = bytes.fromhex(model.program.features_id)
        rows = [row for row in self._store.labelled(features) if row.state == "labelled"]
        job, arrays = assemble(model.path, model.labels, rows, self._store.labels, self._learner, self._seed)
        write_job(work, job, arrays)
        return job

    def _refuse_again(self, job: Job, active: Version) -> None:
        """`UpdateError` when all rows of the job were among those of the latest candidate, which was turned down."""
        latest = self._store.versions()[-1]
        # without `last_row` it was not turned down for its rows: see `discard_trial`
        judged = latest.state == "rejected" and latest.parent == active.no and "last_row" in latest.figures
        if judged and self._store.unlearnt_rows(latest.no).issuperset(job.row_ids):
            raise UpdateError(f"these rows were turned down before (version {latest.no}); waiting for new answers")

    def _begin_shadow(self, version: Version) -> None:
        """Let an accepted candidate answer silently, or at once where that is switched off."""
        model = load_version(version, self._folder)
        if not self._shadow_frames:
            self._replace_active(version, model, version.figures)
            return
        self._store.note(version.no, version.figures | {"shadow_starts": _starts(version) + 1})
        candidate = _Candidate(version, model, ShadowRun(self._shadow_frames, version.figures))
        with self._lock:
            self._candidate = candidate
        self._shadow(model, version.no, lambda old, new: self._see(candidate, old, new))

    def _see(self, candidate: _Candidate, old: Answer, new: Answer) -> bool:
        """On the frame's thread: count, and after the last frame decide."""
        with self._lock:
            if self._candidate is not candidate:
                return False
            if candidate.run.see(old, new):
                return True
            self._candidate = None
        self._tell(self._typed(lambda: self._end_shadow(candidate)))
        return False

    def _end_shadow(self, candidate: _Candidate) -> Decision:
        version = candidate.version
        accepted, said, measured = candidate.run.verdict()
        reason = f"{version.figures['reason']}; {said}" if accepted else said
        figures = version.figures | measured | {"reason": reason}
        if accepted:
            self._replace_active(version, candidate.model, figures)
        else:
            turn_down(self._store, self._folder, version.no, figures)
        return Decision(accepted, reason, version.no, 0.0, _public(figures))

    def _replace_active(self, version: Version, model: EdgeModel, figures: dict[str, Any]) -> None:
        """Trial, swap, confirm; if it is not confirmed, the device goes back to what the store calls active."""
        self._store.begin_trial(version.no)
        try:
            self._swap(model, version.no)
            self._store.confirm(version.no, figures.get(ROW_IDS, ()), _public(figures))
        except EccError:
            active = self._store.active_version()
            if active is not None:
                self._swap(load_version(active, self._folder), active.no)
            raise

    def _version(self, no: int) -> Version:
        return next(version for version in self._store.versions() if version.no == no)

    def _checked(self, path: Path, outcome: Outcome, model: EdgeModel) -> EdgeModel:
        """The candidate, if it is the file that was judged, reads the same features and gives the same bits here."""
        candidate = read_edge(path)
        if candidate.sha256 != outcome.sha256 or candidate.program.features_ids != model.program.features_ids:
            raise UpdateError("the candidate is not the model that was judged; the update is discarded")
        engine = NumpyEngine(candidate.program)
        rows = candidate.guard.bits[candidate.guard.judge.astype(np.bool_)][: len(outcome.probe)]
        here = [engine.exit(bits.unpack(row.tobytes(), candidate.program.split_shape)).tolist() for row in rows]
        if here != outcome.probe:
            raise UpdateError("the candidate answers otherwise here than in the learner; the update is discarded")
        return candidate


def _public(figures: dict[str, Any]) -> dict[str, Any]:
    """A decision's figures without what only an open candidate needs."""
    return {name: value for name, value in figures.items() if name != ROW_IDS}


def _obstacle(candidate: Version, active: Version | None) -> str | None:
    """Why a candidate cannot go on with its shadow run; what the gate said of one that it turned down."""
    starts = _starts(candidate)
    if not candidate.figures.get("accepted"):
        return str(candidate.figures.get("reason"))
    if active is None or candidate.parent != active.no:
        return f"the model that it was learnt from, {candidate.parent}, is not active any more"
    if starts >= MAX_STARTS:
        return f"the device died {starts} times during its shadow run"
    return None


def _starts(candidate: Version) -> int:
    """How often its shadow run has begun and not come to a clean end."""
    return int(str(candidate.figures.get("shadow_starts", 0)))
