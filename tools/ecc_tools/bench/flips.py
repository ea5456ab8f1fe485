"""`ecc-tools bench flips`: what an update is worth when the cloud is wrong, against how often it is."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from ecc_device.engines import make_engine
from ecc_device.learning.candidate import make_candidate
from ecc_device.learning.job import assemble
from ecc_device.learning.lesson import Packed, exit_logits
from ecc_device.store import Row
from ecc_model import bits, console
from ecc_model.errors import UpdateError
from ecc_model.modelfile import EdgeModel, labels_id, read_edge
from ecc_model.numerics import normalized_entropy, softmax
from ecc_model.progress import progress_bar
from ecc_tools.compiling import Labelled, load_validation

RATES = [0.0, 0.1, 0.2, 0.3, 0.5]
SURE = 6.0  # the cloud's logit of the class that it names, right or wrong
Labels = NDArray[np.int64]


def flips(
    model: Annotated[Path, typer.Option(help="The edge model.")],
    first: Annotated[Path, typer.Option(help="A recording with labels (.npz): what is ambiguous on it is learnt.")],
    second: Annotated[Path, typer.Option(help="Another one, on which models are compared.")],
    rate: Annotated[list[float] | None, typer.Option(help="Share of answers that are wrong; may be repeated.")] = None,
    learner: Annotated[str, typer.Option(help="As for: ecc-device start.")] = "analytic",
    seed: Annotated[int, typer.Option(help="Of the answers that are wrong.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Accuracy after one update against the share of the cloud's answers that are wrong, with and without the gate."""
    with progress_bar("learning") as told:
        measured = bench_flips(read_edge(model), first, second, rate or RATES, learner, seed, told)
    if as_json:
        console.print_json(measured)
        return
    before = measured["before"]
    print(f"{'before':>7}  accuracy {before['accuracy']:.1%}, on known classes {before['known_accuracy']:.1%}")
    for row in measured["rates"]:
        taught = f"accuracy {row['accuracy']:.1%}, known classes lose {row['known_loss_points']:.1f} points"
        print(f"{row['rate']:>7.0%}  {taught}; {'accepted' if row['accepted'] else 'turned down'}: {row['reason']}")


def bench_flips(
    model: EdgeModel, first: Path, second: Path, rates: list[float], learner: str, seed: int, told: Any
) -> dict[str, Any]:
    """Before, and for each rate what was learnt: its accuracy, whether it would take over, and why."""
    names, rows, truth = _ambiguous(model, load_validation(str(first)))
    judged, judged_truth = _rows(model, load_validation(str(second)), names)
    before = _accuracies(model, model, names, judged, judged_truth)
    found = []
    for index, rate in enumerate(rates):
        rng = np.random.default_rng(seed)
        wrong = rng.random(len(truth)) < rate
        labels = np.where(wrong, (truth + rng.integers(1, len(names), len(truth))) % len(names), truth)
        found.append({"rate": rate, **_taught(model, names, rows, labels, learner, before, (judged, judged_truth))})
        told((index + 1) / len(rates))
    return {"learner": learner, "rows": len(rows), "before": before, "rates": found}


def _taught(
    model: EdgeModel,
    names: list[str],
    rows: Packed,
    labels: Labels,
    learner: str,
    before: dict[str, float],
    judged: tuple[Packed, Labels],
) -> dict[str, Any]:
    logits = (SURE * np.eye(len(names)))[labels].astype("<f4")
    told, features = labels_id(names), bytes.fromhex(model.program.features_id)
    answered = [
        Row(index, 0.0, features, row.tobytes(), "", "labelled", said.tobytes(), told, 0.0, 1, None)
        for index, (row, said) in enumerate(zip(rows, logits, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder:
        try:
            job, arrays = assemble(model.path, model.labels, answered, {told: tuple(names)}.get, learner, 0)
            outcome = make_candidate(Path(folder), job, arrays, lambda share: None)
        except UpdateError as error:
            return {**before, "known_loss_points": 0.0, "accepted": False, "reason": str(error)}
        after = _accuracies(model, read_edge(Path(folder) / "candidate.pt"), names, *judged)
    loss = 100 * (before["known_accuracy"] - after["known_accuracy"])
    return {**after, "known_loss_points": loss, "accepted": outcome.accepted, "reason": outcome.reason}


def _ambiguous(model: EdgeModel, data: Labelled) -> tuple[list[str], Packed, Labels]:
    """The names of all classes, the model's first, and the rows that go up with their true classes."""
    names = [*model.labels, *(name for name in data[2] if name not in model.labels)]
    rows, truth = _rows(model, data, names)
    scores = [normalized_entropy(softmax(row, model.temperature)) for row in exit_logits(model.program, rows).tolist()]
    up = np.array(scores) > model.threshold
    return names, rows[up], truth[up]


def _rows(model: EdgeModel, data: Labelled, names: list[str]) -> tuple[Packed, Labels]:
    """Packed spikes at the cut uint8 (R, bytes) and labels (R,) as indices into `names`."""
    frames, labels, own = data
    engine = make_engine(None, model.program)
    rows = np.stack([np.frombuffer(bits.pack(engine.head(frame)), np.uint8) for frame in frames])
    return rows, np.array([names.index(name) for name in own])[labels]


def _accuracies(model: EdgeModel, other: EdgeModel, names: list[str], rows: Packed, truth: Labels) -> dict[str, float]:
    """Of another model, on all rows and on those of classes that the first one knows."""
    named = np.array([names.index(name) for name in other.labels])
    right = named[exit_logits(other.program, rows).argmax(axis=1)] == truth
    known = truth < len(model.labels)
    return {"accuracy": float(right.mean()), "known_accuracy": float(right[known].mean())}
