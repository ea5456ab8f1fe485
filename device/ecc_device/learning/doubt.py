"""Teacher doubt: the answers of the cloud that an update does not believe yet. Their rows wait for a later one.

| the row waits when                                                  | because                              |
|---------------------------------------------------------------------|--------------------------------------|
| the cloud gives its own answer less than an even chance (`job.py`)  | it is wrong more often than right    |
| the cloud names another known class than a clear answer of the edge | see `ecc_device.learning.clear`      |

A later update asks again, with what the edge knows by then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecc_device.learning.clear import clear_level, contradicted
from ecc_device.learning.job import MIN_ROWS, Job
from ecc_device.learning.lesson import Logits, exit_logits
from ecc_model.errors import UpdateError
from ecc_model.modelfile import EdgeModel


@dataclass(frozen=True, eq=False)
class Believed:
    """A job without the rows that contradict clear answers.

    contradicted: how many they were; judging, held: the old model's logits of the guard's judging rows (J, N) and of
    the held-out rows (H, N).
    """

    job: Job
    arrays: dict[str, NDArray[Any]]
    contradicted: int
    judging: Logits
    held: Logits


def believe(model: EdgeModel, job: Job, arrays: dict[str, NDArray[Any]]) -> Believed:
    """What is left of a job. `UpdateError` when that is too little."""
    guard, program = model.guard, model.program
    judging = exit_logits(program, guard.bits[guard.judge.astype(np.bool_)])
    # of rows that name a new class nothing is contradicted: the exit runs on the others only
    asked = arrays["held"].astype(np.bool_) | (arrays["logits"].argmax(axis=1) < program.classes)
    edge = np.zeros((len(asked), program.classes), np.float32)
    edge[asked] = exit_logits(program, arrays["bits"][asked])
    level = clear_level(judging, model.temperature)
    kept = ~contradicted(edge, arrays["logits"], model.temperature, level)
    row_ids = [row_id for row_id, keep in zip(job.row_ids, kept, strict=True) if keep]
    doubted = len(kept) - len(row_ids)
    if len(row_ids) < MIN_ROWS:
        raise UpdateError(
            f"{len(row_ids)} labelled rows to learn from, {doubted} others contradict clear answers of the edge; "
            f"an update needs {MIN_ROWS}"
        )
    left = {name: array[kept] for name, array in arrays.items()}
    held = edge[kept][left["held"].astype(np.bool_)]
    return Believed(msgspec.structs.replace(job, row_ids=row_ids), left, doubted, judging, held)
