"""`ecc-tools`: the demo, and compiling a trained network for devices."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecc_model import console
from ecc_model.errors import EccError, ModelNotFound
from ecc_model.optional import require
from ecc_model.progress import progress_bar
from ecc_tools import train_commands
from ecc_tools.bench.cli import bench_app
from ecc_tools.collaborate import commands as collaborate_commands
from ecc_tools.data.cli import data_app
from ecc_tools.evaluation.command import evaluate
from ecc_tools.incremental import commands as incremental_commands
from ecc_tools.ledger.commands import energy
from ecc_tools.splitting.command import split

if TYPE_CHECKING:
    from ecc_tools.demo import Promises, SetUp

MOST_LOST = 0.003  # of the accuracy, to integers

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


class DemoFailed(EccError):
    """A check of the demo was not kept."""


@app.callback()
def _tools() -> None:
    """Set up models, compile them, and show the whole loop."""


Out = Annotated[Path, typer.Option(help="Folder for state, logs and report; replaces an earlier demo's.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]


SHIPPED = {
    "model": Path("examples/models/vgg9.pt"),
    "cloud": Path("examples/models/cloud.pt"),
    "first": Path("examples/streams/first.npz"),
    "second": Path("examples/streams/second.npz"),
}


@app.command(epilog="Example: ecc-tools demo --out runs/demo")
def demo(
    model: Annotated[Path, typer.Option(help="The edge model.")] = SHIPPED["model"],
    cloud: Annotated[Path, typer.Option(help="The worker's model.")] = SHIPPED["cloud"],
    first: Annotated[Path, typer.Option(help="A recording with labels (.npz).")] = SHIPPED["first"],
    second: Annotated[Path, typer.Option(help="Another one.")] = SHIPPED["second"],
    out: Out = Path("runs/demo"),
    as_json: AsJson = False,
) -> None:
    """Run and teach the whole system on two recordings with labels, as separate processes, and report.

    Without options on the models and streams of a checkout's examples folder.
    """
    from ecc_tools import demo as loop
    from ecc_tools.demo_data import DemoModels

    missing = [path for path in (model, cloud, first, second) if not path.is_file()]
    if missing:
        raise loop.DemoRefused(
            f"{missing[0]}: no such file; run in a checkout of ecc-snn, or give --model, --cloud, --first and --second"
        )
    models = DemoModels(model, cloud, first, second)
    shipped = models == DemoModels(*SHIPPED.values())
    _demo(out, [0], as_json, lambda folder, seed, stage: models, loop.SHIPPED if shipped else loop.GENERAL)


@app.command(name="demo-train", epilog="Example: ecc-tools demo-train --out runs/digits --seed 0 --seed 1 --seed 2")
def demo_train(
    out: Out = Path("runs/digits"),
    seed: Annotated[list[int], typer.Option(min=0, help="Seed of data and training; several make a summary.")] = [0],  # noqa: B006
    as_json: AsJson = False,
) -> None:
    """Train small networks on scikit-learn's digits first, then run the same loop on them."""
    require("sklearn", "the digits demo")
    require("torch", "the digits demo")
    from ecc_tools.demo import DIGITS
    from ecc_tools.setup_stage import set_up

    _demo(out, seed, as_json, set_up, DIGITS)


def _demo(out: Path, seeds: list[int], as_json: bool, set_up: SetUp, promises: Promises) -> None:
    from rich.console import Console

    require("torch", "the demo")
    from ecc_tools.demo import run_demo
    from ecc_tools.report import print_summary, print_table, write_report, write_summary
    from ecc_tools.report_record import complete
    from ecc_tools.stages import stages

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # unwinds, so that no broker or worker is left behind
    terminal, reports = Console(stderr=as_json), []
    kept = True
    for index, number in enumerate(seeds):
        folder = out if index == 0 else out.with_name(f"{out.name}-seed-{number}")
        with stages(f"seed {number}: " if len(seeds) > 1 else "") as stage:
            data = run_demo(folder, set_up, number, promises, stage)
        write_report(data, folder)
        print_table(data, terminal, folder)
        reports.append(complete(data))
        kept = kept and all(passed for _, _, passed in data.checks)
    if len(reports) > 1:
        write_summary(reports, out)
        print_summary(reports, terminal)
    if as_json:
        console.print_json(reports if len(reports) > 1 else reports[0])
    if not kept:
        raise DemoFailed("a check above was not kept; report.html shows by how much")


