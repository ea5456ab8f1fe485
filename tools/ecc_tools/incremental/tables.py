"""The comparisons as tables: for people, and for docs/results."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table as Printed

from ecc_tools.incremental.published import published
from ecc_tools.incremental.records import Record
from ecc_tools.results import SCHEMA, Cell, Column, Table

PROTOCOL = {
    "learner": "learner",
    "seed": "seed",
    "n": "n",
    "average": "average, %",
    "average_range": "range",
    "last": "last, %",
    "last_range": "range",
    "forgetting": "forgetting, points",
    "seconds": "s an update, at most",
    "mib": "MiB",
    "average_published": "published average",
    "last_published": "published last",
}
STREAM = {
    "learner": "learner",
    "seed": "seed",
    "n": "n",
    "frames": "frames passed",
    "accuracy": "accuracy, %",
    "accuracy_range": "range",
    "gain": "gain, points",
    "old_lost": "lost on old classes",
    "upload_rate": "uploads, %",
    "fewer_uploads": "fewer uploads at equal accuracy, %",
    "ratio": "share of the truth's gain, %",
    "accepted": "accepted",
    "candidate_gain": "candidate's gain",
    "candidate_lost": "candidate's loss",
    "seconds": "s",
    "mib": "MiB",
}
DRIFT = {
    "learner": "learner",
    "kind": "changed",
    "strength": "strength",
    "send": "sent",
    "seed": "seed",
    "n": "n",
    "before": "before, %",
    "uploads_before": "uploads, %",
    "together": "with the cloud, %",
    "after": "after, %",
    "uploads_after": "uploads, %",
    "candidate": "candidate, %",
    "told_truth": "told the truth, %",
    "won_back": "share of what the truth wins back, %",
    "won_back_range": "range",
    "clean_lost": "lost on clean frames, points",
    "accepted": "accepted",
}
SOME = 5  # names that a note tells
WIDE = 140  # characters, where no terminal says how many fit
_SHARES = "Every figure is the mean over seeds, its range behind it where there are several."


def protocol_table(found: Record, command: str) -> Table:
    """A row for each learner, and one for each published method."""
    settings, rows = found["settings"], []
    for row in found["rows"]:
        cells = {"learner": row["learner"], "n": row["n"], **_seeds(row)}
        cells |= _figure("average", row["average"]) | _figure("last", row["last"])
        cells |= {name: _mean(row[name]) for name in ("forgetting", "seconds", "mib")}
        rows.append(cells)
    others = published(settings["data"], settings["protocol"])
    rows += [{"learner": o.method, "average_published": o.average, "last_published": o.last} for o in others]
    notes = [
        _SHARES,
        *sorted(
            {
                f"Published: {', '.join(o.method for o in others if o.source == source)}: {source}, "
                "ResNet-18 in floats."
                for source in {o.source for o in others}
            }
        ),
    ]
    more = found["seen_beyond_base"]
    if more is None:
        notes.append("The model file does not tell which classes the base network's teacher or start have seen.")
    elif more:
        notes.append(
            "Not a standard protocol: the base network, its teacher or what it begins with has also seen "
            f"{', '.join(more[:SOME])}{', ...' if len(more) > SOME else ''}: not in the first task."
        )
    about = (
        "After each task accuracy on all classes seen so far, by the integer program; true labels as teacher, head "
        "frozen (lwf-full: nothing is). Average over all tasks, the base included."
    )
    return _table(
        60, f"Learners, {settings['data']} {settings['protocol']}", about, found, command, PROTOCOL, rows, notes
    )


def stream_table(found: Record, command: str) -> Table:
    """For each learner a row before, and one after each update."""
    settings, rows = found["settings"], []
    for row in found["rows"]:
        before = row["before"]
        first = {"learner": row["learner"], "frames": 0, "n": int(before["judged"]["mean"]), **_seeds(row)}
        rows.append(first | _figure("accuracy", before["accuracy"]) | {"upload_rate": _mean(before["upload_rate"])})
        for number, update in enumerate(row["updates"], 1):
            after, made = update["after"], update["update"]
            cells = {**first, "frames": number * settings["stream"], **_figure("accuracy", after["accuracy"])}
            cells |= {name: _mean(after[name]) for name in ("gain", "old_lost", "upload_rate")}
            cells |= {"fewer_uploads": _mean(after["fewer_uploads"], 100.0), "ratio": _mean(update["ratio"], 100.0)}
            cells |= {name: _mean(made[name]) for name in ("seconds", "mib")}
            tried = update["candidate"] or {}
            cells |= {"candidate_gain": _mean(tried.get("gain")), "candidate_lost": _mean(tried.get("old_lost"))}
            rows.append(cells | {"accepted": _accepted(made)})
    about = (
        f"{settings['stream']} frames of all classes pass, then the device learns from those that it sent up, with the "
        "cloud's answers; judged on other frames. Share of the truth's gain: of the gain that the same learner has "
        "from the true labels of every frame that passed. Equal accuracy: that of edge and cloud together before. The "
        "candidate's gain and its loss on old classes are those of an update also where the gate turned it down."
    )
    return _table(61, f"Learning from a stream, {settings['data']}", about, found, command, STREAM, rows, [_SHARES])


def drift_table(found: Record, command: str) -> Table:
    """A row for each learner, change, strength and way to send."""
    settings, rows = found["settings"], []
    for row in found["rows"]:
        before, after, during = row["before"], row["after"], row["during"]
        rows.append(
            {name: row[name] for name in ("learner", "kind", "strength", "send", "n")}
            | _seeds(row)
            | {"before": _mean(before["accuracy"]), "uploads_before": _mean(before["upload_rate"])}
            | {"together": _mean(during["collaborative_accuracy"])}
            | {"after": _mean(after["accuracy"]), "uploads_after": _mean(after["upload_rate"])}
            | {
                "candidate": _mean((row["candidate"] or {}).get("accuracy")),
                "told_truth": _mean(row["bound"]["accuracy"]),
            }
            | _figure("won_back", row["won_back"], 100.0)
            | {"clean_lost": _mean(row["clean_lost"]), "accepted": _accepted(row["update"])}
        )
    about = (
        f"{settings['drift']} frames of known classes pass with changed light, focus, noise or contrast; the device "
        "learns once from those that it sent up, unless its gate turns the update down. Judged on as many other "
        "frames, changed alike, and on those as they were. With the cloud: of the frames that pass. Candidate: the "
        "update also where the gate turned it down. The truth: the same learner on the same rows, told their true "
        "labels, and never turned down."
    )
    notes = [_SHARES, *_turned_down([row["update"] for row in found["rows"]])]
    return _table(62, f"Drift, {settings['data']}", about, found, command, DRIFT, rows, notes)


def write_table(table: Table, path: Path) -> None:
    """One file as docs/results holds them."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(table)) + b"\n")


