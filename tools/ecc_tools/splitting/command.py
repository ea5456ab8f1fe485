"""`ecc-tools split`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ecc_model import console
from ecc_model.optional import require
from ecc_tools.train_commands import (
    COPIES,
    TUNE_EPOCHS,
    AsJson,
    Batch,
    Compiled,
    Data,
    Epochs,
    Noise,
    Precision,
    Rate,
    RateWeight,
    Root,
    Seed,
    bottleneck_config,
)


def split(
    edge: Annotated[Path, typer.Argument(help="The run folder of a VGG-9.")],
    teacher: Annotated[Path, typer.Argument(help="The run folder of the cloud's network.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for all candidates; a search goes on where it stopped.")],
    root: Root = None,
    candidate: Annotated[
        list[str] | None, typer.Option(help="One to try, as pool2-8x2: channels and stride; may be repeated.")
    ] = None,
    max_drop: Annotated[float, typer.Option(min=0.0, help="Points of accuracy that may be lost to the teacher.")] = 3.0,
    by: Annotated[
        Literal["bytes", "energy", "latency"], typer.Option(help="What the best one has least of.")
    ] = "bytes",
    link: Annotated[str, typer.Option(help="The link of the latency: wifi-drop, lte-m, tunnel, lossy.")] = "lte-m",
    tail_channels: Annotated[int, typer.Option(min=1, help="Width of the cloud's tail.")] = 128,
    epochs: Epochs = 15,
    lr: Rate = 2e-3,
    batch: Batch = 128,
    rate: RateWeight = 0.0,
    noise: Noise = 0.0,
    precision: Precision = "float32",
    compiled: Compiled = False,
    half: Annotated[bool, typer.Option("--half", help="Store torch's weights in 16 bits.")] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Find where to cut an edge network, and how few bits its cloud needs: trains and measures every candidate."""
    values = dict(locals())
    for package in ("torch", "matplotlib"):
        require(package, "the search")
    from ecc_device.linkprofiles import link_profile
    from ecc_tools.data.sets import open_dataset
    from ecc_tools.splitting import candidates as places
    from ecc_tools.splitting import report
    from ecc_tools.splitting.search import choose, none_within, search
    from ecc_tools.stages import stages

    tried = [places.parse(text) for text in candidate] if candidate else list(places.DEFAULT)
    profile = link_profile(link)
    code = {"split": tried[0].split, "code_channels": tried[0].channels, "code_stride": tried[0].stride}
    config = bottleneck_config(values | code | {"tune_epochs": TUNE_EPOCHS, "copies": COPIES})
    with stages("") as stage:
        found = search(edge, teacher, open_dataset(data, root), config, tried, out, half=half, stage=stage)
    chosen = choose(found, max_drop, by, profile)
    record = report.write(out, found, chosen, profile, by, max_drop)
    if as_json:
        console.print_json(record)
    else:
        report.print_table(found, chosen, profile, out)
    if chosen is None:
        raise none_within(found, max_drop)
