"""A progress bar for whatever takes longer than two seconds; silent where nobody watches."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

SHOW_AFTER_S = 2.0


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Callable[[float], None]]:
    """Yields a function that takes the finished share, 0 to 1. Drawn on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda share: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(title, total=1.0)
    started = time.monotonic()

    def told(share: float) -> None:
        if not bar.live.is_started and time.monotonic() - started >= SHOW_AFTER_S:
            bar.start()
        bar.update(task, completed=share)

    try:
        yield told
    finally:
        if bar.live.is_started:
            bar.stop()
