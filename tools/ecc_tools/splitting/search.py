"""Every candidate trained and measured on validation images, each in a folder of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec
import numpy as np

from ecc_broker.codec import LOGIT_BYTES, encode_spikes
from ecc_device.engines import make_engine
from ecc_device.linkprofiles import LinkProfile
from ecc_model.frames import Pixels
from ecc_model.modelfile import EdgeModel, read_edge, read_manifest
from ecc_model.rates import RateTable
from ecc_tools.assembling import CLOUD_FILE, EDGE_FILE, BottleneckConfig, assemble
from ecc_tools.batched import BatchedProgram, in_chunks
from ecc_tools.collaborate.operations import sections_mj
from ecc_tools.data.parts import DataSet
from ecc_tools.evaluation.counting import Tally
from ecc_tools.runs import RunError, file_sha256, weights_sha256
from ecc_tools.splitting.candidates import Candidate
from ecc_tools.stages import Stage

FIGURES = "figures.json"
TIMED_FRAMES = 50
CRITERIA = ("bytes", "energy", "latency")


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one candidate is like, on `n` validation images.

    Accuracies in percent: `edge` in integers on its own classes, `features` and `teacher` on all. `body_bytes`: of a
    message's spikes as they travel, codec byte included, mean. `head_mj`, `encoder_mj`: modelled, mean of a frame.
    `device_ms`: head, encoder and codec on this machine, median.
    """

    candidate: str
    inputs: str  # what it was made from; figures of other inputs are not reused
    files: tuple[str, str]  # SHA-256 of the model files; nor are those of other files
    n: int
    edge: float
    features: float
    teacher: float
    raw_bits: int
    body_bytes: float
    entropy_bits: float
    head_mj: float
    encoder_mj: float
    device_ms: float
    reply_bytes: int

    @property
    def drop(self) -> float:
        """Points that features lose against the teacher on frames."""
        return self.teacher - self.features


def search(
    edge: Path,
    teacher: Path,
    data: DataSet,
    config: BottleneckConfig,
    candidates: Sequence[Candidate],
    out: Path,
    *,
    half: bool,
    stage: Stage,
) -> list[Figures]:
    """The figures of all candidates, in their order; those that `out` has from an earlier search are not made again.

    `config` says how each is trained. Errors: `assemble`.
    """
    learn, validation = data.training()
    given = f"{weights_sha256(edge)} {weights_sha256(teacher)} {learn.sha256} {'half' if half else 'whole'}"
    found = []
    for candidate in candidates:
        folder, own = out / str(candidate), with_candidate(config, candidate)
        inputs = f"{given} {msgspec.json.encode(own).decode()}"
        figures = _read(folder / FIGURES)
        if figures is None or (figures.inputs, figures.files) != (inputs, _files(folder)):
            accuracy = assemble(edge, teacher, data, own, folder, half=half, stage=_named(stage, candidate))
            figures = measure(candidate, inputs, folder, accuracy, validation.frames)
            _write(folder / FIGURES, figures)
        found.append(figures)
    return found


def with_candidate(config: BottleneckConfig, candidate: Candidate) -> BottleneckConfig:
    """`config` with the candidate's cut and encoder."""
    return msgspec.structs.replace(
        config, split=candidate.split, code_channels=candidate.channels, code_stride=candidate.stride
    )


def choose(found: Sequence[Figures], max_drop: float, by: str, link: LinkProfile) -> Figures | None:
    """The best candidate that loses at most `max_drop` points; None where none does."""
    within = [figures for figures in found if figures.drop <= max_drop]
    return min(within, key=lambda figures: (cost(figures, by, link), figures.drop), default=None)


def none_within(found: Sequence[Figures], max_drop: float) -> RunError:
    """What to say where `choose` finds none."""
    least = min(found, key=lambda figures: figures.drop)
    return RunError(
        f"every candidate loses more than {max_drop:g} points, {least.candidate} the least: {least.drop:.2f}; "
        "give wider ones, or a larger --max-drop"
    )


def cost(figures: Figures, by: str, link: LinkProfile) -> float:
    """What is to be small: bytes of a message, modelled millijoule of the device, or milliseconds to the answer."""
    if by == "bytes":
        return figures.body_bytes
    if by == "energy":
        return figures.head_mj + figures.encoder_mj
    return figures.device_ms + link_ms(link, figures.body_bytes, figures.reply_bytes)


def link_ms(link: LinkProfile, bytes_up: float, bytes_down: float) -> float:
    """Mean milliseconds that a question and its answer spend on the link (assumed: see `ecc_device.linkprofiles`)."""
    return 1000.0 * (2 * (link.delay_s + link.jitter_s) + (bytes_up + bytes_down) / link.bytes_per_s)


def measure(candidate: Candidate, inputs: str, folder: Path, accuracy: dict[str, float], frames: Pixels) -> Figures:
    """The figures of the model files in `folder`, whose accuracies `assemble` has told; frames (N, H, W, C)."""
    model, classes = read_edge(folder / EDGE_FILE), len(read_manifest(folder / CLOUD_FILE, "cloud").labels)
    table = cast(RateTable, model.rates)
    program, tally = BatchedProgram(model.program), Tally()
    codes = np.concatenate([program.run(chunk, tally.watch).code for chunk in in_chunks(frames)])
    mj = sections_mj(tally.operations(len(frames)))
    return Figures(
        candidate=str(candidate),
        inputs=inputs,
        files=_files(folder),
        n=len(codes),
        edge=accuracy["edge"],
        features=accuracy["features"],
        teacher=accuracy["teacher"],
        raw_bits=math.prod(model.program.code_shape),
        body_bytes=float(np.mean([len(encode_spikes(code, table)) for code in codes])),
        entropy_bits=float(table.code_lengths(codes).mean()),
        head_mj=mj["head"],
        encoder_mj=mj["encoder"],
        device_ms=_time_ms(model, table, frames[:TIMED_FRAMES]),
        reply_bytes=LOGIT_BYTES * classes,
    )


def _time_ms(model: EdgeModel, table: RateTable, frames: Pixels) -> float:
    """Median time from a frame to its message's body, with the engine that devices take by default."""
    engine = make_engine(None, model.program)
    taken = []
    for frame in frames:
        started = time.perf_counter()
        encode_spikes(engine.encode(engine.head(frame)), table)
        taken.append(1000.0 * (time.perf_counter() - started))
    return float(np.median(taken))


def _files(folder: Path) -> tuple[str, str]:
    """What `Figures.files` says of a folder; "" for a file that is not there."""
    edge, cloud = folder / EDGE_FILE, folder / CLOUD_FILE
    first, second = (file_sha256(path) if path.exists() else "" for path in (edge, cloud))
    return first, second


def _named(stage: Stage, candidate: Candidate) -> Stage:
    return lambda title: stage(f"{candidate}: {title}")


def _read(path: Path) -> Figures | None:
    """Figures of an earlier search; None where there are none, or of another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Figures)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _write(path: Path, figures: Figures) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2))
    partial.replace(path)
