"""`ecc-tools bench wire`: what a model's spikes weigh on the wire, and what coding them costs.

Every message goes through all coders in turn, so their times are of the same moment; ratios are taken message by
message. Rates are fitted to every other message, the rest is coded with them.
"""

from __future__ import annotations

import io
import itertools
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import zstandard
from bitarray import bitarray
from bitarray.util import sc_decode, sc_encode
from numpy.typing import NDArray

from ecc_broker import codec
from ecc_device.engines import make_engine
from ecc_device.learning.lesson import unpack_rows
from ecc_model import bits, console, rates
from ecc_model.bits import Spikes
from ecc_model.errors import SourceError
from ecc_model.frames import Pixels
from ecc_model.modelfile import EdgeModel, read_edge
from ecc_model.native import library
from ecc_model.optional import require
from ecc_model.progress import progress_bar
from ecc_model.rates import RateTable
from ecc_tools.bench.encoders import EncoderOption, encoder_index
from ecc_tools.frame_by_frame import encode

PEER = "zstd 3"  # what times are compared with
ZSTD_LEVELS = (1, 3, 19)
IMAGES: dict[str, tuple[str, dict[str, Any]]] = {  # name -> Pillow's format and options
    "PNG": ("PNG", {"optimize": True}),
    "WebP lossless": ("WEBP", {"lossless": True, "quality": 100, "method": 6}),
    "WebP 75": ("WEBP", {"quality": 75, "method": 6}),
    "JPEG 75": ("JPEG", {"quality": 75, "optimize": True}),
}
MOST = 10_000  # messages
MOST_IMAGES = 200  # lossless WebP takes its time
FEWEST = 20
KILOBYTE = (2, 64, 8, 8)  # a code of 8192 spikes
KILOBYTES = 100
WARM_UP = 10


@dataclass(frozen=True)
class Coder:
    """One way to write a message, and to read it again."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def spike_coders(shape: tuple[int, ...], table: RateTable) -> dict[str, Coder]:
    """Every way to write spikes of `shape`."""
    coders = {"raw bits": Coder(bits.pack, lambda data: bits.unpack(data, shape))}
    coders |= {f"zstd {level}": _zstd(level, shape) for level in ZSTD_LEVELS}
    coders["sparse bitarray"] = Coder(_sparse, lambda data: _dense(sc_decode(data), shape))
    coders["rates"] = Coder(table.encode, lambda data: table.decode(data, shape[0]))
    coders["message"] = Coder(
        lambda spikes: codec.encode_spikes(spikes, table), lambda data: codec.decode_spikes(data, shape, table)
    )
    return coders


def _zstd(level: int, shape: tuple[int, ...]) -> Coder:
    """Frames without magic number and content size, by a compressor that is kept: zstd at its best."""
    bare = zstandard.FORMAT_ZSTD1_MAGICLESS
    parameters = zstandard.ZstdCompressionParameters.from_level(level, format=bare, write_content_size=False)
    writer = zstandard.ZstdCompressor(compression_params=parameters)
    reader, size = zstandard.ZstdDecompressor(format=bare), bits.packed_size(shape)
    return Coder(
        lambda spikes: writer.compress(bits.pack(spikes)),
        lambda data: bits.unpack(reader.decompress(data, max_output_size=size), shape),
    )


def _sparse(spikes: Spikes) -> bytes:
    return sc_encode(bitarray(buffer=memoryview(bits.pack(spikes)), endian="big")[: spikes.size])


def _dense(found: bitarray, shape: tuple[int, ...]) -> Spikes:
    return np.frombuffer(found.unpack(), dtype=np.bool_).reshape(shape)


def image_coders(channels: int) -> dict[str, Coder]:
    """Every way to write a still frame (H, W, channels)."""
    return {
        name: Coder(partial(image_bytes, kind=kind, **options), partial(image_pixels, channels=channels))
        for name, (kind, options) in IMAGES.items()
    }


def image_bytes(frame: Pixels, kind: str, **options: Any) -> bytes:
    """A still frame (H, W, C) as an image of one of Pillow's formats."""
    stream = io.BytesIO()
    image = require("PIL.Image", "coding images").fromarray(frame[:, :, 0] if frame.shape[2] == 1 else frame)
    image.save(stream, kind, **options)
    return stream.getvalue()


def image_pixels(data: bytes, channels: int) -> Pixels:
    """What `image_bytes` wrote, (H, W, C) with one channel or three."""
    with require("PIL.Image", "coding images").open(io.BytesIO(data)) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.uint8)
    return pixels.reshape(*pixels.shape[:2], channels)


def measure(coders: dict[str, Coder], messages: Sequence[Any], peer: str) -> dict[str, Any]:
    """Bytes and times of each coder, and its encoding time as a multiple of the peer's, message by message."""
    times = {name: np.zeros((2, len(messages))) for name in coders}
    sizes = {name: np.zeros(len(messages)) for name in coders}
    with progress_bar(f"coding, {', '.join(coders)}") as told:
        for index, message in itertools.chain(enumerate(messages[:WARM_UP]), enumerate(messages)):
            for name, coder in coders.items():
                started = time.perf_counter()
                data = coder.encode(message)
                between = time.perf_counter()
                coder.decode(data)
                times[name][:, index] = between - started, time.perf_counter() - between
                sizes[name][index] = len(data)
            if index >= WARM_UP:
                told((index + 1) / len(messages))
    return {
        name: {
            "bytes": round(float(sizes[name].mean()), 2),
            "bytes_most": int(sizes[name].max()),
            "encode_us": _spread(1e6 * times[name][0]),
            "decode_us": _spread(1e6 * times[name][1]),
            "encode_ratio": _spread(times[name][0] / times[peer][0]),
        }
        for name in coders
    }


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return {"median": round(float(middle), 2), "p5": round(float(low), 2), "p95": round(float(high), 2)}


