"""An evaluation as it is printed for people."""

from __future__ import annotations

from collections.abc import Callable

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecc_tools.evaluation.counting import LayerOperations
from ecc_tools.evaluation.evaluate import Calibration, Comparison, Evaluation
from ecc_tools.evaluation.statistics import Interval

MAX_CLASSES = 20  # beyond that only the `WORST` are listed
WORST = 10
MAX_LAYERS = 30
_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Headline figures, a table of classes, a table of layers, and the comparison."""

    def say(text: str) -> None:
        console.print(Text(text), soft_wrap=True)

    classes = len(evaluation.labels)
    say(f"{evaluation.model}: {evaluation.what}, {classes} classes")
    frames = f"{evaluation.n} {evaluation.part} frames of {evaluation.data}"
    say(f"accuracy      {_percent(evaluation.accuracy)} of {frames} (95 %: {_range(evaluation.interval)})")
    say(f"calibration   {_calibration(evaluation.calibration)}")
    cost = evaluation.operations
    if cost.mean_firing is not None:
        say(
            f"activity      {_percent(cost.mean_firing)} mean firing; {si(cost.sops)} synaptic operations a frame by "
            f"rate x T x MACs, {si(cost.sops_counted)} counted"
        )
    say(
        f"NeuroBench    Dense {si(cost.dense)}, Effective_MACs {si(cost.effective_macs)}, "
        f"Effective_ACs {si(cost.effective_acs)} a frame"
    )
    console.print(_classes(evaluation))
    if len(cost.layers) <= MAX_LAYERS:
        console.print(_layers(evaluation))
    else:
        say(f"{len(cost.layers)} layers: --json lists each")
    if evaluation.against is not None:
        say(_comparison(evaluation, evaluation.against))


def si(value: float) -> str:
    """A count as people say it: 12.3 M."""
    for size, unit in _UNITS:
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _range(interval: Interval) -> str:
    return f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"


def _calibration(found: Calibration) -> str:
    source = "from the model file" if found.fitted_on == "model" else "fitted on validation frames"
    text = f"ECE {found.ece:.4f} in {len(found.bins)} bins at temperature {found.temperature:g} ({source})"
    if found.threshold is None or found.above_threshold is None:
        return text
    return f"{text}; {_percent(found.above_threshold)} of the frames are above the threshold {found.threshold:.4f}"


def _classes(evaluation: Evaluation) -> Table:
    scores = evaluation.per_class
    title = "Classes"
    if len(scores) > MAX_CLASSES:
        scores = sorted(scores, key=lambda score: 1.0 if score.accuracy is None else score.accuracy)[:WORST]
        title = f"The {WORST} classes that are known least, of {len(evaluation.labels)} (--json lists each)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("class")
    for name in ("frames", "right %", "95 %"):
        table.add_column(name, justify="right")
    table.add_column("else most often")
    for score in scores:
        cells = (str(score.n), _share(score.accuracy), _range(score.interval), score.mistaken_for or "")
        table.add_row(*(Text(cell) for cell in (score.label, *cells)))
    return table


def _layers(evaluation: Evaluation) -> Table:
    """A row for each layer; columns in which no layer has a figure are left out."""
    layers = evaluation.operations.layers
    columns = {"layer": [layer.place for layer in layers]}
    columns |= {title: [figure(layer) for layer in layers] for title, figure in _COLUMNS.items()}
    shown = {title: cells for title, cells in columns.items() if any(cells)}
    table = Table(title="Layers, per frame", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for title in shown:
        table.add_column(title, justify="left" if title == "layer" else "right", no_wrap=True)
    for cells in zip(*shown.values(), strict=True):
        table.add_row(*map(Text, cells))
    return table


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f}"


def _count(count: float | None) -> str:
    return "" if count is None else si(count)


def _effective(layer: LayerOperations) -> str:
    return f"{si(layer.effective)} {'AC' if layer.spiking else 'MAC'}" if layer.macs else ""


_COLUMNS: dict[str, Callable[[LayerOperations], str]] = {
    "fires %": lambda layer: _share(layer.firing_rate),
    "input %": lambda layer: _share(layer.input_rate),
    "passes": lambda layer: f"{layer.passes:g}" if layer.macs else "",
    "MACs": lambda layer: si(layer.macs) if layer.macs else "",
    "SOPs": lambda layer: _count(layer.sops),
    "counted": lambda layer: _count(layer.sops_counted),
    "effective": _effective,
}


def _comparison(evaluation: Evaluation, found: Comparison) -> str:
    pair = found.paired
    return (
        f"against {found.model} ({found.what}): {pair.difference_points:+.2f} points "
        f"(95 %: {pair.interval_points[0]:+.2f} to {pair.interval_points[1]:+.2f}), {_percent(found.accuracy)} to "
        f"{_percent(found.other_accuracy)} on the {pair.n} frames of the {len(found.labels)} classes that both know; "
        f"{pair.only_first} frames are right only here, {pair.only_second} only there; McNemar's exact test: "
        f"p = {pair.p_value:.3g}"
    )
