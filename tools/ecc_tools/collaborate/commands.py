"""`ecc-tools collaborate` and `ecc-tools costs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecc_model import console
from ecc_model.optional import require

if TYPE_CHECKING:
    from ecc_tools.collaborate.labelled import Labelled

Edge = Annotated[Path, typer.Argument(help="The edge model, e.g. vgg9.pt.")]
Cloud = Annotated[Path, typer.Argument(help="The worker's model, e.g. cloud.pt.")]
DATA_HELP = "A set (see 'ecc-tools data list'), a folder of images per class, or an .npz with labels."
Root = Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")]
PartOption = Annotated[str, typer.Option(help="test or validation; an .npz has no parts.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def collaborate(
    edge: Edge,
    cloud: Cloud,
    data: Annotated[str, typer.Option(help=DATA_HELP)],
    root: Root = None,
    part: PartOption = "test",
    send: Annotated[str, typer.Option(help="What goes up: features (spikes) or frames (images).")] = "features",
    out: Annotated[Path, typer.Option(help="Folder for tables and plots.")] = Path("runs/collaborate"),
    as_json: AsJson = False,
) -> None:
    """Accuracy, upload rate and costs of edge and cloud together, for every filter, threshold and upload rate."""
    for package in ("torch", "matplotlib"):
        require(package, "this comparison")
    from ecc_tools.collaborate.labelled import open_labelled
    from ecc_tools.collaborate.report import report_sweep
    from ecc_tools.collaborate.tables import print_operating
    from ecc_tools.stages import stages

    with stages("") as stage:
        found = report_sweep(edge, cloud, open_labelled(data, root, part), send, out, stage)
    if as_json:
        console.print_json(found)
    else:
        print_operating(found, out)


def costs(
    cloud: Cloud,
    edge: Annotated[list[Path], typer.Option(help="The edge model of each stream; one serves all.")],
    data: Annotated[list[str], typer.Option(help=f"The streams, in their order. {DATA_HELP}")],
    root: Root = None,
    part: PartOption = "test",
    out: Annotated[Path, typer.Option(help="Folder for table and plot.")] = Path("runs/costs"),
    as_json: AsJson = False,
) -> None:
    """Upload rate, energy and latency of each stream, split into edge, link and cloud; the paper's constants beside."""
    for package in ("torch", "matplotlib"):
        require(package, "this comparison")
    from ecc_tools.collaborate.labelled import open_labelled
    from ecc_tools.collaborate.report import report_costs
    from ecc_tools.collaborate.tables import print_costs
    from ecc_tools.stages import stages

    if len(edge) not in (1, len(data)):
        raise typer.BadParameter(
            f"{len(edge)} edge models for {len(data)} streams; give one, or one for each", param_hint="--edge"
        )
    models = edge * len(data) if len(edge) == 1 else edge
    streams: list[tuple[Path, Labelled]] = [
        (model, open_labelled(name, root, part)) for model, name in zip(models, data, strict=True)
    ]
    with stages("") as stage:
        found = report_costs(cloud, streams, out, stage)
    if as_json:
        console.print_json(found)
    else:
        print_costs(found, out)
