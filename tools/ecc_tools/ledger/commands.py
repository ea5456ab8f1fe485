"""`ecc-tools energy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecc_model import console
from ecc_model.optional import require
from ecc_model.progress import progress_bar

STEPS, SIDE, CLASSES, WIDTH, RATE = 4, 32, 100, 1.0, 0.1


def energy(
    network: Annotated[str, typer.Option(help="vgg9, spiking-resnet18|34|50; without it that of --run.")] = "",
    width: Annotated[float | None, typer.Option(min=0.01, help="Scales all channel counts; 1, or the run's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, max=16, help="Time steps T; 4, or the run's.")] = None,
    side: Annotated[int | None, typer.Option(min=8, help="Pixels of a square frame's side; 32, or the run's.")] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="100, or the run's.")] = None,
    run: Annotated[Path | None, typer.Option(help="A run folder: firing rates are measured on its network.")] = None,
    data: Annotated[str, typer.Option(help="Frames: a set, a folder of images or an .npz; the run's without it.")] = "",
    root: Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")] = None,
    part: Annotated[str, typer.Option(help="test or validation; an .npz has no parts.")] = "validation",
    frames: Annotated[int, typer.Option(min=1, help="So many of them, spread evenly over the part.")] = 200,
    rate: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Firing rate that is assumed without --run; 0.1.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--everything", help="Also stem, shortcuts, encoder, exit and radio.")
    ] = False,
    measure: Annotated[
        Path | None, typer.Option(help="An edge model: what it costs on this machine, by a meter; needs --data.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for energy.json and energy.csv.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bytes, operations and energy at every split point, beside the published figures; or measured by a meter."""
    require("torch", "the energy ledger")
    if measure is not None:
        if network or run is not None or not data:
            raise typer.BadParameter("needs --data, and neither --network nor --run", param_hint="--measure")
        if out is not None or everything:
            raise typer.BadParameter(
                "measures whole frames, with --json for files; leave --out and --everything out", param_hint="--measure"
            )
        _measure(measure, data, root, part, as_json=as_json)
        return
    if run is not None and rate is not None:
        raise typer.BadParameter("rates are measured with --run; give one of the two", param_hint="--rate")
    if run is None and not network:
        raise typer.BadParameter("give --network, --run or --measure", param_hint="--network")
    from rich.console import Console

    from ecc_tools.collaborate.labelled import open_labelled
    from ecc_tools.ledger.account import account
    from ecc_tools.ledger.anatomy import NetworkSpec, dissect
    from ecc_tools.ledger.compare import compare
    from ecc_tools.ledger.printing import print_ledger
    from ecc_tools.ledger.rates import assume_rates, measure_rates, spec_of
    from ecc_tools.ledger.records import to_record, write
    from ecc_tools.runs import read_record

    record = None if run is None else read_record(run)
    base = NetworkSpec(kind=network, width=WIDTH, steps=STEPS, frame=(SIDE, SIDE, 3), classes=CLASSES)
    if record is not None:
        base = spec_of(record)
    spec = NetworkSpec(
        kind=network or base.kind,
        width=width or base.width,
        steps=steps or base.steps,
        frame=(side, side, base.frame[2]) if side else base.frame,
        classes=classes or base.classes,
    )
    anatomy = dissect(spec)
    if run is None or record is None:
        rates = assume_rates(anatomy, RATE if rate is None else rate)
    else:
        shown = open_labelled(data or record.run.data.name, root, part)
        with progress_bar(f"firing of {run.name}") as told:
            rates = measure_rates(anatomy, run, shown, frames, told)
    entries = account(anatomy, rates)
    published = compare(anatomy, entries)
    found = to_record(anatomy, rates, entries, published, everything=everything)
    if out is not None:
        write(found, out)
    if as_json:
        console.print_json(found)
    else:
        print_ledger(anatomy, rates, entries, published, Console(), everything=everything)


def _measure(model: Path, data: str, root: Path | None, part: str, *, as_json: bool) -> None:
    from ecc_model.modelfile import read_edge
    from ecc_tools.collaborate.labelled import open_labelled
    from ecc_tools.ledger.measuring import measure_edge
    from ecc_tools.ledger.meters import SUPPORTED, find_meter

    edge, shown = read_edge(model), open_labelled(data, root, part)
    meter = find_meter()
    if meter is None:
        reason = f"this machine has no meter of energy that can be read; supported are {SUPPORTED}"
        if as_json:
            console.print_json({"measured": None, "reason": reason})
        else:
            print(f"not measured: {reason}")
        return
    console.note(f"{meter.source}: {meter.seconds:g} s idle, then {meter.seconds:g} s busy; leave the machine alone")
    found = measure_edge(edge, shown.frames, meter, meter.seconds)
    if as_json:
        console.print_json({"measured": found.record(), "reason": None})
        return
    print(
        f"measured: {found.mj_per_frame:.4g} mJ a frame (head and exit, engine '{found.engine}', "
        f"{found.frames} frames), {found.mj_per_frame_with_idle:.4g} with the idle machine's {found.idle_mw:.4g} mW\n"
        f"meter: {found.busy.source}; {found.busy.resolution}"
    )
