"""Class-incremental splits, as the field writes them: B classes first, then Inc more with each task."""

from __future__ import annotations

import re

from ecc_tools.data.errors import BadTasks

_FORM = re.compile(r"B([0-9]{1,6})-Inc([0-9]{1,6})")


def parse_tasks(text: str, classes: int) -> list[tuple[int, ...]]:
    """The classes of each task, 0 to `classes` - 1 in their natural order; `B0-Inc20` is equal parts of 20.

    `BadTasks` for another form, or one that does not divide the classes.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise BadTasks(text, "no class-incremental split")
    base, step = int(found[1]), int(found[2])
    if step == 0:
        raise BadTasks(text, "tasks without classes")
    if base > classes or (classes - base) % step:
        raise BadTasks(text, f"{classes} classes cannot be split so")
    first = [tuple(range(base))] if base else []
    return [*first, *(tuple(range(start, start + step)) for start in range(base, classes, step))]
