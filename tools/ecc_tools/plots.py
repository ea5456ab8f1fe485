"""The report's plots: SVG that takes its colours and its font from the page around it.

Drawn with matplotlib's `Figure` alone, so no backend, window or global state is touched. Each function returns one
`<svg>` element. Figures are narrow on purpose: on a phone they keep a readable font.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecc_model.optional import require
from ecc_tools.demo_data import Curve, Stream

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WINDOW = 25  # frames in a running mean
BINS = 25
WIDTH_IN = 4.8
# Colours that stand for the page's: each is replaced by its CSS variable, which knows light from dark.
INK, MUTED, GRID, BEFORE, AFTER, EDGE, TARGET = (f"#00000{digit}" for digit in range(1, 8))
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    BEFORE: "before",
    AFTER: "after",
    EDGE: "edge",
    TARGET: "target",
}
# The same for a picture that stands alone, on white.
PRINTED = {
    INK: "#1f2430",
    MUTED: "#8a90a0",
    GRID: "#e3e6ec",
    BEFORE: "#8a90a0",
    AFTER: "#1f6fd1",
    EDGE: "#d9730d",
    TARGET: "#c2185b",
}
STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
}


def running_mean(values: NDArray[np.bool_], window: int = WINDOW) -> NDArray[np.float64]:
    """Mean of each `window` frames in a row, (N - window + 1,); a shorter stream gives its one mean."""
    window = min(window, len(values))
    if not window:
        return np.empty(0)
    return np.convolve(values.astype(np.float64), np.full(window, 1.0 / window), "valid")


def accuracy_over_time(streams: Sequence[Stream]) -> str:
    """Edge and collaborative accuracy, running mean, both streams after one another."""
    title = f"Accuracy over time, running mean over {WINDOW} frames"

    def paint(axes: Sequence[Axes]) -> None:
        _paint_accuracy(axes[0], streams)
        _legend_below(axes[0])

    return _svg("accuracy", title, paint)


def uploads_over_time(streams: Sequence[Stream]) -> str:
    """Upload rate, running mean, both streams after one another."""
    title = f"Upload rate over time, running mean over {WINDOW} frames"

    def paint(axes: Sequence[Axes]) -> None:
        _paint_uploads(axes[0], streams)
        _legend_below(axes[0])

    return _svg("uploads", title, paint)


def overview(streams: Sequence[Stream]) -> str:
    """Both of the above side by side, as an SVG file of its own."""
    matplotlib: Any = require("matplotlib", "the demo's report")
    figures: Any = require("matplotlib.figure", "the demo's report")
    out = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "path", "svg.hashsalt": "overview"}):
        figure = figures.Figure(figsize=(2 * WIDTH_IN, 3.0), layout="constrained")
        left, right = figure.subplots(1, 2)
        _paint_accuracy(left, streams)
        _paint_uploads(right, streams)
        left.legend(*_once(left), loc="lower right")
        figure.savefig(out, format="svg", facecolor="white", metadata={"Date": None})
    svg = out.getvalue()
    for colour, printed in PRINTED.items():
        svg = svg.replace(colour, printed)
    return svg


def _paint_accuracy(axis: Axes, streams: Sequence[Stream]) -> None:
    for stream, time_s in _timeline(streams, axis):
        lines = (("edge alone", stream.edge_right, EDGE), ("edge and cloud", stream.right, AFTER))
        for label, right, colour in lines:
            axis.plot(time_s, 100 * running_mean(right), color=colour, label=label)
    axis.set_ylabel("accuracy, %")
    axis.set_ylim(top=101)


def _paint_uploads(axis: Axes, streams: Sequence[Stream]) -> None:
    for stream, time_s in _timeline(streams, axis):
        axis.plot(time_s, 100 * running_mean(stream.uploaded), color=AFTER, label="upload rate")
    axis.set_ylabel("upload rate, %")
    axis.set_ylim(bottom=0)


def _timeline(streams: Sequence[Stream], axes: Axes) -> Iterator[tuple[Stream, NDArray[np.float64]]]:
    """Each stream with its frames' times (s) after the streams before it; marks the update between them."""
    start = 0.0
    axes.set_xlabel("recording time, s")
    for number, stream in enumerate(streams):
        if not len(stream.time_s):
            continue
        time_s = stream.time_s - stream.time_s[0] + start
        if number:
            axes.axvline(start, color=TARGET, linestyle="--", linewidth=1.2, label="update")
        yield stream, time_s[-len(running_mean(stream.right)) :]
        start = float(time_s[-1]) + (float(np.median(np.diff(time_s))) if len(time_s) > 1 else 1.0)


