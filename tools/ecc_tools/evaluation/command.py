"""`ecc-tools evaluate`."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from ecc_model import console
from ecc_model.optional import require
from ecc_model.progress import progress_bar

JSON_NAME, CONFUSION_NAME, RELIABILITY_NAME = "evaluation.json", "confusion.png", "reliability.png"


class PartChoice(str, enum.Enum):
    """The parts that a model may be judged on."""

    test = "test"
    validation = "validation"


def evaluate(
    model: Annotated[Path, typer.Argument(help="vgg9.pt, cloud.pt (its network for frames), or a run folder.")],
    data: Annotated[str, typer.Option(help="A set (see 'ecc-tools data list') or a folder of images per class.")],
    root: Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")] = None,
    part: Annotated[PartChoice, typer.Option(help="Which frames.")] = PartChoice.test,
    against: Annotated[Path | None, typer.Option(help="Another model, compared on the same frames.")] = None,
    as_float: Annotated[
        bool, typer.Option("--float", help="Judge an edge model's torch network, not its integer program.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for evaluation.json and two pictures.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Accuracy, calibration, firing and operations of a model on a part of a data set."""
    require("torch", "evaluating a model")
    if out is not None:
        require("matplotlib", "the pictures of an evaluation")
    import msgspec
    from rich.console import Console

    from ecc_tools.data.sets import open_dataset
    from ecc_tools.evaluation.evaluate import evaluate as judge
    from ecc_tools.evaluation.pictures import draw_confusion, draw_reliability
    from ecc_tools.evaluation.printing import print_evaluation
    from ecc_tools.evaluation.subjects import EvaluationError, open_subject

    subject = open_subject(model, as_float=as_float)
    other = None if against is None else open_subject(against)
    with progress_bar(f"{model.name} on {data}") as told:
        found = judge(subject, open_dataset(data, root), part.value, told, against=other)
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
            (out / JSON_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
            draw_confusion(found, out / CONFUSION_NAME)
            draw_reliability(found, out / RELIABILITY_NAME)
        except OSError as exc:
            raise EvaluationError(f"{out}: cannot be written ({exc.strerror}); choose another folder") from exc
    if as_json:
        console.print_json(msgspec.to_builtins(found))
    else:
        print_evaluation(found, Console())
