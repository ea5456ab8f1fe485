"""`ecc-tools bench images`: bytes against accuracy, spikes beside images of every quality.

The cloud's whole network answers each frame as JPEG or lossy WebP of that quality would bring it; its tail answers the
spikes. So each point is what one would send, and how often the cloud is then right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ecc_broker.codec import encode_spikes
from ecc_model import console
from ecc_model.errors import SourceError
from ecc_model.frames import Pixels
from ecc_model.optional import require
from ecc_tools.bench.encoders import EncoderOption
from ecc_tools.bench.wire import IMAGES, image_bytes, image_pixels

QUALITIES = (1, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
LOSSY: dict[str, dict[str, Any]] = {"JPEG": {"optimize": True}, "WEBP": {"method": 6}}
LOSSLESS = {"PNG lossless": IMAGES["PNG"], "WebP lossless": IMAGES["WebP lossless"]}
AT_ONCE = 200  # frames through the cloud's network
JSON, PLOT = "images.json", "images.png"


@dataclass(frozen=True)
class Point:
    """One way to send a frame: mean bytes, and the share of answers that are right. quality: None where it has none."""

    sent_as: str
    quality: int | None
    bytes: float
    accuracy: float


def image_points(frames: Pixels, right: Any) -> Iterator[Point]:
    """Points of images; `right(frames)` is the share of frames (N, H, W, C) that the cloud answers rightly."""
    plain = right(frames)
    for name, (kind, options) in LOSSLESS.items():
        sizes = [len(image_bytes(frame, kind, **options)) for frame in frames]
        yield Point(name, None, float(np.mean(sizes)), plain)
    for kind, options in LOSSY.items():
        for quality in QUALITIES:
            written = [image_bytes(frame, kind, quality=quality, **options) for frame in frames]
            shown = np.stack([image_pixels(data, frames.shape[3]) for data in written])
            yield Point(_name(kind), quality, float(np.mean([len(data) for data in written])), right(shown))


def at_least(points: Sequence[Point], kind: str, accuracy: float) -> float | None:
    """Bytes of the smallest images of `kind` with which the cloud is as accurate; between two qualities a mean.

    None where no quality reaches it.
    """
    own = sorted((p for p in points if p.sent_as == kind), key=lambda p: p.bytes)
    for before, point in zip([None, *own], own, strict=False):
        if point.accuracy >= accuracy:
            if before is None or point.accuracy == before.accuracy:
                return point.bytes
            share = (accuracy - before.accuracy) / (point.accuracy - before.accuracy)
            return before.bytes + share * (point.bytes - before.bytes)
    return None


def _name(kind: str) -> str:
    return "WebP" if kind == "WEBP" else kind


def images(
    edge: Annotated[Path, typer.Argument(help="The edge model, e.g. vgg9.pt.")],
    cloud: Annotated[Path, typer.Argument(help="The worker's model, e.g. cloud.pt; with a teacher.")],
    data: Annotated[str, typer.Option(help="A set, a folder of images per class, or an .npz with labels.")],
    root: Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Test frames to send, the first ones.")] = 2000,
    encoder: EncoderOption = None,
    out: Annotated[Path, typer.Option(help="Folder for table and plot.")] = Path("runs/images"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bytes against accuracy: spikes, and the frame as JPEG, WebP and PNG, answered by the same cloud."""
    for package in ("torch", "matplotlib"):
        require(package, "this comparison")
    found = _compare(edge, cloud, data, root, frames, encoder, out)
    if as_json:
        console.print_json(found)
    else:
        _print(found, out)


def _compare(
    edge: Path, cloud: Path, data: str, root: Path | None, most: int, encoder: str | None, out: Path
) -> dict[str, Any]:
    from ecc_tools.batched import fit_all, in_chunks
    from ecc_tools.bench.pair import open_pair
    from ecc_tools.stages import stages

    pair = open_pair(edge, cloud, data, root, encoder=encoder, sends=("features", "frames"))
    worker, labelled, table = pair.worker, pair.labelled, pair.table
    shown, truth = labelled.frames[:most], labelled.truth[:most]
    if shown.ndim != 4:
        raise SourceError(f"{data}: frames with time steps are no images; give still frames")

    def share(logits: Sequence[Any]) -> float:
        return float(
            np.mean([worker.labels[int(row.argmax())] == label for row, label in zip(logits, truth, strict=True)])
        )

    def right(images: Pixels) -> float:
        fitted = fit_all(images, worker.frame)
        return share([row for chunk in in_chunks(fitted, AT_ONCE) for row in worker.frames(list(chunk))])

    with stages("") as stage:
        told = stage("spikes")
        codes = pair.codes(shown)
        size = float(np.mean([len(encode_spikes(code, table)) for code in codes]))
        spikes = Point("spikes", None, size, share(pair.answers(codes)))
        told(1.0)
        told, points = stage("images"), [spikes]
        for point in image_points(shown, right):
            points.append(point)
            told(len(points) / (1 + len(LOSSLESS) + len(LOSSY) * len(QUALITIES)))
    found = {
        "schema": 1,
        "n": len(shown),
        "edge": {"file": str(edge), "sha256": pair.model.sha256},
        "points": [asdict(point) for point in points],
        "as_accurate_as_spikes": {kind: at_least(points, kind, spikes.accuracy) for kind in map(_name, LOSSY)},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / JSON).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    _draw(out / PLOT, points)
    return found


def _print(found: dict[str, Any], out: Path) -> None:
    for point in found["points"]:
        quality = "" if point["quality"] is None else f" {point['quality']}"
        print(f"{point['sent_as'] + quality:16}{point['bytes']:10.1f} bytes{100 * point['accuracy']:9.2f} %")
    for kind, size in found["as_accurate_as_spikes"].items():
        print(f"{kind} as accurate as spikes: " + (f"{size:.0f} bytes" if size is not None else "at no quality"))
    print(f"n {found['n']} test frames, mean bytes without the message around them; plot: {out / PLOT}")


def _draw(path: Path, points: Sequence[Point]) -> None:
    figure = require("matplotlib.figure", "the plot").Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(point.sent_as for point in points):
        own = [point for point in points if point.sent_as == name]
        axes.plot([point.bytes for point in own], [100 * point.accuracy for point in own], marker="o", label=name)
    axes.set(xscale="log", xlabel="bytes of a frame, mean", ylabel="test frames right, %")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