def bench_wire(
    model: EdgeModel, frames: Pixels | None, table: RateTable | None = None, encoder: int = 0
) -> dict[str, Any]:
    """All that is measured of a model's spikes, on `frames` (N, H, W, C) or else on the rows of its guard set.

    table: the encoder's own; without it one is fitted. `SourceError` for fewer than `FEWEST` messages.
    """
    codes = _codes(model, frames, encoder)
    if len(codes) < FEWEST:
        raise SourceError(f"{len(codes)} messages are too few to measure; give {FEWEST} frames at least")
    fitted, coded = 0, codes
    if table is None:
        require("torch", "fitting rates")
        from ecc_tools.rate_fitting import fit_rates

        table, fitted, coded = fit_rates(codes[0::2]), len(codes[0::2]), codes[1::2]
    entropy = table.code_lengths(coded)
    measured: dict[str, Any] = {
        "messages": len(coded),
        "shape": list(codes.shape[1:]),
        "firing_rate": round(float(coded.mean()), 4),
        "entropy_bits": _spread(entropy) | {"mean": round(float(entropy.mean()), 2)},
        "rates": {"kind": table.kind, "fitted_to": fitted, "coder": "Python" if library() is None else "C"},
        "spikes": measure(spike_coders(codes.shape[1:], table), list(coded), PEER),
        "one_kilobyte": one_kilobyte(float(coded.mean())),
        "machine": {"processor": platform.machine(), "system": platform.system(), "python": platform.python_version()},
    }
    if frames is not None and frames.ndim == 4 and frames.shape[-1] in (1, 3):
        shown = frames[: len(codes) : -(-len(codes) // MOST_IMAGES)]
        measured["images"] = measure(image_coders(frames.shape[3]), list(shown), "PNG")
    return measured


def one_kilobyte(rate: float) -> dict[str, Any]:
    """1 KiB of spikes that fire at `rate`, with rates by channel and neighbours: the range coder beside zstd."""
    chance = np.random.default_rng(0)
    kind = "channel+step+map+up+left"
    entries = 65536 * rate * chance.uniform(0.5, 1.5, rates.table_size(KILOBYTE, kind))
    table = rates.tables(KILOBYTE, kind, np.clip(entries, 1, 65535).astype(np.uint16))
    coders = {name: coder for name, coder in spike_coders(KILOBYTE, table).items() if name in (PEER, "rates")}
    return measure(coders, list(chance.random((KILOBYTES, *KILOBYTE)) < rate), PEER)


def _codes(model: EdgeModel, frames: Pixels | None, encoder: int) -> Spikes:
    if frames is not None:
        return encode(model.program, frames[:MOST], encoder)
    engine = make_engine(None, model.program)
    return np.stack([engine.encode(split, encoder) for split in unpack_rows(model.guard.bits[:MOST], model.program)])


def wire(
    model: Annotated[Path, typer.Option(help="The edge model whose spikes are coded.")],
    data: Annotated[
        str | None,
        typer.Option(help="Frames: a set, a folder of images per class or an .npz with labels; else the guard set."),
    ] = None,
    root: Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")] = None,
    encoder: EncoderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bytes, time and entropy of a model's spikes, coded in every way, and of the frames they stand for as images."""
    frames = None
    if data is not None:
        require("torch", "reading labelled frames")
        from ecc_tools.collaborate.labelled import open_labelled

        frames = open_labelled(data, root, "test").frames
    edge = read_edge(model)
    index = encoder_index(edge, encoder)
    measured = bench_wire(edge, frames, edge.tables[index], index)
    if as_json:
        console.print_json(measured)
    else:
        _print(measured)


def _print(measured: dict[str, Any]) -> None:
    table = measured["rates"]
    print(
        f"{measured['messages']} messages of shape {tuple(measured['shape'])}, {measured['firing_rate']:.1%} fire; "
        f"rates: {table['kind']}; entropy {measured['entropy_bits']['mean']} bits; coder in {table['coder']}"
    )
    print(f"{'':18}{'bytes':>9}{'encode, us':>12}{'decode, us':>12}{'encode / ' + PEER:>18} (5 % to 95 %)")
    for place, part in (("", measured["spikes"]), ("1 KB: ", measured["one_kilobyte"])):
        for name, row in part.items():
            ratio = row["encode_ratio"]
            print(f"{_line(place + name, row)}{ratio['median']:18.2f} ({ratio['p5']} to {ratio['p95']})")
    for name, row in measured.get("images", {}).items():
        print(_line(name, row))


def _line(name: str, row: dict[str, Any]) -> str:
    encode, decode = row["encode_us"]["median"], row["decode_us"]["median"]
    return f"{name:18}{row['bytes']:9.2f}{encode:12.1f}{decode:12.1f}"
