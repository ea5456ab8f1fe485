"""The pictures: accuracy against threshold and upload rate, gain against upload rate, costs by part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecc_model.optional import require
from ecc_tools.collaborate.sweep import CONSTANT, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = {  # filter -> colour, line
    "entropy": ("#1f6fd1", "-"),
    "energy": ("#17753b", "-"),
    "margin": ("#8e5bd0", "-"),
    "max-prob": ("#00838f", "-"),
    "novelty": ("#d9730d", "-"),
    "entropy+novelty": ("#c2185b", "-"),
    "random": ("#8a90a0", "--"),
    "cloud-only": ("#1f2430", ":"),
    "edge-only": ("#1f2430", "-."),
}
PARTS = {"edge": "#d9730d", "link": "#8a90a0", "cloud": "#1f6fd1"}
Bars = Mapping[str, Mapping[str, float]]
"""Row -> part of `PARTS` -> value."""


def draw_accuracy(
    path: Path, by_threshold: Sequence[Point], by_rate: Sequence[Point], operating: Sequence[Point]
) -> None:
    """Accuracy of the standing answers against threshold and against upload rate; dots where thresholds stand."""

    def paint(axes: Sequence[Axes]) -> None:
        _lines(axes[0], by_threshold, lambda p: p.threshold, lambda p: 100 * p.accuracy)
        axes[0].set(xlabel="threshold", ylabel="accuracy, %", xlim=(0, 1))
        _lines(axes[1], by_rate, lambda p: 100 * p.upload_rate, lambda p: 100 * p.accuracy)
        _dots(axes[1], operating, lambda p: 100 * p.accuracy)
        axes[1].set(xlabel="upload rate, %", xlim=(0, 100))
        axes[1].sharey(axes[0])

    _save(path, 2, paint)


def draw_improvement(path: Path, by_rate: Sequence[Point], operating: Sequence[Point]) -> None:
    """Relative accuracy improvement against upload rate: of the standing answers, and if the cloud's always stood.

    Nothing is drawn where it has no value.
    """

    def paint(axes: Sequence[Axes]) -> None:
        for axis, title, get in (
            (axes[0], "the answer that stands", lambda p: _percent(p.improvement)),
            (axes[1], "the cloud's answer always stands", lambda p: _percent(p.improvement_cloud_stands)),
        ):
            _lines(axis, by_rate, lambda p: 100 * p.upload_rate, get)
            _dots(axis, operating, get)
            axis.set(xlabel="upload rate, %", xlim=(0, 100), title=title)
        axes[0].set_ylabel("relative accuracy improvement, %")

    _save(path, 2, paint)


def draw_costs(path: Path, panels: Mapping[str, Bars]) -> None:
    """Stacked bars, one panel for each kind of cost: (title) -> rows -> parts."""

    def paint(axes: Sequence[Axes]) -> None:
        for axis, (title, rows) in zip(axes, panels.items(), strict=True):
            left = dict.fromkeys(rows, 0.0)
            for part, colour in PARTS.items():
                values = [row.get(part, 0.0) for row in rows.values()]
                axis.barh(list(rows), values, left=list(left.values()), color=colour, label=part, height=0.6)
                left = {name: left[name] + value for name, value in zip(rows, values, strict=True)}
            axis.invert_yaxis()
            axis.set_title(title, fontsize=9)
            axis.tick_params(labelleft=axis is axes[0])
        handles, labels = axes[0].get_legend_handles_labels()
        axes[0].figure.legend(handles, labels, loc="outside lower center", ncols=len(PARTS), frameon=False)

    rows = max(len(bars) for bars in panels.values())
    _save(path, len(panels), paint, legend=False, height_in=1.0 + 0.5 * rows)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _lines(
    axis: Axes, points: Sequence[Point], x: Callable[[Point], float | None], y: Callable[[Point], float | None]
) -> None:
    for name, (colour, style) in LINES.items():
        shown: list[tuple[Any, Any]] = [(x(p), y(p)) for p in points if p.filter == name and y(p) is not None]
        if len(shown) == 1 and name in CONSTANT:  # one rate, whatever the threshold
            axis.plot(*shown[0], "s", color=colour, markersize=5, label=name)
        elif shown:
            axis.plot(*zip(*shown, strict=True), style, color=colour, linewidth=1.5, label=name)


def _dots(axis: Axes, points: Sequence[Point], y: Callable[[Point], float | None]) -> None:
    for point in points:
        height = y(point)
        if height is not None and point.filter not in CONSTANT:
            axis.plot(100 * point.upload_rate, height, "o", color=LINES[point.filter][0], markersize=5)


def _save(
    path: Path,
    panels: int,
    paint: Callable[[Sequence[Axes]], None],
    *,
    legend: bool = True,
    height_in: float = 3.8,
) -> None:
    figure_type = require("matplotlib.figure", "a plot").Figure
    figure = figure_type(figsize=(4.6 * panels, height_in), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False)[0]
    paint(axes)
    for axis in axes:
        axis.grid(color="#e3e6ec", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.spines[["top", "right"]].set_visible(False)
    if legend:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)
