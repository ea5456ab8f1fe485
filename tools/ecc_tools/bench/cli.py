"""`ecc-tools bench`: one command for each measurement."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecc_model import console
from ecc_model.progress import progress_bar
from ecc_tools.bench.channel import channel
from ecc_tools.bench.early import early
from ecc_tools.bench.edge import edge
from ecc_tools.bench.flips import flips
from ecc_tools.bench.footprint import footprint
from ecc_tools.bench.images import images
from ecc_tools.bench.learners import learners
from ecc_tools.bench.limit import limits
from ecc_tools.bench.sdk import sdk
from ecc_tools.bench.steps import steps
from ecc_tools.bench.wire import wire

bench_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure, side by side in one run.",
    epilog="Example: ecc-tools bench link --model examples/models/vgg9.pt",
)


@bench_app.command(epilog="Example: ecc-tools bench link --model examples/models/vgg9.pt --requests 500")
def link(
    model: Annotated[Path, typer.Option(help="The edge model whose spikes are sent.")],
    requests: Annotated[int, typer.Option(min=20, help="Rounds to time.")] = 500,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a question to the cloud adds to a frame on loopback, beside a bare TCP echo."""
    from ecc_tools.bench.link import bench_link

    with progress_bar("asking") as told:
        measured = bench_link(model, requests, told)
    if as_json:
        console.print_json(measured)
        return
    for name in ("request_path_ms", "tcp_echo_ms"):
        values = ", ".join(f"{key} {value:.3f}" for key, value in measured[name].items())
        print(f"{name.removesuffix('_ms').replace('_', ' ')}: {values} ms")
    ratio = measured["ratio"]
    print(f"ratio, round by round: {ratio['median']} (5 % to 95 %: {ratio['p5']} to {ratio['p95']}), n {requests}")


bench_app.command(name="images", epilog="Example: ecc-tools bench images vgg9.pt cloud.pt --data cifar-10")(images)
bench_app.command(name="channel", epilog="Example: ecc-tools bench channel vgg9.pt cloud.pt --data cifar-10")(channel)
bench_app.command(name="sdk", epilog="Example: ecc-tools bench sdk examples/models/vgg9.pt --calls 10000")(sdk)
bench_app.command(name="steps", epilog="Example: ecc-tools bench steps vgg9.pt cloud.pt --data cifar-10")(steps)
bench_app.command(name="wire", epilog="Example: ecc-tools bench wire --model vgg9.pt --data cifar-10")(wire)
bench_app.command(name="edge", epilog="Example: ecc-tools bench edge --against tflite --against ann --out runs/edge")(
    edge
)
bench_app.command(name="early", epilog="Example: ecc-tools bench early vgg9.pt --data cifar-10")(early)
bench_app.command(name="limit", epilog="Example: ecc-tools bench limit --width 0.5 --rate 0.05 --rate 0.1")(limits)
bench_app.command(name="learners", epilog="Example: ecc-tools bench learners --model examples/models/vgg9.pt --json")(
    learners
)
bench_app.command(
    name="flips", epilog="Example: ecc-tools bench flips --model vgg9.pt --first first.npz --second second.npz"
)(flips)
bench_app.command(name="footprint", epilog="Example: ecc-tools bench footprint --model vgg9.pt")(footprint)
