"""Figures of class-incremental learning, and how they spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ecc_tools.incremental.scenes import Flags, Names


def by_class(right: Flags, truth: Names, names: Sequence[str]) -> dict[str, float]:
    """Accuracy in percent on the frames of each of the classes that has any."""
    return {name: percent(right[truth == name]) for name in names if (truth == name).any()}


def forgetting(tasks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Points that each class has lost in the end, from the best accuracy that it had after an earlier task.

    tasks: class -> accuracy after each task. The last task's classes are not among them: nothing came after it.
    """
    *earlier, last = tasks
    classes = earlier[-1] if earlier else {}
    return {name: max(task[name] for task in earlier if name in task) - last[name] for name in classes}


def percent(right: Flags) -> float:
    """Share of `right` in percent; 0 of nothing."""
    return 100.0 * float(right.mean()) if len(right) else 0.0


def over_seeds(found: Sequence[Any]) -> Any:
    """What seeds gave, nested alike, as one: mean and range of numbers, a list of texts or of yes and no.

    None where a seed gave nothing.
    """
    first = found[0]
    if any(isinstance(value, str | bool) for value in found):
        return list(found)
    if any(value is None for value in found):
        return None
    if isinstance(first, dict):
        return {name: over_seeds([one[name] for one in found]) for name in first}
    if isinstance(first, list):
        return [over_seeds(values) for values in zip(*found, strict=True)]
    return {"mean": float(np.mean(found)), "low": min(found), "high": max(found)}
