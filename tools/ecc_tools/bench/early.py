"""`ecc-tools bench early`: what ending sure frames before their last time step saves, and what it costs.

Each frame is answered twice in a row, with and without, in turns; shares of time are of sums over blocks of frames.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ecc_device.early import Seen, early_limit, see
from ecc_device.engines import make_engine
from ecc_device.frame import Frame
from ecc_model import console
from ecc_model.errors import ModelError
from ecc_model.modelfile import read_edge
from ecc_model.progress import progress_bar
from ecc_tools.bench.timing import machine, spread

BLOCKS = 20
WARM_UP = 20


def early(
    model: Annotated[Path, typer.Argument(help="The edge model, e.g. vgg9.pt.")],
    data: Annotated[str, typer.Option(help="A set, a folder of images per class, or an .npz with labels.")],
    root: Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")] = None,
    frames: Annotated[int, typer.Option(min=BLOCKS, help="Test frames of the model's classes, the first ones.")] = 2000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Steps, time and accuracy when sure frames end early, beside all steps for every frame."""
    found = _measure(model, data, root, frames)
    if as_json:
        console.print_json(found)
        return
    print(
        f"ends early at an entropy of {found['limit']:.2f} or less: {found['ended_early']:.1%} of {found['n']} frames"
    )
    print(f"time steps a frame: {found['steps']:.3f} of {found['all_steps']} ({found['fewer_steps']:.1%} fewer)")
    share = found["time"]
    print(f"time: {share['median']:.3f} of that for all steps (5 % to 95 %: {share['p5']:.3f} to {share['p95']:.3f})")
    print(
        f"right: {found['accuracy']:.2%}, after all steps {found['accuracy_all_steps']:.2%}; engine {found['engine']}"
    )


def _measure(path: Path, data: str, root: Path | None, most: int) -> dict[str, Any]:
    from ecc_tools.collaborate.labelled import check_classes, open_labelled

    model, labelled = read_edge(path), open_labelled(data, root, "test")
    limit = early_limit(model, model.threshold)
    if limit is None:
        raise ModelError(f"{path}: says nothing of ending frames early; assemble or compile it again")
    check_classes(labelled, model.labels)
    known = np.isin(np.array(labelled.names)[labelled.labels], model.labels)
    shown, truth = labelled.frames[known][:most], np.array(labelled.truth)[known][:most]
    engine = make_engine(None, model.program)
    spent = np.zeros((2, len(shown)))
    answers: list[tuple[Seen, Seen]] = []

    def answer(frame: Frame, early: bool) -> Seen:
        begin = time.perf_counter()
        seen = see(engine, model, frame, limit if early else None)
        spent[int(early), frame.index] = time.perf_counter() - begin
        return seen

    for pixels in shown[:WARM_UP]:
        answer(Frame(0, 0.0, pixels, None), True)
    with progress_bar("answering") as told:
        for index, pixels in enumerate(shown):
            frame, first = Frame(index, 0.0, pixels, None), index % 2 == 0
            pair = answer(frame, first), answer(frame, not first)
            answers.append(pair if first else pair[::-1])  # early, then all steps
            told((index + 1) / len(shown))
    steps = np.array([len(early.split) for early, _ in answers])
    right = np.array([[seen.answer.label for seen in pair] for pair in answers]) == truth[:, None]
    blocks = np.stack([block.sum(axis=1) for block in np.array_split(spent, BLOCKS, axis=1)])
    return {
        "schema": 1,
        "n": len(shown),
        "model": {"file": str(path), "sha256": model.sha256},
        "engine": engine.name,
        "limit": limit,
        "ended_early": float((steps < model.program.steps).mean()),
        "all_steps": model.program.steps,
        "steps": float(steps.mean()),
        "fewer_steps": 1.0 - float(steps.mean()) / model.program.steps,
        "time": spread(blocks[:, 1] / blocks[:, 0]),
        "accuracy": float(right[:, 0].mean()),
        "accuracy_all_steps": float(right[:, 1].mean()),
        "machine": machine(),
    }
