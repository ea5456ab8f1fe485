"""From a trained network to a model file: integers, calibration, guard set, and how far the integers agree."""

from __future__ import annotations

import contextlib
import itertools
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ecc_broker.codec import encode_spikes
from ecc_device.calibration import entropies, fit_temperature, fit_threshold
from ecc_device.early import fit_early, step_logits
from ecc_device.engines import make_engine
from ecc_device.learning.gate import MIN_JUDGE_ROWS
from ecc_device.sources import open_source
from ecc_model import bits
from ecc_model.bits import Spikes
from ecc_model.errors import CompileError, ModelCorrupt, ModelNotFound, SourceError
from ecc_model.frames import Pixels
from ecc_model.modelfile import ACCEPTED_SHARE, GuardSet, LeadingInfo
from ecc_model.nets.checkpoint import encoder_infos, round_to_half, save_cloud, save_edge
from ecc_model.nets.cloud import CloudNet
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_network
from ecc_model.nets.vgg import HIDDEN, STAGES, SpikingVgg9, VggConfig, to_unit
from ecc_model.program import Program
from ecc_model.rates import RateTable
from ecc_tools.augmentation import Augmentation
from ecc_tools.bottleneck import code_logits
from ecc_tools.data.parts import VALIDATION_SHARE, Part
from ecc_tools.frame_by_frame import encode_all, integer_logits, split_spikes
from ecc_tools.leading_fitting import fit_leading
from ecc_tools.rate_fitting import fit_rates
from ecc_tools.statistics_fitting import fit_statistics
from ecc_tools.training import Progress, seeded

REPLAY_PER_CLASS = 8  # validation frames of each class that an update replays
JUDGE_ROWS = 360  # about so many, equally many of each class, travel in the model file to judge with
ENOUGH_WRONG = 0.05  # share of wrong answers from which plain frames tell a temperature
VIEW_SEED = 0
VIEWS = 3  # each of them also in this many views less one
Labels = NDArray[np.int64]
Labelled = tuple[Pixels, Labels, tuple[str, ...]]  # frames, labels, and the labels' names


@dataclass(frozen=True)
class Agreement:
    """The integer program beside the float network, on frames that neither was trained on."""

    frames: int
    agreement: float  # share of frames with the same argmax
    float_accuracy: float
    integer_accuracy: float

    @property
    def lost(self) -> float:
        """Share of the frames that floats answer rightly and integers do not, less the others."""
        return self.float_accuracy - self.integer_accuracy

    def __str__(self) -> str:
        return (
            f"{self.agreement:.1%} of {self.frames} frames agree; accuracy {self.float_accuracy:.1%} in float, "
            f"{self.integer_accuracy:.1%} in integers"
        )


class Reading(NamedTuple):
    """How a worker reads the codes of one encoder, on validation frames."""

    encoder: str
    accuracy: float  # share of the frames
    bytes: float  # mean body of a message with all time steps
    leading: LeadingInfo | None  # how leading time steps are answered alone; None where that saves nothing


def write_model(
    path: Path,
    net: SpikingVgg9,
    frames: Pixels,
    labels: Labels,
    names: Sequence[str],
    provenance: dict[str, str],
    *,
    augmentation: str = "digits",
    sent: Pixels | None = None,
    learning: Part | None = None,
    progress: Progress = lambda share: None,
    accepted: float = ACCEPTED_SHARE,
    half: bool = False,
    others: Sequence[nn.Sequential] = (),
) -> tuple[Program, list[RateTable]]:
    """Compile `net`, calibrate it and choose its guard set on validation frames (N, H, W, C), and write `path`.

    Returns the program and its encoders' rate tables, which `write_cloud` needs too; the rates are those of the frames
    `sent`, where others than these go up. With the frames `learning`, those that the network was trained on, the file
    gets statistics, which a device can learn from without torch; they take nearly all of the time. `augmentation` makes
    the further views of a frame; `accepted` is the share of known frames that the edge answers by itself; `half` stores
    torch's weights in 16 bits: the program is that of the rounded weights; `others` are further encoders.
    """
    if labels.min() < 0 or labels.max() >= net.config.classes or len(names) != net.config.classes:
        raise CompileError(
            f"{len(names)} names and labels {labels.min()} to {labels.max()} for a network of {net.config.classes} "
            "classes; give validation frames of just these classes"
        )
    if half:
        round_to_half(net)
    program = compile_network(net, others)
    views = Augmentation(augmentation)
    guard = choose_guard(program, frames, labels, views)
    temperature, threshold = calibrate(program, frames, labels, views, accepted)
    tables = [fit_rates(code) for code in encode_all(program, frames if sent is None else sent)]
    statistics = None
    if learning is not None:
        statistics = fit_statistics(program, learning, Part(frames, labels), views, progress)
    progress(1.0)
    save_edge(
        path,
        net,
        program,
        guard,
        labels=names,
        temperature=temperature,
        threshold=threshold,
        accepted=accepted,
        provenance=provenance,
        rates=tables,
        statistics=statistics,
        early=fit_early(step_logits(program, map(make_engine(None, program).head, frames)), labels),
        half=half,
    )
    return program, tables


