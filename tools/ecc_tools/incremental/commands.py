"""`ecc-tools incremental` and `ecc-tools drift`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecc_model import console
from ecc_model.optional import require
from ecc_tools.evaluation.command import PartChoice

if TYPE_CHECKING:
    from ecc_tools.results import Table

TABLE, SUMMARY = "table.json", "summary.json"
Data = Annotated[str, typer.Option(help="A set (see 'ecc-tools data list') or a folder of images per class.")]
Root = Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")]
PartOption = Annotated[PartChoice, typer.Option(help="test to report, validation to choose.")]
Seeds = Annotated[int, typer.Option(min=1, help="So many seeds, from 0.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def incremental(
    models: Annotated[
        Path, typer.Argument(help="A folder of 'ecc-tools assemble', an edge model, or the run of a VGG-9.")
    ],
    data: Data,
    split: Annotated[str, typer.Option(help="A class-incremental split, as B6-Inc2 or B0-Inc20.")] = "",
    stream: Annotated[bool, typer.Option("--stream", help="Learn only from what the filter sends up.")] = False,
    learner: Annotated[
        str, typer.Option(help="Some of: auto, analytic, lwf, both, lwf-plain; with --split also lwf-full.")
    ] = "analytic,lwf,both,lwf-plain",
    seeds: Seeds = 3,
    frames: Annotated[int, typer.Option(min=20, help="With --stream: frames from one update to the next.")] = 1000,
    updates: Annotated[int, typer.Option(min=1, max=20, help="With --stream: so many updates.")] = 3,
    root: Root = None,
    part: PartOption = PartChoice.test,
    out: Annotated[Path, typer.Option(help="Folder for rows, table and plot; goes on with what is there.")] = Path(
        "runs/incremental"
    ),
    as_json: AsJson = False,
) -> None:
    """Learners side by side: on a class-incremental protocol, or on a stream of what goes up."""
    _require()
    from ecc_tools.data.sets import open_dataset
    from ecc_tools.incremental.compare import Asked, compare_protocol, compare_stream
    from ecc_tools.incremental.figures import draw_protocol, draw_stream
    from ecc_tools.incremental.tables import protocol_table, stream_table
    from ecc_tools.stages import stages

    if bool(split) == stream:
        raise typer.BadParameter("give one of them: a protocol, or the stream", param_hint="--split / --stream")
    asked = Asked(open_dataset(data, root), part.value, _listed(learner), seeds, out)
    command = f"ecc-tools incremental {models} --data {data} --learner {learner} --seeds {seeds} --part {part.value}"
    with stages("") as stage:
        if stream:
            found = compare_stream(models, asked, frames, updates, stage)
            table = stream_table(found, f"{command} --stream --frames {frames} --updates {updates}")
            draw_stream(found, out / "stream.png")
        else:
            found = compare_protocol(models, asked, split, stage)
            table = protocol_table(found, f"{command} --split {split}")
            draw_protocol(found, out / "tasks.png")
    _finish(found, table, out, as_json)


def drift(
    edge: Annotated[Path, typer.Argument(help="The edge model, e.g. vgg9.pt.")],
    cloud: Annotated[Path, typer.Argument(help="The worker's model, e.g. cloud.pt.")],
    data: Data,
    learner: Annotated[str, typer.Option(help="Some of: auto, analytic, lwf, both, lwf-plain.")] = "analytic",
    kind: Annotated[str, typer.Option(help="Some of: light, blur, noise, contrast.")] = "light,blur,noise,contrast",
    strength: Annotated[str, typer.Option(help="Some of 1 to 5.")] = "1,2,3,4,5",
    frames: Annotated[int, typer.Option(min=20, help="Frames that pass, and as many that judge.")] = 1000,
    seeds: Seeds = 3,
    root: Root = None,
    part: PartOption = PartChoice.test,
    out: Annotated[Path, typer.Option(help="Folder for rows, table and plot; goes on with what is there.")] = Path(
        "runs/drift"
    ),
    as_json: AsJson = False,
) -> None:
    """The same classes under changed light, focus, noise and contrast: before, while and after the device learns."""
    _require()
    from ecc_tools.data.sets import open_dataset
    from ecc_tools.incremental.compare import Asked, compare_drift
    from ecc_tools.incremental.corruptions import CORRUPTIONS, STRENGTHS
    from ecc_tools.incremental.figures import draw_drift
    from ecc_tools.incremental.tables import drift_table
    from ecc_tools.stages import stages

    kinds, strengths = _listed(kind), _listed(strength)
    _some(kinds, tuple(CORRUPTIONS), "--kind")
    _some(strengths, tuple(map(str, STRENGTHS)), "--strength")
    asked = Asked(open_dataset(data, root), part.value, _listed(learner), seeds, out)
    with stages("") as stage:
        found = compare_drift(edge, cloud, asked, kinds, [int(one) for one in strengths], frames, stage)
    command = f"ecc-tools drift {edge} {cloud} --data {data} --learner {learner} --kind {kind} --strength {strength}"
    table = drift_table(found, f"{command} --frames {frames} --seeds {seeds} --part {part.value}")
    draw_drift(found, out / "drift.png")
    _finish(found, table, out, as_json)


def _require() -> None:
    for package in ("torch", "matplotlib"):
        require(package, "this comparison")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _some(given: tuple[str, ...], known: tuple[str, ...], option: str) -> None:
    wrong = [name for name in given if name not in known]
    if wrong or not given:
        raise typer.BadParameter(f"'{(wrong or [''])[0]}' is none of: {', '.join(known)}", param_hint=option)


def _finish(found: dict[str, Any], table: Table, out: Path, as_json: bool) -> None:
    from ecc_tools.incremental.tables import print_table, write_table

    (out / SUMMARY).write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_table(table, out / TABLE)
    if as_json:
        console.print_json(found)
    else:
        print_table(table)
        print("\n".join([table.about, *table.notes, f"Written to {out}"]))