def print_table(table: Table) -> None:
    """The same for people, without columns that say nothing."""
    shown = Printed(box=None, padding=(0, 1, 0, 0))
    told = [column for column in table.columns if any(row[column.key] is not None for row in table.rows)]
    for column in told:
        shown.add_column(column.title, justify="left" if column.key == "learner" else "right")
    for row in table.rows:
        shown.add_row(*("" if row[column.key] is None else str(row[column.key]) for column in told))
    Console(width=None if sys.stdout.isatty() else WIDE).print(shown)


def _table(
    order: int,
    title: str,
    about: str,
    found: Record,
    command: str,
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Cell]],
    notes: list[str],
) -> Table:
    machine = found["machine"]
    return Table(
        schema=SCHEMA,
        order=order,
        title=title,
        about=about,
        machine=f"{machine['processor']}, Python {machine['python']}, numpy {machine['numpy']}",
        commands=[command],
        columns=[Column(key, title) for key, title in columns.items()],
        rows=[{key: row.get(key) for key in columns} for row in rows],
        notes=notes,
    )


def _seeds(row: Record) -> dict[str, Cell]:
    return {"seed": ", ".join(map(str, row["seeds"]))}


def _accepted(update: Record) -> str:
    """Of how many seeds the update was."""
    return f"{sum(update['accepted'])} of {len(update['accepted'])}"


def _turned_down(updates: Sequence[Record]) -> list[str]:
    """A note for each kind of reason; its figures are those of the first."""
    kinds: dict[str, list[str]] = {}
    for update in updates:
        for accepted, reason in zip(update["accepted"], update["reason"], strict=True):
            if not accepted:
                kinds.setdefault(re.sub(r"\d", "", reason), []).append(reason)
    return [f"{len(reasons)} not accepted: {reasons[0]}" for reasons in kinds.values()]


def _figure(name: str, spread: Mapping[str, float] | None, factor: float = 1.0) -> dict[str, Cell]:
    """A mean, and its range where it has one."""
    cells: dict[str, Cell] = {name: _mean(spread, factor)}
    if spread is not None and spread["low"] < spread["high"]:
        cells[f"{name}_range"] = f"{factor * spread['low']:.1f} to {factor * spread['high']:.1f}"
    return cells


def _mean(spread: Any, factor: float = 1.0) -> float | None:
    return None if spread is None else round(factor * float(spread["mean"]), 1)
