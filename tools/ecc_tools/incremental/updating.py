"""One update as a device makes it: a job, the learner's own process, the gate's decision, the candidate's file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_device.learning.job import ABSENT_LOGIT, Job, assemble, held_out, read_outcome, write_job
from ecc_device.learning.process import ONE_THREAD
from ecc_device.store import Row
from ecc_model.errors import UpdateError
from ecc_model.modelfile import EdgeModel, labels_id, read_edge
from ecc_tools.bench.learners import CHILD
from ecc_tools.incremental.scenes import Scene

UNGATED = ("lwf-plain",)  # as published there is no gate: what it learnt is always taken
RECORDED = ("accepted", "reason", "learner", "rows", "seconds", "mib")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Update:
    """The candidate that the gate preferred, whether it accepts it, and what making it took.

    row_ids: that it learnt or was judged by, from 1; rows: how many they are; seconds: of one processor; mib: most
    memory that the learner's process held.
    """

    model: EdgeModel
    accepted: bool
    reason: str
    learner: str
    row_ids: list[int]
    seconds: float
    mib: float

    @property
    def rows(self) -> int:
        """Of the update."""
        return len(self.row_ids)

    @property
    def record(self) -> dict[str, Any]:
        """For JSON."""
        return {name: getattr(self, name) for name in RECORDED}


def told_by_cloud(model: EdgeModel, scene: Scene, learner: str, seed: int) -> tuple[Job, Arrays]:
    """The job of rows with the cloud's answers, as the device makes it of its store. `UpdateError`: too few rows."""
    named, features = labels_id(scene.labels), bytes.fromhex(model.program.features_id)
    logits = np.zeros((0, 0), np.float32) if scene.logits is None else scene.logits
    rows = [
        Row(
            id=index + 1,
            time_s=0.0,
            features_id=features,
            bits=row.tobytes(),
            edge_label="",
            state="labelled",
            logits=answer.astype("<f4").tobytes(),
            labels_id=named,
            answered_s=0.0,
            sent=1,
            version_no=None,
        )
        for index, (row, answer) in enumerate(zip(scene.rows, logits, strict=True))
    ]
    return assemble(model.path, model.labels, rows, lambda _: scene.labels, learner, seed)


def told_truth(model: EdgeModel, scene: Scene, names: Sequence[str], learner: str, seed: int) -> tuple[Job, Arrays]:
    """The job of rows with their true classes as the cloud would tell them, if it were always right and sure.

    names: all classes, in the order in which new ones join. However many rows there are, all of them are one job.
    """
    here = set(scene.truth.tolist())
    labels = [*model.labels, *(name for name in names if name in here and name not in model.labels)]
    position = {name: index for index, name in enumerate(labels)}
    truth = np.array([position[name] for name in scene.truth.tolist()], np.int64)
    logits = np.full((len(truth), len(labels)), ABSENT_LOGIT, np.float32)
    logits[np.arange(len(truth)), truth] = 0.0
    job = Job(model=str(model.path), labels=labels, row_ids=[*range(1, len(truth) + 1)], learner=learner, seed=seed)
    return job, {"bits": scene.rows, "logits": logits, "held": held_out(truth)}


@dataclass(frozen=True, eq=False)
class Decided:
    """What became of an update: the model from now on, the rows that wait for the next one, and a record of it.

    candidate: whatever the gate says of it; None where none was made.
    """

    model: EdgeModel
    candidate: EdgeModel | None
    waiting: Scene
    record: dict[str, Any]


def learn_answers(model: EdgeModel, scene: Scene, learner: str, seed: int, folder: Path) -> Decided:
    """One update by the cloud's answers. Rows that were learnt are not learnt again; a rejected one leaves them all."""
    try:
        made = update(*told_by_cloud(model, scene, learner, seed), folder)
    except UpdateError as error:
        return Decided(
            model, None, scene, dict.fromkeys(RECORDED) | {"accepted": False, "reason": str(error), "rows": 0}
        )
    if not made.accepted and learner not in UNGATED:
        return Decided(model, made.model, scene, made.record)
    learnt = np.isin(np.arange(len(scene)) + 1, made.row_ids)
    return Decided(made.model, made.model, scene.at(~learnt), made.record)


def learn_truth(
    model: EdgeModel, scene: Scene, names: Sequence[str], learner: str, seed: int, folder: Path
) -> EdgeModel:
    """The candidate of an update by the truth, whatever the gate says of it; the model itself where none is made."""
    try:
        return update(*told_truth(model, scene, names, learner, seed), folder).model
    except UpdateError:
        return model


def update(job: Job, arrays: Arrays, folder: Path) -> Update:
    """Run the job in the process that a device starts for it; `folder`, which must be new, keeps the candidate.

    `UpdateError` with the learner's last words.
    """
    write_job(folder, job, arrays)
    command = [sys.executable, "-c", CHILD, str(folder), str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | ONE_THREAD)
    if done.returncode:
        words = (done.stderr.splitlines() or ["no message"])[-1]
        raise UpdateError(f"the learner '{job.learner}' failed (exit {done.returncode}): {words}")
    used, outcome = json.loads(done.stdout.splitlines()[-1]), read_outcome(folder)
    return Update(
        model=read_edge(folder / "candidate.pt"),
        accepted=outcome.accepted,
        reason=outcome.reason,
        learner=str(outcome.figures.get("learner", job.learner)),
        row_ids=outcome.row_ids,
        seconds=round(float(used["seconds"]), 2),
        mib=round(float(used["mib"]), 1),
    )
