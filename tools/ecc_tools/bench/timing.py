"""Timing candidates against each other: all of them in turn, round by round, so that they share a machine's moods."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

WARM_UP = 3  # calls of each candidate before the first round
SLICE_S = 0.03  # a candidate's share of a round, one call at least


def alternate(candidates: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of one call, (rounds,) for each candidate: the median of its calls in that round.

    A candidate is called with a running number, which chooses its frame. Each round starts with another candidate.
    """
    names = list(candidates)
    calls = {name: _calls(candidates[name]) for name in names}
    times = {name: np.zeros(rounds) for name in names}
    for index in range(rounds):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            call, spent = candidates[name], np.zeros(calls[name])
            for number in range(calls[name]):
                begin = time.perf_counter()
                call(index * calls[name] + number)
                spent[number] = time.perf_counter() - begin
            times[name][index] = 1e3 * np.median(spent)
    return times


def _calls(call: Callable[[int], object]) -> int:
    """How many calls fill a slice of a round."""
    begin = time.perf_counter()
    for number in range(WARM_UP):
        call(number)
    return max(1, int(SLICE_S * WARM_UP / (time.perf_counter() - begin)))


def spread(values: NDArray[np.float64]) -> dict[str, float]:
    """Median and the range from 5 % to 95 %."""
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return {"median": round(float(middle), 4), "p5": round(float(low), 4), "p95": round(float(high), 4)}


def compare(times: Mapping[str, NDArray[np.float64]], name: str) -> dict[str, dict[str, Any]]:
    """Of each candidate its milliseconds, and how many times longer than `name` it takes, round by round."""
    return {other: {"ms": spread(spent), "ratio": spread(spent / times[name])} for other, spent in times.items()}


def machine() -> dict[str, str]:
    """What figures depend on."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        lines = []
    return lines[0] if lines else platform.processor()
