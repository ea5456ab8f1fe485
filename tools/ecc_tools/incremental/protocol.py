"""Standard class-incremental protocols: task after task, true labels as teacher, judged on all classes seen so far.

The learner is the device's, in the device's process; the base network's head stays as it is. No gate decides here:
protocols ask what a learner learns, so its candidate is always taken, and what the gate says of it is noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ecc_model.modelfile import EdgeModel
from ecc_tools.assembling import BottleneckConfig
from ecc_tools.incremental.errors import IncrementalError
from ecc_tools.incremental.scenes import Scene, right
from ecc_tools.incremental.scores import by_class, forgetting, percent
from ecc_tools.incremental.updating import told_truth, update
from ecc_tools.training import Progress

Tasks = Sequence[Sequence[str]]


def check_base(model: EdgeModel, tasks: Tasks, split: str) -> None:
    """`IncrementalError` unless the model, its head too, has seen just the first task, and there is a second one."""
    if list(model.labels) != list(tasks[0]):
        raise IncrementalError(
            f"{model.path} knows {len(model.labels)} classes ({', '.join(model.labels[:3])}, ...), {split} begins with "
            f"{len(tasks[0])} ({', '.join(tasks[0][:3])}, ...); train its network with: --tasks {split}"
        )
    if len(tasks) < 2:
        raise IncrementalError(f"{split} has no task after the first; choose a split with classes to learn")
    made = model.manifest.provenance.get("bottleneck")
    if made is not None and msgspec.json.decode(made, type=BottleneckConfig).together:
        raise IncrementalError(
            f"{model.path}: assembled with --together, its head has seen images of all classes; give its network's run"
        )


def seen_beyond(model: EdgeModel, base: Sequence[str]) -> list[str] | None:
    """Classes beyond the `base` task that the model's network, its teacher or what it began with have seen.

    None where the model file does not tell.
    """
    seen: list[str] = msgspec.json.decode(model.manifest.provenance.get("seen", "[]"))
    return [name for name in seen if name not in base] if seen else None


def run_protocol(
    base: EdgeModel, tasks: Tasks, learn: Scene, test: Scene, learner: str, seed: int, folder: Path, told: Progress
) -> dict[str, Any]:
    """One learner and seed through all tasks; `folder`, new, keeps the candidates. The seed shuffles rows and steps."""
    model, order = base, np.random.default_rng(seed).permutation(len(learn))
    names = [name for task in tasks for name in task]
    found = [_judged(model, test, tasks[0])]
    updates = []
    for number, task in enumerate(tasks[1:], 1):
        rows = order[np.isin(learn.truth[order], task)]
        made = update(*told_truth(model, learn.at(rows), names, learner, seed), folder / str(number))
        model = made.model
        found.append(_judged(model, test, [name for seen in tasks[: number + 1] for name in seen]))
        updates.append(made.record)
        told(number / (len(tasks) - 1))
    seconds, mib = [made["seconds"] for made in updates], [made["mib"] for made in updates]
    return summarize(found) | {"seconds": max(seconds), "mib": max(mib), "updates": updates}


def summarize(found: Sequence[tuple[float, dict[str, float]]]) -> dict[str, Any]:
    """Average and last accuracy and forgetting of (accuracy, class -> accuracy) after each task."""
    accuracies = [accuracy for accuracy, _ in found]
    lost = forgetting([classes for _, classes in found])
    return {
        "accuracies": accuracies,
        "average": float(np.mean(accuracies)),
        "last": accuracies[-1],
        "forgetting": float(np.mean(list(lost.values()))),
        "forgetting_by_class": lost,
    }


def _judged(model: EdgeModel, test: Scene, seen: Sequence[str]) -> tuple[float, dict[str, float]]:
    shown = test.at(np.isin(test.truth, seen))
    flags = right(model, shown)
    return percent(flags), by_class(flags, shown.truth, seen)
