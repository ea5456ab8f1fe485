"""The picture of a run: its losses and its validation accuracy, epoch by epoch."""

from __future__ import annotations

from pathlib import Path

from ecc_model.optional import require
from ecc_tools.runs import RunFolder

CURVE = "curve.png"
_NOT_LOSSES = ("epoch", "accuracy", "seconds")


def draw_curve(folder: Path) -> None:
    """Write `curve.png` from the log of the run in `folder`."""
    figure_type = require("matplotlib.figure", "the plot of a run").Figure
    rows = RunFolder(folder).rows()
    epochs = [row["epoch"] for row in rows]
    figure = figure_type(figsize=(8, 3.2), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    for name in rows[0]:
        if name not in _NOT_LOSSES:
            losses.plot(epochs, [row[name] for row in rows], label=name.replace("_", " "))
    losses.set(xlabel="epoch", ylabel="loss", title="Losses")
    losses.legend()
    accuracy.plot(epochs, [row["accuracy"] for row in rows])
    accuracy.set(xlabel="epoch", ylabel="%", title="Accuracy on validation images")
    figure.savefig(folder / CURVE, dpi=120)
