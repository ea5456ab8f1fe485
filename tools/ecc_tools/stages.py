"""Progress bars for a sequence of named stages."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Stage = Callable[[str], Callable[[float], None]]  # opens the progress bar of a named stage


@contextlib.contextmanager
def stages(prefix: str) -> Iterator[Stage]:
    """Yields a function that opens the bar of a named stage; a line per stage where standard error is no terminal."""
    console = Console(stderr=True)
    if not sys.stderr.isatty():

        def announce(title: str) -> Callable[[float], None]:
            console.print(f"{prefix}{title}")
            return lambda share: None

        yield announce
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console) as bars:

        def open_bar(title: str) -> Callable[[float], None]:
            task = bars.add_task(f"{prefix}{title}", total=1.0)
            return lambda share: bars.update(task, completed=share)

        yield open_bar
