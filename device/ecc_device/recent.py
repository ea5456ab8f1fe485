"""The newest decisions of a device, so that it can say why: in memory, and in its state folder after a clean end."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from ecc_device.frame import Frame
from ecc_device.results import Result
from ecc_model.bits import Spikes
from ecc_model.errors import DeviceError

KEPT = 1024  # decisions
FILE_NAME = "decisions.jsonl"


class RecentDecisions:
    """The last `KEPT` results by frame number; any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: OrderedDict[int, Result] = OrderedDict()

    def add(self, frame: Frame, split: Spikes, result: Result) -> None:
        """A new result; as a listener of `Runtime.on_frame`."""
        with self._lock:
            self._results[result.frame] = result
            while len(self._results) > KEPT:
                self._results.popitem(last=False)

    def correct(self, result: Result) -> None:
        """A late answer's result takes the place of the first one."""
        with self._lock:
            if result.frame in self._results:
                self._results[result.frame] = result

    def facts(self, frame: object) -> dict[str, Any]:
        """The facts of `Explanation` for one frame; `DeviceError` for one that is not among them."""
        with self._lock:
            result = self._results.get(frame) if isinstance(frame, int) else None
            numbers = list(self._results)
        if result is None:
            raise _not_there(frame, numbers)
        return result.explain().facts

    def write(self, folder: Path) -> None:
        """Leave them in the state folder; without any, what an earlier run left stays. `OSError`."""
        with self._lock:
            results = list(self._results.values())
        if results:
            lines = [json.dumps(result.explain().facts, ensure_ascii=False) for result in results]
            (folder / FILE_NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_facts(folder: Path, frame: int) -> dict[str, Any]:
    """What a device that has ended left about one frame. `DeviceError`: nothing, or other frames."""
    path = folder / FILE_NAME
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        by_frame: dict[int, dict[str, Any]] = {record["frame"]: record for record in records}
    except FileNotFoundError as exc:
        raise DeviceError(f"{folder}: holds no decisions; name a recording with --recording out.mcap") from exc
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise DeviceError(f"{path}: cannot be read; name a recording with --recording out.mcap") from exc
    if frame not in by_frame:
        raise _not_there(frame, list(by_frame))
    return by_frame[frame]


def _not_there(frame: object, numbers: list[int]) -> DeviceError:
    known = f"frames {min(numbers)} to {max(numbers)} are known" if numbers else "no frame was classified yet"
    return DeviceError(f"frame {frame}: {known}; for others name a recording with --recording out.mcap")
