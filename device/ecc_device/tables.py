"""What `ecc-device` prints for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from ecc_device.frame import Source
from ecc_device.learning.history import STATES
from ecc_device.player import Tally
from ecc_device.results import Result


def live_line(result: Result, tally: Tally) -> str:
    """The newest result and the rates so far, on one line."""
    rate = tally.uploads / tally.frames
    sure = f"{result.answer.probability:.0%} ({result.stands}: {result.why})"
    return f"frame {result.frame}  {result.label}  {sure}  uploads {rate:.1%} of {tally.frames}"


def source_facts(source: Source) -> dict[str, Any]:
    """What a source says it is."""
    return {
        "name": source.name,
        "shape": list(source.shape),
        "rate_hz": source.rate_hz,
        "length": source.length,
        "labels": None if source.labels is None else list(source.labels),
    }


def source_line(facts: dict[str, Any]) -> str:
    """The same on one line: name, frames, their shape and rate, classes."""
    count = facts["length"]
    frames = "frames" if count is None else f"{count} frame{'' if count == 1 else 's'}"
    text = f"{facts['name']} ({frames} of {' x '.join(map(str, facts['shape']))}, {facts['rate_hz']:.4g} a second"
    return text + (")" if facts["labels"] is None else f", {len(facts['labels'])} classes)")


def closing_line(tally: Tally) -> str:
    """What a run did, on one line."""
    return f"{tally.frames} frames, {tally.uploads} went up ({tally.bytes_sent} bytes)"


def print_replay(summary: dict[str, Any]) -> None:
    """A replay's summary as a table."""
    table = Table(show_header=False, box=None)
    for name, unit in (("edge_accuracy", "%"), ("collab_accuracy", "%"), ("upload_rate", "%")):
        value = summary[name]
        table.add_row(name.replace("_", " "), "no labels" if value is None else f"{100 * value:.1f} {unit}")
    table.add_row("source", source_line(summary["source"]))
    table.add_row("frames", str(summary["frames"]))
    table.add_row("uploads", f"{summary['uploads']} of {summary['bytes_per_upload']:.1f} bytes")
    for name in ("latency_ms", "upload_latency_ms"):
        if summary[name]:
            table.add_row(name.replace("_ms", "").replace("_", " "), _percentiles(summary[name]))
    table.add_row("model", str(summary["model_no"]))
    Console().print(table)


def verdict(decision: dict[str, Any]) -> str:
    """What an update's decision means for the model that answers."""
    if not decision["accepted"]:
        return "the model stays"
    if decision["shadow"]:
        return f"model {decision['no']} takes over after {decision['shadow']} frames in the shadow"
    return f"model {decision['no']} is active"


def print_updates(updates: list[dict[str, Any]]) -> None:
    """Every update on a line: how it ended, and what it made of the known classes and of held-out rows."""
    table = Table(box=None)
    for name in ("model", "from", "is", "learner", "rows", "new classes", "known lose", "held out"):
        table.add_column(name, overflow="fold")
    for update in updates:
        figures = update["figures"]
        told = ["", "", "", "", ""]
        if "learner" in figures:
            before, after = figures["held_agreement_before"], figures["held_agreement_after"]
            told = [
                figures["learner"],
                str(figures["rows"]),
                ", ".join(figures["new_classes"]) or "none",
                f"{figures['known_loss_points']:.1f} points",
                f"{before:.0%} -> {after:.0%}",
            ]
        table.add_row(str(update["no"]), str(update["parent"]), STATES[update["state"]], *told)
    Console().print(table if updates else "no update was made yet")


def print_status(facts: dict[str, Any], now_s: float) -> None:
    """What `status` and `buffer` found, as an indented list; an update's figures are left to `why-update`."""
    told: dict[str, Any] = {}
    for name, value in facts.items():
        if name == "update" and value["last"] is not None:
            told[name] = value | {"last": f"{verdict(value['last'])}: {value['last']['reason']}"}
        elif name == "link":
            told["link errors"] = value
        elif name == "oldest_s":
            told["oldest row"] = None if value is None else _age(value, now_s)
        elif name == "models":
            told["model"] = {str(model["no"]): _model(model) for model in value}
        else:
            told[name] = value
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _flat(told):
        table.add_row(name, text)
    Console().print(table)


def _age(stamp_s: float, now_s: float) -> str:
    if stamp_s < 1e9:
        return f"at {stamp_s:g} s of a recording"
    age_s = max(0.0, now_s - stamp_s)
    for unit, seconds in (("d", 86400), ("h", 3600), ("min", 60)):
        if age_s >= seconds:
            return f"{age_s // seconds:.0f} {unit} ago"
    return f"{age_s:.0f} s ago"


def _model(model: dict[str, Any]) -> str:
    learnt = "" if model["parent"] is None else f", from model {model['parent']}"
    return f"{STATES[model['state']]}{learnt}: {model['reason']}"


def _percentiles(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f} ms" for name, value in values.items())


def _flat(facts: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name} ") or [(f"{prefix}{name}", "none")]
        else:
            rows.append((f"{prefix}{name}", _text(value)))
    return rows


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return "none" if value is None else text or "none"
