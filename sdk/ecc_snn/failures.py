"""What `strict=False` makes of an error: a warning at the caller's line, once, and a count."""

from __future__ import annotations

import sys
import threading
import warnings
from collections import Counter

_PACKAGE = __name__.partition(".")[0]


class EccWarning(UserWarning):
    """Something failed in an `Edge` with `strict=False`; said once for each line of the caller and kind of error."""


class Failures:
    """Counts errors by their type; any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._said: set[tuple[str, int, str]] = set()

    def add(self, error: Exception) -> None:
        """Count an error, and warn where the caller's line has not been told of its kind."""
        self.count(error)
        name, level, frame = type(error).__name__, 1, sys._getframe()
        while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
            frame, level = frame.f_back, level + 1
        place = (frame.f_code.co_filename, frame.f_lineno, name)
        with self._lock:
            new = place not in self._said
            self._said.add(place)
        if new:
            warnings.warn(
                f"{name}: {error} (strict=False: said once for this line, counted in status()['failures'])",
                EccWarning,
                stacklevel=level,
            )

    def count(self, error: Exception) -> None:
        """Count an error that no line of the caller's made."""
        with self._lock:
            self._counts[type(error).__name__] += 1

    def to_record(self) -> dict[str, int]:
        """Type of error -> how often."""
        with self._lock:
            return dict(self._counts)