def entropy_histogram(before: NDArray[np.float64], after: NDArray[np.float64], thresholds: tuple[float, float]) -> str:
    """Normalized entropy of the second stream's frames with the old and the new model, each with its threshold."""

    def paint(axes: Sequence[Axes]) -> None:
        panels = (("before the update", before, BEFORE), ("after it", after, AFTER))
        for axis, (title, entropy, colour), threshold in zip(axes, panels, thresholds, strict=True):
            axis.hist(entropy, bins=BINS, range=(0.0, 1.0), color=colour, alpha=0.75)
            axis.axvline(threshold, color=TARGET, linestyle="--", linewidth=1.2)
            sent = int((entropy > threshold).sum())
            axis.set_title(f"{title}: threshold {threshold:.2f}, {sent} of {len(entropy)} frames go up", fontsize=9)
            axis.set_yscale("symlog", linthresh=10)
            axis.set_yticks([0, 5, 10, 50, 100, 500], ["0", "5", "10", "50", "100", "500"])
            axis.set_yticks([], minor=True)
            axis.set_ylim(0, max(10.0, float(axis.dataLim.y1)) * 1.15)
            axis.set_ylabel("frames")
            axis.set_xlim(0, 1)
        axes[-1].set_xlabel("normalized entropy of the edge's answer")

    return _svg("entropy", "Histogram of entropy before and after the update", paint, panels=2, height_in=3.6)


def upload_curves(
    before: Curve, after: Curve, target: float, needed: tuple[int | None, int | None], names: tuple[str, str]
) -> str:
    """Collaborative accuracy against uploads for both models; a dot where the threshold puts each.

    target: accuracy in [0, 1] of the line across; needed: uploads at which each curve reaches it, None if never.
    names: of the two curves.
    """

    def paint(axes: Sequence[Axes]) -> None:
        axis = axes[0]
        axis.axhline(100 * target, color=TARGET, linestyle="--", linewidth=1.2, label=f"target {100 * target:.1f} %")
        for name, curve, uploads, colour in zip(names, (before, after), needed, (BEFORE, AFTER), strict=True):
            accuracy = 100 * curve.accuracy
            axis.plot(np.arange(len(accuracy)), accuracy, color=colour, label=name)
            at = min(curve.operating, len(accuracy) - 1)
            axis.plot([at], [accuracy[at]], "o", color=colour, markersize=6, label="_")
            if uploads is not None:
                axis.plot([uploads, uploads], [0, 100 * target], ":", color=colour, linewidth=1.4, label="_")
        lowest = 100 * min(target, before.accuracy.min(initial=1.0), after.accuracy.min(initial=1.0))
        axis.set_ylim(max(0.0, lowest - 4), 101)
        axis.set_xlim(left=0)
        axis.set_xlabel("uploads, most ambiguous frames first")
        axis.set_ylabel("collaborative accuracy, %")
        _legend_below(axis)

    return _svg("curves", "Collaborative accuracy against the number of uploads", paint, height_in=3.4)


def bytes_bars(forms: Sequence[tuple[str, float]]) -> str:
    """Bytes of one frame in each form, as bars."""

    def paint(axes: Sequence[Axes]) -> None:
        names = [name for name, _ in forms]
        bars = axes[0].barh(names, [size for _, size in forms], color=AFTER, height=0.55)
        axes[0].bar_label(
            bars, [f"{size:,.1f}".removesuffix(".0") + " bytes" for _, size in forms], padding=4, color=INK
        )
        axes[0].invert_yaxis()
        axes[0].grid(axis="y", visible=False)
        axes[0].set_xlabel("bytes")
        axes[0].margins(x=0.3)

    return _svg("bytes", "Bytes of one frame on the link", paint, height_in=0.7 + 0.4 * len(forms))


def _once(axis: Axes) -> tuple[list[Any], list[str]]:
    """Handles and labels for a legend with one entry for each name."""
    handles, labels = axis.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    return list(once.values()), list(once)


def _legend_below(axis: Axes) -> None:
    """A legend under the plot, where it covers no line."""
    handles, labels = _once(axis)
    axis.figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), columnspacing=1.2)


def _svg(
    name: str, title: str, paint: Callable[[Sequence[Axes]], None], *, panels: int = 1, height_in: float = 2.8
) -> str:
    """One `<svg>` element; `name` keeps its ids apart from those of the page's other plots."""
    matplotlib: Any = require("matplotlib", "the demo's report")
    figures: Any = require("matplotlib.figure", "the demo's report")
    out = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = figures.Figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        paint(figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0])
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    # Inline SVG needs no namespaces; a size would keep it from shrinking with the page.
    svg = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", svg[: svg.index(">")]) + svg[svg.index(">") :]
    svg = svg.replace(' id="', f' id="{name}-').replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var(--{variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
