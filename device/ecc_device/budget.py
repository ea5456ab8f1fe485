"""Upload budgets: at most a share of the frames, or so many bytes an hour.

A budget keeps two accounts. The *reserve* grows by what is allowed with each frame, holds a tenth of a window's budget,
and pays for each request. The *window* (1,000 frames, or one hour) is the hard limit: never above 110 % of the budget.

Which frames go up is a quantile of the scores, tracked on line: with a share p and a reserve that is filled to u (0 to
1), the threshold lets the best `p u / (1 - u)` of the last `SCORES` frames pass. A reserve that runs dry raises the
threshold, one that is full sends all that is ambiguous. The filter's own threshold stays the floor: what the edge is
sure about never goes up, so that an easy stream costs less than its budget.

The same frames, stamps and request sizes give the same decisions on every machine.
"""

from __future__ import annotations

import bisect
import math
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ecc_model.errors import DeviceError

SCORES = 200  # frames whose scores make the quantile
WINDOW_FRAMES = 1000
WINDOW_S = 3600.0
RESERVE = 0.1  # of a window's budget
HARD_LIMIT = 1.1  # of a window's budget
SMOOTHING = 0.01  # of the mean time between two frames
MIN_SHARE = 0.001  # one frame in a window
_UNITS = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}
_TEXT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:(%)|(b|kb|mb|gb)\s*/\s*h)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Spending:
    """What a budget said about one frame."""

    limit: str  # the budget as it was given
    allowed: bool
    threshold: float | None  # a score above it goes up; None: nothing does, the budget is used up
    used: float  # in the window: requests of the last 1,000 frames, or bytes of the last hour
    room: float  # share of the reserve that is left, 0 to 1
    backlog: tuple[int, ...]  # what went up for earlier frames since the frame before, as bytes each

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "limit": self.limit,
            "threshold": self.threshold,
            "used": self.used,
            "room": self.room,
            "backlog": list(self.backlog),
        }


