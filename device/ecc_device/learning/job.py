"""What the device hands to its learner, and what comes back: files in one folder, no pickle.

`job.json` and `rows.safetensors` go in; `candidate.pt` and, last and atomically, `outcome.json` come out.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecc_device.store import Row
from ecc_model import safetensors
from ecc_model.errors import ModelError, UpdateError
from ecc_model.numerics import softmax

MIN_ROWS = 20  # labelled rows that are worth an update
MAX_ROWS = 2048  # the newest ones; at full width and T 4 they take 1.7 of the learner's 2 GiB
MIN_NEW_CLASS_ROWS = 5  # answers that must name a new class before the device learns it
HELD_EVERY = 5  # of each class every fifth row is never learnt from: it judges and calibrates
EVEN_CHANCE = 0.5  # of the cloud's own answer; below it the answer is wrong more often than right
OUTCOME = "outcome.json"
ABSENT_LOGIT = -30.0  # from the answer's largest, for a class of ours that the cloud does not know

LabelNames = Callable[[bytes], tuple[str, ...] | None]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One update: which model learns, what its classes will be, from which rows, how."""

    model: str  # path of the active model
    labels: list[str]  # the model's labels, then the new ones
    row_ids: list[int]
    learner: str
    seed: int
    unsure: int = 0  # answered rows that wait: see `ecc_device.learning.doubt`


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the learner's process decided, with the figures behind it."""

    accepted: bool
    reason: str
    sha256: str  # of candidate.pt
    figures: dict[str, Any]
    probe: list[list[float]]  # logits of the first judging rows; the device must get the same bits
    row_ids: list[int]  # that were learnt or held out; the job's others wait


def assemble(
    model: Path, labels: Sequence[str], rows: Sequence[Row], names: LabelNames, learner: str, seed: int
) -> tuple[Job, dict[str, NDArray[Any]]]:
    """A job from labelled rows: bits uint8 (R, bytes), logits float32 (R, N), held uint8 (R,).

    Classes grow by what the cloud's answers name at least `MIN_NEW_CLASS_ROWS` times; rows that name a rarer one, rows
    of whose answer the cloud is unsure, and rows beyond `MAX_ROWS`, wait for another update. `UpdateError` when fewer
    than `MIN_ROWS` rows are left.
    """
    answered = [(row, answer) for row in rows if (answer := _answer(row, names)) is not None]
    named = [(row, answer) for row, answer in answered if max(softmax(list(answer.values()))) >= EVEN_CHANCE]
    unsure, named = len(answered) - len(named), named[-MAX_ROWS:]
    counts = Counter(max(answer, key=answer.__getitem__) for _, answer in named)
    grown = list(labels)
    for _, answer in named:
        grown += [n for n in answer if n not in grown and counts[n] >= MIN_NEW_CLASS_ROWS]
    used = [(row, answer) for row, answer in named if max(answer, key=answer.__getitem__) in grown]
    if len(used) < MIN_ROWS:
        doubted = f", {unsure} others of which the cloud is unsure" if unsure else ""
        raise UpdateError(f"{len(used)} labelled rows to learn from{doubted}; an update needs {MIN_ROWS}")
    logits = np.array(
        [[answer.get(n, max(answer.values()) + ABSENT_LOGIT) for n in grown] for _, answer in used], np.float32
    )
    ids = [row.id for row, _ in used]
    job = Job(model=str(model), labels=grown, row_ids=ids, learner=learner, seed=seed, unsure=unsure)
    packed = np.stack([np.frombuffer(row.bits, np.uint8) for row, _ in used])
    return job, {"bits": packed, "logits": logits, "held": held_out(logits.argmax(axis=1))}


def _answer(row: Row, names: LabelNames) -> dict[str, float] | None:
    """The cloud's answer as name -> logit; None for a row without a usable one, or whose names nobody told."""
    if row.logits is None or row.labels_id is None:
        return None
    labels = names(row.labels_id)
    if labels is None or len(row.logits) != 4 * len(labels):
        return None
    values = np.frombuffer(row.logits, "<f4")
    if not np.isfinite(values).all():
        return None
    return dict(zip(labels, values.tolist(), strict=True))


def held_out(labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Marks every fifth row of each class, in row order."""
    held = np.zeros(len(labels), np.uint8)
    for label in np.unique(labels):
        held[np.flatnonzero(labels == label)[HELD_EVERY - 1 :: HELD_EVERY]] = 1
    return held


def write_job(folder: Path, job: Job, arrays: dict[str, NDArray[Any]]) -> None:
    """Write a job into an empty folder; it is whole once `job.json` is there."""
    folder.mkdir(parents=True)
    write_whole(folder / "rows.safetensors", safetensors.dump(arrays))
    write_whole(folder / "job.json", msgspec.json.encode(job))


def read_job(folder: Path) -> tuple[Job, dict[str, NDArray[Any]]]:
    """Read what `write_job` wrote."""
    try:
        job = msgspec.json.decode((folder / "job.json").read_bytes(), type=Job)
        return job, safetensors.load((folder / "rows.safetensors").read_bytes())
    except (OSError, msgspec.MsgspecError, ModelError) as exc:
        raise UpdateError(f"{folder}: not a complete update job: {exc}") from exc


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """The last thing that a learner does: whole or not there."""
    write_whole(folder / OUTCOME, msgspec.json.encode(outcome))


def read_outcome(folder: Path) -> Outcome:
    """`UpdateError` when the learner ended without an outcome or wrote something else."""
    try:
        return msgspec.json.decode((folder / OUTCOME).read_bytes(), type=Outcome)
    except (OSError, msgspec.MsgspecError) as exc:
        raise UpdateError(f"the learner left no valid outcome: {exc}") from exc


def write_whole(path: Path, data: bytes) -> None:
    """A file that is whole or not there, also after a power cut."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    partial.replace(path)