@app.command(name="compile", epilog="Example: ecc-tools compile runs/edge --data cifar-10 --out vgg9.pt")
def compile_(
    network: Annotated[Path, typer.Argument(help="The run folder of a VGG-9, or a torch state dict of one.")],
    data: Annotated[
        str, typer.Option(help="The run's set; for a state dict an .npz or a folder of labelled validation images.")
    ],
    out: Annotated[Path, typer.Option(help="The model file to write.")],
    root: Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, max=16, help="Time steps T of a state dict.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a device's model file: integer weights, calibration and guard set from validation frames.

    From a run it gets statistics of the training frames, too, which the learner `analytic` needs.
    """
    require("torch", "compiling a network")
    from ecc_tools.compiling import compare, load_plain, load_validation, write_model
    from ecc_tools.edge_run import open_edge_run, write_run
    from ecc_tools.layers_compared import compare_layers
    from ecc_tools.runs import RunError, is_run

    if not is_run(network) and not network.is_file():
        raise ModelNotFound(network)
    if is_run(network.parent) and network.is_file():
        raise RunError(f"{network} is part of a run, whose folder says what it is; give {network.parent}")
    if is_run(network) and steps is not None:
        raise typer.BadParameter("a run knows its time steps; leave this out", param_hint="--steps")
    if is_run(network):
        from ecc_tools.data.sets import open_dataset

        run = open_edge_run(network, open_dataset(data, root))
        net, frames, labels = run.net, run.choose.frames, run.choose.labels
        with progress_bar(f"compiling {network}") as told:
            program = write_run(out, run, told)
    elif steps is None:
        raise typer.BadParameter("a state dict does not tell its time steps; give them", param_hint="--steps")
    else:
        frames, labels, names = load_validation(data)
        net = load_plain(network, frames.shape[1:], steps)
        program, _ = write_model(
            out, net, frames, labels, names, {"made-by": "ecc-tools compile", "from": network.name}
        )
    agreement, layers = compare(net, program, frames, labels), compare_layers(net, program, frames)
    if as_json:
        found = {"model": str(out), "features_id": program.features_id} | vars(agreement)
        console.print_json(found | {"layers": [layer._asdict() for layer in layers]})
        return
    print("layer      spikes alike  bits of 31")
    for layer in layers:
        alike = "" if layer.alike is None else f"{layer.alike:.3%}"
        print(f"{layer.place:<10} {alike:>12}  {layer.bits:>10}")
    print(f"{out}: {agreement}; features {program.features_id[:8]}")
    if agreement.lost > MOST_LOST:
        print("the integers lose more than 0.3 points: train on with 'ecc-tools train --int8 --start-from RUN'")


app.command(
    epilog="Example: ecc-tools train --data cifar-10 --network vgg16 --width 0.5 --optimizer sgd --lr 0.1 --out runs/t"
)(train_commands.train)
app.command(
    epilog="Example: ecc-tools distill --teacher runs/t --data cifar-10 --network vgg9 --steps 2 --out runs/edge"
)(train_commands.distill)
app.command(epilog="Example: ecc-tools assemble runs/edge runs/t --data cifar-10 --out runs/models")(
    train_commands.assemble
)
app.command(epilog="Example: ecc-tools evaluate runs/models/vgg9.pt --data cifar-10 --out runs/evaluation")(evaluate)

app.command(epilog="Example: ecc-tools collaborate vgg9.pt cloud.pt --data cifar-10 --out runs/collaborate")(
    collaborate_commands.collaborate
)
app.command(
    epilog="Example: ecc-tools costs cloud.pt --edge vgg9.pt --data first.npz --data second.npz --out runs/costs"
)(collaborate_commands.costs)

app.command(
    epilog="Example: ecc-tools split runs/edge runs/t --data cifar-10 --out runs/split --max-drop 3 --by bytes"
)(split)

app.command(epilog="Example: ecc-tools incremental runs/models --data cifar-10 --split B6-Inc2 --out runs/tasks")(
    incremental_commands.incremental
)
app.command(epilog="Example: ecc-tools drift vgg9.pt cloud.pt --data cifar-10 --strength 3 --out runs/drift")(
    incremental_commands.drift
)

app.command(epilog="Example: ecc-tools energy --network spiking-resnet50 --everything")(energy)

app.add_typer(data_app, name="data")

app.add_typer(bench_app, name="bench")


def main() -> None:
    """Entry point of `ecc-tools`."""
    console.run(app)