def write_cloud(
    path: Path,
    cloud: CloudNet,
    program: Program,
    tables: Sequence[RateTable],
    validation: Part,
    names: Sequence[str],
    provenance: dict[str, str],
    *,
    half: bool = False,
    leading: bool = False,
) -> list[Reading]:
    """Write the worker's model for the edge program whose spikes it reads; temperature by validation frames.

    `tables` are those in the edge model's file. `leading`: the tail knows leading time steps. Returns how well each
    encoder's codes are read.
    """
    if half:
        round_to_half(cloud)
    codes = encode_all(program, validation.frames)
    logits = [code_logits(cloud, code, decoder) for decoder, code in enumerate(codes)]
    truth = validation.labels
    temperature = fit_temperature(np.concatenate(logits).tolist(), np.tile(truth, len(logits)).tolist())
    readings, infos = [], []
    for decoder, info in enumerate(encoder_infos(program)):
        code, whole = codes[decoder], logits[decoder]
        known = None
        if leading:

            def alone(steps: int, code: Spikes = code, decoder: int = decoder) -> NDArray[np.float32]:
                return code_logits(cloud, code[:, :steps], decoder) / np.float32(temperature)

            known = fit_leading(code, tables[decoder], whole, alone, truth)
        infos.append(msgspec.structs.replace(info, leading=known, decoder=decoder))
        sizes = [len(encode_spikes(one, tables[decoder])) for one in code]
        readings.append(Reading(info.name, float((whole.argmax(axis=1) == truth).mean()), float(np.mean(sizes)), known))
    frame = program.input
    save_cloud(
        path,
        cloud,
        labels=names,
        temperature=temperature,
        encoders=infos,
        frame=[frame.steps, frame.channels, frame.height, frame.width],
        provenance=provenance,
        rates={info.name: table for info, table in zip(infos, tables, strict=True)},
        half=half,
    )
    return readings


def choose_guard(program: Program, frames: Pixels, labels: Labels, augmentation: Augmentation) -> GuardSet:
    """The rows of `split_guard`, as the spikes of their frames; those to replay in `VIEWS` views."""
    replayed, judging = split_guard(labels)
    shown = np.concatenate([frames[judging], show(frames[replayed], VIEWS, augmentation)])
    packed = [np.frombuffer(bits.pack(spikes), np.uint8) for spikes in split_spikes(program, shown)]
    return GuardSet(
        np.stack(packed),
        np.concatenate([labels[judging], np.tile(labels[replayed], VIEWS)]).astype(np.int32),
        (np.arange(len(packed)) < len(judging)).astype(np.uint8),
    )


