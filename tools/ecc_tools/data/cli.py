"""`ecc-tools data`: what sets there are, bringing them here, and looking at them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ecc_model import console

data_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Data sets: fetch, check, describe, look at.",
    epilog="Example: ecc-tools data fetch cifar-10 --root data",
)

Name = Annotated[str, typer.Argument(help="A set of 'ecc-tools data list', or a folder of images per class.")]
Root = Annotated[
    Path | None, typer.Option(envvar="ECC_DATA", help="The folder of all sets; 'data' if nothing is said.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@data_app.command(name="list", epilog="Example: ecc-tools data list --root data")
def list_(root: Root = None, as_json: AsJson = False) -> None:
    """The sets that have a name, and whether they lie here."""
    from ecc_tools.data.fetch import ARCHIVES
    from ecc_tools.data.sets import SETS, data_root

    folders = {name: data_root(root) / archive.folder for name, archive in ARCHIVES.items()}
    rows = [
        {
            "name": name,
            "holds": known.holds,
            "here": name not in folders or folders[name].is_dir(),
            "page": known.page,
            "terms": known.terms,
        }
        for name, known in SETS.items()
    ]
    if as_json:
        console.print_json(rows)
        return
    for row in rows:
        print(f"{row['name']:14} {'here' if row['here'] else '-':5} {row['holds']}")


@data_app.command(epilog="Example: ecc-tools data fetch cifar-10 --root data")
def fetch(
    name: Annotated[str, typer.Argument(help="A set of 'ecc-tools data list'.")],
    root: Root = None,
) -> None:
    """Download a set from its official address, check and unpack it; an interrupted download goes on."""
    from ecc_tools.data.fetch import fetch as bring

    folder, new = bring(name, root)
    print(f"{folder}: {'fetched; its archive has the official checksum' if new else 'was there already'}")


@data_app.command(epilog="Example: ecc-tools data verify cifar-10 --root data")
def verify(name: Name, root: Root = None) -> None:
    """Compare the files of a set with their checksums, or read every image where there are none."""
    from ecc_tools.data.fetch import verify as check

    print(f"{name}: {check(name, root)}")


@data_app.command(epilog="Example: ecc-tools data describe cifar-10 --root data --json")
def describe(name: Name, root: Root = None, as_json: AsJson = False) -> None:
    """Parts, images of each class, sizes, SHA-256 and terms of use."""
    from ecc_tools.data.describe import describe as tell
    from ecc_tools.data.sets import open_dataset

    told = tell(open_dataset(name, root))
    if as_json:
        console.print_json(told)
        return
    print(f"{told['name']}: {len(told['classes'])} classes; terms: {told['terms']}")
    for part, figures in told["parts"].items():
        counts = figures["per_class"].values()
        shape = " x ".join(map(str, figures["shape"]))
        each = f"{min(counts)} to {max(counts)}" if len(set(counts)) > 1 else f"{min(counts)}"
        print(f"  {part:10} {figures['images']:6} images, {each} of each class, {shape}, {figures['sha256']}")


@data_app.command(epilog="Example: ecc-tools data sheet cifar-10 --root data --out sheet.png")
def sheet(
    name: Name,
    out: Annotated[Path, typer.Option(help="The PNG to write.")],
    root: Root = None,
) -> None:
    """A picture of the first images of every class."""
    from ecc_tools.data.sets import open_dataset
    from ecc_tools.data.sheet import write_sheet

    width, height = write_sheet(open_dataset(name, root), out)
    print(f"{out}: {width} x {height} pixels")


@data_app.command(epilog="Example: ecc-tools data record cifar-10 --frames 1000 --out first.npz --out second.npz")
def record(
    name: Name,
    out: Annotated[list[Path], typer.Option(help="A recording to write; repeat it for several without common images.")],
    frames: Annotated[int, typer.Option(min=1, help="Frames in each.")] = 1000,
    rate: Annotated[float, typer.Option(min=0.001, help="Frames a second.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Decides which images, and in which order.")] = 0,
    root: Root = None,
) -> None:
    """Recordings with labels for 'ecc-device replay', of the set's test images."""
    from ecc_tools.data.sets import open_dataset
    from ecc_tools.data.streams import write_streams

    write_streams(open_dataset(name, root), out, frames, seed, rate)
    for path in out:
        print(f"{path}: {path.stat().st_size} bytes")
