"""What a report says about a recording: counted and lined up in one reading, without its pictures."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ecc_device.recordings.channels import Event, ModelInUse, Update
from ecc_device.recordings.recording import Recording
from ecc_device.recordings.timeline import Timeline

MAX_EVENTS = 200  # listed; more are only counted
_TOPICS = ("/decisions", "/corrections", "/models", "/updates", "/events")


def _numbers() -> array[float]:
    return array("d")


@dataclass
class Survey:
    """One number a frame, in the order of the frames; times in seconds on the recording's `Timeline`."""

    at_s: array[float] = field(default_factory=_numbers)
    score: array[float] = field(default_factory=_numbers)
    threshold: array[float] = field(default_factory=_numbers)
    entropy: array[float] = field(default_factory=_numbers)  # of the edge's answer
    uploaded: array[float] = field(default_factory=_numbers)  # 1 or 0
    waiting: array[float] = field(default_factory=_numbers)  # rows of this recording without an answer, so far
    latency_ms: array[float] = field(default_factory=_numbers)
    labels: list[str] = field(default_factory=list)
    by_cloud: list[bool] = field(default_factory=list)  # whose answer stands
    answers: list[tuple[float, float]] = field(default_factory=list)  # (time, ms) of frames with an answer in time
    reasons: Counter[str] = field(default_factory=Counter)
    bytes_up: int = 0
    bytes_down: int = 0
    late: int = 0
    labelled: int = 0
    edge_right: int = 0
    right: int = 0
    models: list[tuple[float, ModelInUse]] = field(default_factory=list)
    link: list[tuple[float, bool]] = field(default_factory=list)
    events: list[tuple[float, str, str]] = field(default_factory=list)  # (time, kind, detail)
    more_events: int = 0

    def decided(self, at_s: float, decision: dict[str, Any]) -> None:
        """Count a frame's decision."""
        open_rows = self.waiting[-1] if self.waiting else 0.0
        asked, cloud = decision.get("row") is not None, decision["cloud"] is not None
        self.at_s.append(at_s)
        self.score.append(decision["score"])
        self.threshold.append(decision["threshold"])
        self.entropy.append(decision["edge"]["entropy"])
        self.uploaded.append(float(decision["uploaded"]))
        self.waiting.append(open_rows + (asked and not cloud))
        self.latency_ms.append(1000 * decision["latency_s"])
        self.labels.append(decision["label"])
        self.by_cloud.append(decision["stands"] == "cloud")
        self.reasons[decision["why"]] += 1
        self.bytes_up += decision["bytes_sent"]
        self.bytes_down += decision["bytes_received"]
        if cloud:
            self.answers.append((at_s, 1000 * decision["latency_s"]))
        if decision.get("truth") is not None:
            self.labelled += 1
            self.edge_right += decision["edge"]["label"] == decision["truth"]
            self.right += decision["label"] == decision["truth"]

    def corrected(self, correction: dict[str, Any]) -> None:
        """Count a late answer: one row fewer waits."""
        self.late += 1
        self.bytes_down += correction["bytes_received"]
        if self.waiting:
            self.waiting[-1] = max(0.0, self.waiting[-1] - 1)

    def happened(self, at_s: float, kind: str, detail: str) -> None:
        """List an event, or count it where too many are listed."""
        if len(self.events) < MAX_EVENTS:
            self.events.append((at_s, kind, detail))
        else:
            self.more_events += 1


def survey(recording: Recording) -> Survey:
    """Read a recording once, from end to end."""
    found, timeline, at_s = Survey(), Timeline(), 0.0
    for said in recording.said(*_TOPICS):
        match said.topic, said.message:
            case "/decisions", decision:
                at_s = timeline.at(decision["time_s"])
                found.decided(at_s, decision)
            case "/corrections", correction:
                found.corrected(correction)
            case _, ModelInUse() as model:
                found.models.append((at_s, model))
            case _, Update() as update:
                found.happened(at_s, "update", f"{'accepted' if update.accepted else 'not made'}: {update.reason}")
            case _, Event(kind="link", detail=detail):
                found.link.append((at_s, detail == "up"))
                found.happened(at_s, "link", detail)
            case _, Event(kind=kind, detail=detail):
                found.happened(at_s, kind, detail)
    return found
