"""Where a replay first differs from a recording that is known to be right."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from ecc_device.recordings.part import Part
from ecc_device.recordings.recording import Recording, Said
from ecc_device.results import Result
from ecc_model.errors import ReplayDiffers

MAX_SHOWN = 60  # characters of a value
_KINDS = {"/decisions": "decision", "/corrections": "correction"}


class Expectation:
    """A golden recording, read beside a replay: give it each result and correction in its order, then `end`."""

    def __init__(self, golden: Recording, part: Part) -> None:
        self._golden, self._part = golden, part
        self._said = self._wanted()

    def check(self, result: Result, kind: str = "decision") -> None:
        """Compare the next result, or ("correction") a corrected one. `ReplayDiffers` names the first field."""
        said = next(self._said, None)
        if said is None:
            raise self._differs(result.frame, kind, result.label, "nothing more")
        expected = _KINDS[said.topic]
        if expected != kind:
            raise self._differs(result.frame, "kind", kind, expected)
        found = msgspec.json.decode(msgspec.json.encode(result.to_record()))  # as it would be recorded
        for field, value, wanted in differences(found, said.message):
            raise self._differs(result.frame, field, value, wanted)

    def end(self) -> None:
        """The replay is over; `ReplayDiffers` when the golden recording has decisions that it did not come to."""
        left = next((said for said in self._said if said.topic == "/decisions"), None)
        if left is not None:
            raise self._differs(left.message["frame"], "decision", "nothing more", left.message["label"])

    def _wanted(self) -> Iterator[Said]:
        first_s: float | None = None
        for said in self._golden.said(*_KINDS):
            first_s = said.message["time_s"] if first_s is None else first_s
            if self._part.holds(said.message["time_s"] - first_s):
                yield said

    def _differs(self, frame: int, field: str, found: object, expected: object) -> ReplayDiffers:
        return ReplayDiffers(frame, field, _shown(found), _shown(expected), self._golden.name)


def differences(found: Any, expected: Any, field: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(field, found, expected) wherever two JSON values differ, in the order of `found`; "edge.probabilities[2]"."""
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        for name, value in found.items():
            inner = f"{field}.{name}" if field else name
            yield from differences(value, expected.get(name, "nothing"), inner)
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for index, (value, wanted) in enumerate(zip(found, expected, strict=True)):
            yield from differences(value, wanted, f"{field}[{index}]")
    elif found != expected:
        yield field, found, expected


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
