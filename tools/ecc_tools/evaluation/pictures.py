"""The two pictures of an evaluation: who is taken for whom, and how far a model may be believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecc_model.optional import require
from ecc_tools.evaluation.evaluate import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NUMBERED = 20  # classes up to which each cell says its number
MAX_NAMED = 50  # classes up to which each row and column says its name
DPI = 120


def draw_confusion(evaluation: Evaluation, path: Path) -> None:
    """Write the confusion matrix as a PNG: shares of each true class, a row for each."""
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    names, count = evaluation.labels, len(evaluation.labels)
    side = min(12.0, 2.5 + 0.45 * count)
    figure = _figure(side, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    axes.set(xlabel="answered, in % of the true class", ylabel="true class", title=_title(evaluation))
    if count <= MAX_NAMED:
        axes.set_xticks(range(count), names, rotation=90)
        axes.set_yticks(range(count), names)
    if count <= MAX_NUMBERED:
        for (row, column), share in np.ndenumerate(shares):
            if counts[row, column]:
                colour = "white" if share > 0.5 else "black"
                text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
                axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(path, dpi=DPI)


def draw_reliability(evaluation: Evaluation, path: Path) -> None:
    """Write the reliability diagram as a PNG: accuracy over confidence in equal bins, and the answers in each."""
    bins, n = evaluation.calibration.bins, evaluation.n
    left, width = [cell.low for cell in bins], 1 / len(bins)
    figure = _figure(5.0, 5.5)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.bar(left, [cell.accuracy for cell in bins], width, align="edge", edgecolor="white", label="accuracy")
    filled = [cell for cell in bins if cell.n]
    top.plot([cell.confidence for cell in filled], [cell.accuracy for cell in filled], "k.", label="mean confidence")
    top.plot([0, 1], [0, 1], color="grey", linestyle="--", label="as sure as right")
    calibration = evaluation.calibration
    top.set(
        ylabel="accuracy",
        title=f"{_title(evaluation)}\nECE {calibration.ece:.3f} at temperature {calibration.temperature:g}",
    )
    top.legend(loc="upper left")
    below.bar(left, [cell.n / n for cell in bins], width, align="edge", edgecolor="white", color="grey")
    below.set(xlabel="confidence", ylabel="share of answers", xlim=(0, 1))
    figure.savefig(path, dpi=DPI)


def _figure(width: float, height: float) -> Figure:
    figure: Figure = require("matplotlib.figure", "the pictures of an evaluation").Figure(
        figsize=(width, height), layout="constrained"
    )
    return figure


def _title(evaluation: Evaluation) -> str:
    return f"{Path(evaluation.model).name}: {100 * evaluation.accuracy:.2f} % of {evaluation.n} frames"
