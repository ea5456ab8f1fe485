"""A recording's time as it is waited for and drawn: gaps and jumps of the clock cut short."""

from __future__ import annotations

MAX_GAP_S = 10.0  # between two frames; a longer gap, or a clock that was set, counts as this or as nothing


class Timeline:
    """Seconds since the first frame, never going back and never more than `MAX_GAP_S` ahead."""

    def __init__(self) -> None:
        self._last_s: float | None = None
        self._passed_s = 0.0

    def at(self, time_s: float) -> float:
        """The place of the next frame, with this stamp."""
        if self._last_s is not None:
            self._passed_s += min(max(time_s - self._last_s, 0.0), MAX_GAP_S)
        self._last_s = time_s
        return self._passed_s