def split_guard(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which validation frames an update replays, `REPLAY_PER_CLASS` of each class, and which it is judged with.

    `CompileError` where too few are left to judge with.
    """
    replay, judge, classes = [], [], np.unique(labels)
    share = -(-JUDGE_ROWS // len(classes))
    for label in classes:
        rows = np.flatnonzero(labels == label)
        replay.append(rows[:REPLAY_PER_CLASS])
        judge.append(rows[REPLAY_PER_CLASS : REPLAY_PER_CLASS + share])
    replayed, judging = np.sort(np.concatenate(replay)), np.sort(np.concatenate(judge))
    if len(judging) < MIN_JUDGE_ROWS:
        needed = MIN_JUDGE_ROWS + len(replayed)
        images = math.ceil(needed / VALIDATION_SHARE / 100) * 100
        raise CompileError(
            f"{len(labels)} validation frames leave {len(judging)} to judge updates with; give at least {needed} "
            f"(of a set they are a tenth of the training images, so some {images:,} of those)"
        )
    return replayed, judging


def calibrate(
    program: Program, frames: Pixels, labels: Labels, augmentation: Augmentation, accepted: float = ACCEPTED_SHARE
) -> tuple[float, float]:
    """Temperature, and the threshold that a share of `accepted` stays below, by validation frames.

    Where nearly all of them are answered rightly they cannot tell a temperature; augmented views join them then.
    """
    plain = integer_logits(program, frames)
    shown, truth = plain, labels
    if (plain.argmax(axis=1) != labels).mean() < ENOUGH_WRONG:
        shown = integer_logits(program, show(frames, VIEWS, augmentation))
        truth = np.tile(labels, VIEWS)
    temperature = fit_temperature(shown.tolist(), truth.tolist())
    return temperature, fit_threshold(entropies(plain, temperature), accepted)


def show(frames: Pixels, count: int, augmentation: Augmentation) -> Pixels:
    """The frames, then `count - 1` augmented copies of all of them."""
    images, generator = torch.from_numpy(frames), seeded(VIEW_SEED)
    views: Pixels = torch.cat([images, *(augmentation(images, generator) for _ in range(count - 1))]).numpy()
    return views


def compare(net: SpikingVgg9, program: Program, frames: Pixels, labels: Labels) -> Agreement:
    """Float network and integer program on the same frames."""
    with torch.inference_mode():
        floats = net(to_unit(torch.from_numpy(frames))).argmax(1).numpy()
    integers = integer_logits(program, frames).argmax(axis=1)
    return Agreement(
        len(labels),
        float((floats == integers).mean()),
        float((floats == labels).mean()),
        float((integers == labels).mean()),
    )


def load_plain(checkpoint: Path, frame: tuple[int, ...], steps: int) -> SpikingVgg9:
    """The network of a plain state dict, with an encoder of stride 1; its sizes are read off the weights.

    frame: (H, W, C). `ModelNotFound` when there is no such file, `ModelCorrupt` when it holds something else.
    """
    if checkpoint.is_dir():
        raise ModelNotFound(checkpoint)
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        head = [name for name in state if name.startswith("head.") and name.endswith("conv.weight")]
        linears = sorted((n for n in state if n.endswith("linear.weight")), key=lambda n: int(n.split(".")[1]))
        hidden, classes = (int(state[name].shape[0]) for name in linears)
        split = {len(stage): index for index, stage in enumerate(itertools.accumulate(STAGES), 1)}[len(head)]
        config = VggConfig(
            steps=steps,
            channels=frame[2],
            height=frame[0],
            width_px=frame[1],
            width=hidden / HIDDEN,  # the finest of the rounded sizes
            classes=classes,
            split=split,
            code_channels=state["encoder.0.conv.weight"].shape[0],
        )
        net = SpikingVgg9(config, Lif)
        net.load_state_dict(state)
    except FileNotFoundError as exc:
        raise ModelNotFound(checkpoint) from exc
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as exc:
        reason = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise ModelCorrupt(checkpoint, f"not the weights of a spiking VGG-9 for such frames: {reason:.100}") from exc
    return net.eval()


def load_validation(spec: str) -> Labelled:
    """All frames (N, H, W, C) of a labelled source, their labels (N,) and the labels' names."""
    with contextlib.closing(open_source(spec)) as source:
        if source.labels is None:
            raise SourceError(f"{spec}: frames without labels; give a source with labels")
        names = tuple(source.labels)
        shown = [(frame.pixels, names.index(frame.label)) for frame in source if frame.label is not None]
    if {pixels.ndim for pixels, _ in shown} != {3}:
        raise SourceError(
            f"{spec}: labelled still frames are needed here, not frames with time steps or none; of such frames "
            "examples/06_event_camera.py makes a model"
        )
    if len({pixels.shape for pixels, _ in shown}) != 1:
        raise SourceError(f"{spec}: frames of one size are needed here; make an .npz of them")
    return np.stack([pixels for pixels, _ in shown]), np.array([label for _, label in shown], np.int64), names
