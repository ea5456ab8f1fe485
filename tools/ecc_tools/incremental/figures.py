"""The pictures: accuracy over tasks, over a stream's updates, and by the strength of a change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecc_model.optional import require
from ecc_tools.incremental.published import published
from ecc_tools.incremental.records import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREY = "#8a90a0"
Spread = dict[str, float]


def draw_protocol(found: Record, path: Path) -> None:
    """Left accuracy after each task, published last ones at its end; right average accuracies beside each other."""
    settings, rows = found["settings"], found["rows"]
    others = published(settings["data"], settings["protocol"])
    figure, (tasks, averages) = _figure(2)
    for row in rows:
        _band(tasks, range(1, len(row["accuracies"]) + 1), row["accuracies"], row["learner"])
    end = max(len(row["accuracies"]) for row in rows)
    for other in others:
        if other.last is not None:
            tasks.plot(end, other.last, "x", color=GREY)
            tasks.annotate(other.method, (end, other.last), (-6, 0), textcoords="offset points", ha="right", fontsize=7)
    tasks.set(xlabel="tasks learnt", ylabel="accuracy on the classes seen so far, %")
    tasks.set_xticks(range(1, end + 1))
    bars = [(row["learner"], row["average"]["mean"], "C0") for row in rows]
    bars += [(f"{o.method} ({o.source.partition(',')[0]})", o.average, GREY) for o in others if o.average is not None]
    bars.sort(key=lambda bar: bar[1])
    averages.barh([name for name, _, _ in bars], [v for _, v, _ in bars], color=[c for _, _, c in bars])
    averages.set(xlabel="average accuracy, %; grey: published, ResNet-18" if others else "average accuracy, %")
    _save(figure, path)


def draw_stream(found: Record, path: Path) -> None:
    """Left edge accuracy after each update, dashed by the truth; right the upload rate."""
    figure, (accuracy, uploads) = _figure(2)
    for row in found["rows"]:
        states = [row["before"], *(update["after"] for update in row["updates"])]
        passed = [number * found["settings"]["stream"] for number in range(len(states))]
        colour = _band(accuracy, passed, [state["accuracy"] for state in states], row["learner"])
        bound = [row["before"], *(update["bound"] for update in row["updates"])]
        accuracy.plot(passed, [state["accuracy"]["mean"] for state in bound], "--", color=colour, linewidth=1)
        _band(uploads, passed, [state["upload_rate"] for state in states], row["learner"])
    accuracy.set(xlabel="frames passed", ylabel="edge accuracy, %; dashed: told the truth")
    uploads.set(xlabel="frames passed", ylabel="frames that go up, %")
    _save(figure, path)


def draw_drift(found: Record, path: Path) -> None:
    """A panel for each change: accuracy by strength before the update, after it for each learner and way to send."""
    kinds = list(dict.fromkeys(row["kind"] for row in found["rows"]))
    figure, panels = _figure(len(kinds))
    for axis, kind in zip(panels, kinds, strict=True):
        rows = sorted((row for row in found["rows"] if row["kind"] == kind), key=lambda row: int(row["strength"]))
        cases = list(dict.fromkeys((row["learner"], row["send"]) for row in rows))
        for number, (learner, send) in enumerate(cases):
            own = [row for row in rows if (row["learner"], row["send"]) == (learner, send)]
            strengths = [row["strength"] for row in own]
            if number == 0:
                axis.plot(strengths, [row["before"]["accuracy"]["mean"] for row in own], color=GREY, label="before")
            _band(axis, strengths, [row["after"]["accuracy"] for row in own], f"{learner}, {send}")
        axis.set(title=kind, xlabel="strength", xticks=sorted({row["strength"] for row in rows}))
    panels[0].set_ylabel("edge accuracy, %")
    _save(figure, path)


def _figure(panels: int) -> tuple[Figure, Sequence[Axes]]:
    figure = require("matplotlib.figure", "a plot").Figure(figsize=(4.6 * panels, 3.8), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _band(axis: Axes, x: Sequence[int], spreads: Sequence[Spread], label: str) -> Any:
    """A line of means in the band of their ranges; returns its colour."""
    (line,) = axis.plot(x, [spread["mean"] for spread in spreads], "o-", markersize=4, label=label)
    colour = line.get_color()
    low, high = ([spread[name] for spread in spreads] for name in ("low", "high"))
    axis.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    return colour


def _save(figure: Figure, path: Path) -> None:
    for axis in figure.axes:
        axis.grid(color="#e3e6ec", linewidth=0.6)
        axis.set_axisbelow(True)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
