"""What a run of the demo leaves behind: report.json, report.html, the closing table, and a summary of several runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecc_model.errors import EccError
from ecc_tools.demo_data import DemoData
from ecc_tools.plots import overview
from ecc_tools.report_page import headline, render
from ecc_tools.report_record import (
    OURS,
    SCHEMA,
    Record,
    check,
    complete,
    fewer,
    stream_rows,
    stream_title,
    to_json,
    verdict,
)

JSON_NAME = "report.json"
PAGE_NAME = "report.html"
PICTURE_NAME = "overview.svg"
SUMMARY_NAME = "summary.json"


def write_report(data: DemoData, folder: Path) -> None:
    """Write report.json, report.html and overview.svg into `folder`, which is made where it is missing.

    `EccError` when `data.report` breaks the contract of docs/report.md; nothing is written then.
    """
    record = to_json(complete(data))
    page = render(data)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON_NAME).write_text(record, encoding="utf-8")
    (folder / PAGE_NAME).write_text(page, encoding="utf-8")
    (folder / PICTURE_NAME).write_text(overview(data.streams), encoding="utf-8")


def print_table(data: DemoData, console: Console, folder: Path) -> None:
    """The streams' table, the main figures in a sentence, the checks with a tick or a cross, where the files are."""
    report = check(data.report)
    table = Table(title="The two streams")
    table.add_column("")
    for stream in report.streams:
        table.add_column(Text(stream_title(stream.name)), justify="right")
    for name, cells in stream_rows(report):
        table.add_row(name, *cells)
    console.print(table)
    console.print(Text(headline(data, report)))
    for promise, measured, kept in data.checks:
        mark = Text("✓ " if kept else "✗ ", style="green" if kept else "bold red")
        console.print(mark + Text(f"{verdict(kept)}: {promise}: {measured}", style=""))
    for name in (PAGE_NAME, JSON_NAME):
        console.print(Text(str(folder / name)), soft_wrap=True)


@dataclass(frozen=True)
class Figure:
    """One line of the summary: its key in summary.json, its name, its unit, and where a record holds it."""

    key: str
    name: str
    unit: str
    read: Callable[[Record], float | None]


def _stream(index: int, field: str) -> Callable[[Record], float | None]:
    return lambda record: 100.0 * float(record["streams"][index][field])


def _gain(record: Record) -> float | None:
    return 100.0 * float(record["streams"][-1]["edge_accuracy"] - record["streams"][0]["edge_accuracy"])


def _learner(record: Record, index: int, field: str) -> Any:
    learners = record.get("learners", [])
    return learners[index][field] if index < len(learners) else None


def _saved(record: Record) -> float | None:
    saved = fewer(_learner(record, 0, "uploads_needed"), _learner(record, OURS, "uploads_needed"))
    return None if saved is None else 100.0 * saved


def _loss(index: int) -> Callable[[Record], float | None]:
    return lambda record: _learner(record, index, "known_loss_points")


def _last(record: Record, *path: str) -> float | None:
    value: Any = record["streams"][-1]
    for key in path:
        value = value[key]
    return None if value is None else float(value)


FIGURES = (
    Figure("edge_accuracy_first", "edge accuracy, first stream", "%", _stream(0, "edge_accuracy")),
    Figure("edge_accuracy_second", "edge accuracy, second stream", "%", _stream(-1, "edge_accuracy")),
    Figure("edge_gain", "edge accuracy gained", "points", _gain),
    Figure("collab_accuracy_first", "collaborative accuracy, first stream", "%", _stream(0, "collab_accuracy")),
    Figure("collab_accuracy_second", "collaborative accuracy, second stream", "%", _stream(-1, "collab_accuracy")),
    Figure("upload_rate_first", "upload rate, first stream", "%", _stream(0, "upload_rate")),
    Figure("upload_rate_second", "upload rate, second stream", "%", _stream(-1, "upload_rate")),
    Figure("uploads_saved", "fewer uploads at equal accuracy", "%", _saved),
    Figure("old_loss", "lost on old classes", "points", _loss(OURS)),
    Figure("old_loss_published", "lost on old classes, lwf as published", "points", _loss(OURS + 1)),
    Figure("bytes_per_upload", "bytes per upload", "bytes", lambda record: _last(record, "bytes_per_upload")),
    Figure("latency_p50", "latency p50, second stream", "ms", lambda record: _last(record, "latency_ms", "p50")),
    Figure("update_seconds", "update", "s", lambda record: float(record["update"]["seconds"])),
)


def summarize(reports: Sequence[Record]) -> Record:
    """Mean and range of `FIGURES` over several seeds, and the checks that some seed did not keep.

    reports: as report.json holds them (or `report_record.complete` makes them).
    A figure that one report lacks (an accuracy never reached) has neither mean nor range: the rest would flatter.
    """
    if not reports:
        raise EccError("no reports to summarize; run: ecc-tools demo")
    seeds = [check(report).seed for report in reports]
    figures = {}
    for figure in FIGURES:
        values = [figure.read(report) for report in reports]
        known = [value for value in values if value is not None]
        whole = len(known) == len(values)
        figures[figure.key] = {
            "unit": figure.unit,
            "mean": fmean(known) if whole else None,
            "min": min(known) if whole else None,
            "max": max(known) if whole else None,
            "values": values,
        }
    missed = [
        {"seed": seed, "promise": row["promise"], "measured": row["measured"]}
        for seed, report in zip(seeds, reports, strict=True)
        for row in report.get("checks", [])
        if not row["kept"]
    ]
    return {"schema": SCHEMA, "seeds": seeds, "figures": figures, "not_kept": missed}


def write_summary(reports: Sequence[Record], folder: Path) -> None:
    """Write summary.json into `folder`."""
    summary = to_json(summarize(reports))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SUMMARY_NAME).write_text(summary, encoding="utf-8")


def print_summary(reports: Sequence[Record], console: Console) -> None:
    """`summarize` as a table on the terminal."""
    summary = summarize(reports)
    seeds = summary["seeds"]
    table = Table(title=f"Seeds {', '.join(map(str, seeds))}")
    table.add_column("")
    table.add_column("mean", justify="right")
    table.add_column("range", justify="right")
    for figure in FIGURES:
        found = summary["figures"][figure.key]
        if found["mean"] is None:
            missing = sum(value is None for value in found["values"])
            table.add_row(figure.name, "–", f"none in {missing} of {len(seeds)}")
        else:
            table.add_row(
                figure.name, f"{found['mean']:.1f} {figure.unit}", f"{found['min']:.1f} to {found['max']:.1f}"
            )
    console.print(table)
    for row in summary["not_kept"]:
        line = f"seed {row['seed']}, not kept: {row['promise']}: {row['measured']}"
        console.print(Text("✗ ", style="bold red") + Text(line, style=""))
    if not summary["not_kept"] and all(report.get("checks") for report in reports):
        console.print(Text("✓ every check kept by every seed", style="green"))
