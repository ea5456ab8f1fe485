"""`ecc-tools bench steps`: leading time steps first against all at once, in bytes and accuracy.

How many steps go first and from which margin on they do was fitted on validation images when the files were made.
Every frame is asked about as a device would: `ecc_device.questions` chooses what goes up, the worker's margin decides.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ecc_broker.messages import FeaturesRequest, decode
from ecc_device.questions import FIRST, REST, WHOLE, make_question
from ecc_model import console
from ecc_model.errors import SourceError
from ecc_model.optional import require
from ecc_tools.bench.encoders import EncoderOption

if TYPE_CHECKING:
    from ecc_cloud.model import CloudModel
    from ecc_tools.bench.pair import Pair
    from ecc_tools.collaborate.labelled import Labelled

ROW, BUDGET_MS = 65535, 200  # of a typical request


def steps(
    edge: Annotated[Path, typer.Argument(help="The edge model, e.g. vgg9.pt.")],
    cloud: Annotated[Path, typer.Argument(help="The worker's model, e.g. cloud.pt.")],
    data: Annotated[str, typer.Option(help="A set, a folder of images per class, or an .npz with labels.")],
    root: Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")] = None,
    part: Annotated[str, typer.Option(help="test or validation; an .npz has no parts.")] = "test",
    encoder: EncoderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bytes and accuracy when leading time steps go up first and the rest where the cloud needs it."""
    require("torch", "the cloud's network")
    from ecc_tools.bench.pair import open_pair

    found = measure(open_pair(edge, cloud, data, root, part, encoder=encoder))
    if as_json:
        console.print_json(found)
    else:
        _print(found)


def measure(pair: Pair) -> dict[str, Any]:
    """Both ways to ask about all labelled frames. `SourceError` where the worker answers no leading steps."""
    from ecc_cloud.worker import announcement, open_to_doubt

    model, worker, labelled, encoder = pair
    said = announcement(worker)
    codes = pair.codes(labelled.frames)
    features_id, table = model.program.features_ids[encoder], model.tables[encoder]
    questions = [make_question(ROW, code, features_id, table, said) for code in codes]
    leading = worker.encoders[pair.name].leading
    if leading is None:
        raise SourceError(f"{worker.path}: it answers whole messages only; make one with: assemble --progressive")
    whole, alone = pair.answers(codes), pair.answers(codes[:, : leading.steps])
    sent, answers = [], []
    for question, all_steps, some in zip(questions, whole, alone, strict=True):
        calibrated = some / np.float32(leading.temperature)
        begins, _ = question.opening(BUDGET_MS)
        enough = begins == FIRST and not open_to_doubt(calibrated, leading)
        sent.append([begins] if begins == WHOLE or enough else [FIRST, REST])
        answers.append(calibrated if enough else all_steps)
    right = [_share_right(rows, worker, labelled) for rows in (whole, answers)]
    sizes = {
        "whole": [_bytes(question.message(WHOLE, BUDGET_MS)) for question in questions],
        "progressive": [
            np.sum([_bytes(question.message(one, BUDGET_MS)) for one in parts], axis=0)
            for question, parts in zip(questions, sent, strict=True)
        ],
    }
    means = {name: np.mean(rows, axis=0) for name, rows in sizes.items()}
    return {
        "schema": 1,
        "n": len(codes),
        "part": labelled.part,
        "edge": {"file": str(model.path), "sha256": model.sha256},
        "steps": codes.shape[1],
        "leading": {"steps": leading.steps, "margin": leading.margin, "more_on_validation": leading.more},
        "began_with_leading": float(np.mean([parts[0] == FIRST for parts in sent])),
        "needed_the_rest": float(np.mean([len(parts) == 2 for parts in sent])),
        **{
            name: {"accuracy": accuracy, "request_bytes": float(means[name][0]), "body_bytes": float(means[name][1])}
            for name, accuracy in zip(means, right, strict=True)
        },
        "saved": {
            kind: 1.0 - float(means["progressive"][index] / means["whole"][index])
            for index, kind in enumerate(("request_bytes", "body_bytes"))
        },
        "lost_points": 100.0 * (right[0] - right[1]),
    }


def _bytes(request: bytes) -> tuple[int, int]:
    """Of the whole request, and of its spikes."""
    return len(request), len(decode(FeaturesRequest, request).spikes)


def _share_right(rows: list[Any], worker: CloudModel, labelled: Labelled) -> float:
    return float(
        np.mean([worker.labels[int(row.argmax())] == label for row, label in zip(rows, labelled.truth, strict=True)])
    )


def _print(found: dict[str, Any]) -> None:
    leading = found["leading"]
    print(f"{'':14}{'right':>9}{'request, bytes':>16}{'spikes, bytes':>15}")
    for name in ("whole", "progressive"):
        row = found[name]
        print(f"{name:14}{row['accuracy']:9.2%}{row['request_bytes']:16.1f}{row['body_bytes']:15.1f}")
    print(
        f"{leading['steps']} of {found['steps']} time steps first, {found['needed_the_rest']:.1%} need the rest "
        f"({leading['more_on_validation']:.1%} of the validation images); saved: {found['saved']['request_bytes']:.1%} "
        f"of the requests' bytes, {found['saved']['body_bytes']:.1%} of the spikes'; "
        f"lost: {found['lost_points']:.2f} points\nn {found['n']}"
    )
