"""The picture of `ecc-tools bench edge`: milliseconds of a frame over its synaptic operations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ecc_model.optional import require

INCHES = (4.8, 3.2)
COLOURS = ("#1f6fd1", "#d9730d", "#c2185b", "#2e8b57", "#6a4fb3", "#8a90a0")


def plot_lines(measured: dict[str, Any], path: Path) -> None:
    """An SVG: for each size the points of this machine's build of the event engine, and the line through them."""
    figure = require("matplotlib.figure", "the plot of a bench").Figure(figsize=INCHES, layout="constrained")
    axes = figure.subplots()
    fits = [fit for fit in measured["lines"] if "(" not in fit["candidate"]]  # without the other builds
    for fit, colour in zip(fits, COLOURS * len(fits), strict=False):
        rows = [
            row for row in measured["networks"] if (row.get("steps"), row.get("width")) == (fit["steps"], fit["width"])
        ]
        operations = np.array([row["operations"] for row in rows]) / 1e6
        ms = [row["candidates"][fit["candidate"]]["ms"]["median"] for row in rows]
        label = f"width {fit['width']:g}, T {fit['steps']}: R² {fit['r2']:.3f}"
        axes.plot(operations, ms, "o", color=colour, markersize=4, label=label)
        ends = np.array([0.0, operations.max()])
        line = fit["ms_without_operations"] + ends * 1e9 / fit["operations_per_s"]
        axes.plot(ends, line, color=colour, linewidth=1)
    axes.set_xlabel("synaptic operations of a frame, millions")
    axes.set_ylabel("ms, frame to logits")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, format="svg", metadata={"Date": None})
