"""report.json: its contract as types, and the record of one run of the demo that follows it.

docs/report.md says the same in words. Fields are only ever added; readers ignore what they do not know.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec

from ecc_model.errors import EccError
from ecc_tools.demo_data import DemoData

SCHEMA = 1
OURS = 1  # the row of the learners' table that the device really used

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Amount = Annotated[float, msgspec.Meta(ge=0)]
Record = dict[str, Any]


class Latency(msgspec.Struct, frozen=True):
    """Percentiles over all frames of a stream, ms."""

    p50: Amount
    p95: Amount
    p99: Amount


class StreamFigures(msgspec.Struct, frozen=True):
    """One replay."""

    name: str
    frames: Count
    edge_accuracy: Share
    collab_accuracy: Share
    upload_rate: Share  # uploads / frames
    old_accuracy: Share  # the edge alone on the classes of Setup
    bytes_per_upload: Amount | None  # None: nothing went up
    latency_ms: Latency


class Candidate(msgspec.Struct, frozen=True):
    """One of the learners' candidates, and what the gate said of it."""

    learner: str
    reason: str
    held_agreement_after: Share
    known_loss_points: float
    ece_after: Amount


class DecisionFigures(msgspec.Struct, frozen=True):
    """What the device decided by: see `ecc-device why-update`. The shadow run's are None where there was none."""

    learner: str = ""
    candidates: list[Candidate] = []
    skipped: dict[str, str] = {}
    unsure: Count = 0
    contradicted: Count = 0
    judge_rows: Count = 0
    held_rows: Count = 0
    shadow_frames: Count | None = None
    shadow_clear: Count | None = None
    shadow_changed: Count | None = None
    shadow_new: Count | None = None


class UpdateFigures(msgspec.Struct, frozen=True):
    """The update between the two replays."""

    rows: Count
    seconds: Amount
    accepted: bool
    reason: str
    figures: DecisionFigures = DecisionFigures()


class WorkerCounts(msgspec.Struct, frozen=True):
    """Requests, as the worker counts them."""

    received: Count
    answered: Count


class DeviceCounts(msgspec.Struct, frozen=True):
    """Requests, as the device counts them."""

    sent: Count
    answered: Count


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The fields that a report.json of schema 1 has, in the order in which they are written."""

    schema: int
    seed: int
    streams: list[StreamFigures]
    update: UpdateFigures
    worker: WorkerCounts
    device: DeviceCounts | None = None
    versions: dict[str, str]
    commands: list[str]
    machine: dict[str, str] = {}
    seconds: dict[str, Amount] = {}


def check(record: Record) -> Report:
    """The typed view of a record; `EccError` names the first field that breaks the contract."""
    remedy = "make it again with: ecc-tools demo"
    try:
        report = msgspec.convert(record, Report)
    except msgspec.ValidationError as exc:
        raise EccError(f"not a report of schema {SCHEMA} ({exc}); {remedy}") from exc
    if report.schema != SCHEMA:
        raise EccError(f"a report of schema {report.schema}, this version reads {SCHEMA}; {remedy}")
    if not report.streams:
        raise EccError(f"not a report of schema {SCHEMA} (no streams); {remedy}")
    return report


def complete(data: DemoData) -> Record:
    """What report.json holds: `data.report` in the contract's order, then what follows from the rest of `data`.

    Added unless `data.report` has them: raw_frame_bytes, learners, checks.
    """
    check(data.report)
    fields = [*Report.__struct_fields__, *(key for key in data.report if key not in Report.__struct_fields__)]
    record = {key: data.report[key] for key in fields if key in data.report}
    record.setdefault("raw_frame_bytes", raw_frame_bytes(data))
    record.setdefault("learners", [msgspec.to_builtins(row) for row in data.learners])
    record.setdefault("checks", [{"promise": p, "measured": m, "kept": kept} for p, m, kept in data.checks])
    return record


def to_json(value: Record) -> str:
    """Indented JSON, keys in the order given, one line at the end; a number that is not finite is a `ValueError`."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def uploads_needed(data: DemoData) -> tuple[int | None, int | None]:
    """Uploads for `data.target_accuracy` on the second stream, with the old model and with the updated one."""
    needed = [row.uploads_needed for row in data.learners[: OURS + 1]]
    before, after = (*needed, None, None)[:2]
    return before, after


def fewer(before: int | None, after: int | None) -> float | None:
    """The share of uploads that the update saves, negative if it costs more; None where a side has no number or 0."""
    return None if after is None or not before else 1.0 - after / before


def raw_frame_bytes(data: DemoData) -> int | None:
    """The size of one frame as it is, before any compression; None without an example to measure."""
    return int(data.examples[0].pixels.nbytes) if data.examples else None


def percent(share: float) -> str:
    """A share as text: 0.874 is "87.4 %"."""
    return f"{100 * share:.1f} %"


def stream_rows(report: Report) -> list[tuple[str, list[str]]]:
    """The table of the streams as text: a row's name and one cell for each stream."""
    streams = report.streams
    return [
        ("frames", [str(s.frames) for s in streams]),
        ("edge accuracy", [percent(s.edge_accuracy) for s in streams]),
        ("collaborative accuracy", [percent(s.collab_accuracy) for s in streams]),
        ("upload rate", [percent(s.upload_rate) for s in streams]),
        ("old-class accuracy (edge)", [percent(s.old_accuracy) for s in streams]),
        ("bytes per upload", ["–" if s.bytes_per_upload is None else f"{s.bytes_per_upload:.1f}" for s in streams]),
        ("latency p50 / p95", [f"{s.latency_ms.p50:.1f} / {s.latency_ms.p95:.1f} ms" for s in streams]),
    ]


def verdict(kept: bool) -> str:
    """A check's result in words."""
    return "kept" if kept else "not kept"


def stream_title(name: str) -> str:
    """The heading of a stream's column."""
    return {"first": "first (before the update)", "second": "second (after it)"}.get(name, name)
