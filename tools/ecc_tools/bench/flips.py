"""`ecc-tools bench flips`: what an update is worth when the cloud is wrong, against how often it is."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ecc_device.learning.candidate import make_candidate
from ecc_model import console
from ecc_model.errors import UpdateError
from ecc_model.modelfile import EdgeModel, read_edge
from ecc_model.optional import require
from ecc_model.progress import progress_bar

if TYPE_CHECKING:
    from ecc_tools.incremental.scenes import Scene

RATES = [0.0, 0.1, 0.2, 0.3, 0.5]
SURE = 6.0  # the cloud's logit of the class that it names, right or wrong


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
    require("torch", "this comparison")
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
    from ecc_tools.compiling import load_validation
    from ecc_tools.incremental.scenes import answer, see

    scenes = []
    for path in (first, second):
        frames, labels, own = load_validation(str(path))
        scenes.append(replace(see(model, frames, np.array(own)[labels], lambda share: None), labels=own))
    passing, judged = scenes
    names = [*model.labels, *(name for name in passing.labels if name not in model.labels)]
    sent = passing.at(np.array([one.entropy > model.threshold for one in answer(model, passing)]))
    truth = np.array([names.index(name) for name in sent.truth])
    before = _accuracies(model, model, judged)
    found = []
    for index, rate in enumerate(rates):
        rng = np.random.default_rng(seed)
        wrong = rng.random(len(truth)) < rate
        labels = np.where(wrong, (truth + rng.integers(1, len(names), len(truth))) % len(names), truth)
        logits = (SURE * np.eye(len(names), dtype=np.float32))[labels]
        told_so = replace(sent, labels=tuple(names), logits=logits)
        found.append({"rate": rate, **_taught(model, told_so, learner, before, judged)})
        told((index + 1) / len(rates))
    return {"learner": learner, "rows": len(sent), "before": before, "rates": found}


def _taught(model: EdgeModel, sent: Scene, learner: str, before: dict[str, float], judged: Scene) -> dict[str, Any]:
    from ecc_tools.incremental.updating import told_by_cloud

    with tempfile.TemporaryDirectory() as folder:
        try:
            job, arrays = told_by_cloud(model, sent, learner, 0)
            outcome = make_candidate(Path(folder), job, arrays, lambda share: None)
        except UpdateError as error:
            return {**before, "known_loss_points": 0.0, "accepted": False, "reason": str(error)}
        after = _accuracies(model, read_edge(Path(folder) / "candidate.pt"), judged)
    loss = 100 * (before["known_accuracy"] - after["known_accuracy"])
    return {**after, "known_loss_points": loss, "accepted": outcome.accepted, "reason": outcome.reason}


def _accuracies(model: EdgeModel, other: EdgeModel, judged: Scene) -> dict[str, float]:
    """Of another model, on all frames and on those of classes that the first one knows."""
    from ecc_tools.incremental.scenes import right

    flags = right(other, judged)
    return {"accuracy": float(flags.mean()), "known_accuracy": float(flags[np.isin(judged.truth, model.labels)].mean())}