class Budget:
    """Decides which ambiguous frames may go up. Any thread may call; frames come in one order.

    limit: the budget as text, for people. amount: requests a frame, or bytes a second. window: its length, in frames or
    seconds. slot: what the window counts in one piece, in the same unit. cost: what a request of so many bytes takes.
    """

    def __init__(
        self, limit: str, amount: float, *, window: float, slot: float, cost: Callable[[int], float], by_time: bool
    ) -> None:
        self.limit = limit
        self._amount, self._window, self._slot = amount, window, slot
        self._cost, self._by_time = cost, by_time
        self._whole = amount * window
        self._lock = threading.Lock()
        self._scores: deque[float] = deque()  # of the last frames, in their order
        self._ranked: list[float] = []  # the same, from small to large
        self._sent: deque[list[float]] = deque()  # [slot number, what was spent in it]
        self._used = 0.0
        self._now = 0.0  # frames so far, or seconds since the first one
        self._stamp_s: float | None = None
        self._income = 0.0 if by_time else amount  # mean of what one frame adds
        self._price = 0.0 if by_time else 1.0  # of the next request, as far as known
        self._reserve = self._capacity / 2
        self._backlog: list[int] = []

    @property
    def room(self) -> float:
        """Share of the reserve that is left, 0 to 1."""
        return self._reserve / self._capacity

    @property
    def bytes_left(self) -> float:
        """`room` of a budget in bytes; 1 of one in frames, which short requests do not save."""
        return self.room if self._by_time else 1.0

    @property
    def used(self) -> float:
        """In the window: requests, or bytes."""
        return self._used

    @property
    def _capacity(self) -> float:
        return max(RESERVE * self._whole, 2.0 * self._price)

    def decide(self, time_s: float, score: float, floor: float) -> Spending:
        """Whether a frame with this stamp and score may go up; `floor` is the filter's threshold. Once a frame."""
        with self._lock:
            self._advance(time_s)
            threshold = max(floor, self._quantile())
            affordable = self._reserve >= self._price and self._used + self._price <= HARD_LIMIT * self._whole + 1e-9
            self._note(score)
            backlog, self._backlog = tuple(self._backlog), []
            return Spending(
                self.limit,
                affordable and score > threshold,
                threshold if affordable else None,
                self._used,
                self._reserve / self._capacity,
                backlog,
            )

    def spend(self, size: int, *, backlog: bool = False) -> None:
        """A request of `size` bytes went up: the newest frame's, or (`backlog`) that of an earlier one."""
        with self._lock:
            self._price = self._cost(size)
            self._reserve -= self._price
            self._used += self._price
            slot = max(0, math.ceil(self._now / self._slot) - 1)
            if not self._sent or self._sent[-1][0] != slot:
                self._sent.append([slot, 0.0])
            self._sent[-1][1] += self._price
            if backlog:
                self._backlog.append(size)

    def more(self, size: int) -> None:
        """`size` bytes more went up for a request that is booked already; it stays one request."""
        if self._by_time:
            self.spend(size, backlog=True)

    def repeat(self, backlog: Iterable[int]) -> None:
        """Book what a recorded `Spending.backlog` says, as it was booked then; before the frame that holds it."""
        for size in backlog:
            self.spend(size, backlog=True)

    def spare(self) -> bool:
        """Whether there is so much left that a frame of the past may ask: more than half of the reserve."""
        with self._lock:
            left = self._reserve - self._capacity / 2
            return left >= self._price and self._used + self._price <= HARD_LIMIT * self._whole

    def _advance(self, time_s: float) -> None:
        """One frame more: the reserve's income, and what falls out of the window."""
        passed = 1.0
        if self._by_time:  # a clock that was set back stands still for a frame
            passed = 0.0 if self._stamp_s is None else max(0.0, time_s - self._stamp_s)
            self._stamp_s = time_s
            self._income += ((passed * self._amount) - self._income) * SMOOTHING
        self._now += passed
        self._reserve = min(self._capacity, self._reserve + passed * self._amount)
        while self._sent and (self._sent[0][0] + 1) * self._slot <= self._now - self._window:
            self._used -= self._sent.popleft()[1]
        if not self._sent:
            self._used = 0.0  # no rounding is carried on

    def _quantile(self) -> float:
        """The score that the best frames of late are above, as many as the reserve can pay for."""
        left = 1.0 - self._reserve / self._capacity
        if left <= 0.0 or self._price == 0.0:
            return -math.inf
        share = self._income / self._price * (1.0 - left) / left
        passing = math.ceil(share * (len(self._ranked) + 1)) if share < 1.0 else len(self._ranked) + 1
        if passing <= 0:
            return math.inf
        return self._ranked[-passing] if passing <= len(self._ranked) else -math.inf

    def _note(self, score: float) -> None:
        if len(self._scores) == SCORES:
            del self._ranked[bisect.bisect_left(self._ranked, self._scores.popleft())]
        self._scores.append(score)
        bisect.insort(self._ranked, score)


def parse_budget(text: str) -> Budget:
    """A budget from text such as "5%" (of the frames) or "2MB/h"; `DeviceError` for anything else."""
    found = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise DeviceError(f"'{text!s:.40}' is not a budget; give a share of the frames, e.g. 5%, or bytes, e.g. 2MB/h")
    if found[2]:
        share = float(found[1]) / 100
        if not MIN_SHARE <= share <= 1.0:
            raise DeviceError(f"a budget of {text:.40}: give a share from {MIN_SHARE:.1%} to 100%")
        return Budget(text, share, window=WINDOW_FRAMES, slot=1.0, cost=lambda size: 1.0, by_time=False)
    hourly = float(found[1]) * _UNITS[found[3].lower()]
    if hourly <= 0.0:
        raise DeviceError(f"a budget of {text:.40}: give more than nothing, or choose the filter edge-only")
    return Budget(text, hourly / WINDOW_S, window=WINDOW_S, slot=WINDOW_S / 100, cost=float, by_time=True)
