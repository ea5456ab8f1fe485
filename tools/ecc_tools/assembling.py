"""`ecc-tools assemble`: from two training runs to the pair of model files that device and worker run."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from ecc_model.modelfile import ACCEPTED_SHARE
from ecc_model.nets.ann import AnnConfig, Kind
from ecc_model.nets.cloud import CloudConfig, CloudNet, CodeConfig
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_network
from ecc_model.nets.spikebottlenet import take_over
from ecc_model.nets.vgg import SpikingVgg9, build_encoder, to_unit
from ecc_tools.augmentation import Augmentation
from ecc_tools.bottleneck import CHUNK, EdgeLoss, train_bottleneck, tune_cloud
from ecc_tools.compiling import split_guard, write_cloud, write_model
from ecc_tools.data.parts import DataSet, Labels
from ecc_tools.frame_by_frame import integer_logits
from ecc_tools.networks import DENSE, VGG9
from ecc_tools.runs import Record, RunError, check_images, code_version, load_run, weights_sha256
from ecc_tools.stages import Stage
from ecc_tools.training import Plan, Views

EDGE_FILE, CLOUD_FILE = "vgg9.pt", "cloud.pt"


class BottleneckConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What lies between edge and cloud, and how it is trained."""

    seed: int
    split: int  # the pool after which the edge network is cut
    code_channels: int
    code_stride: int
    tail_channels: int
    plan: Plan
    tune: Plan  # of decoder and tail, once more, on what the integer encoder emits
    copies: int  # views of each image that it is tuned on, the plain one included
    rate: float = 0.0  # weight of a message's estimated entropy, per bit
    noise: float = 0.0  # share of the bits that turn on their way
    progressive: bool = False  # leading time steps may go up first, and be answered alone
    together: bool = False  # the edge network is trained on with all of this
    early: float = 0.0  # weight, then, of its answers after fewer than T steps
    accepted: float = ACCEPTED_SHARE  # share of known frames that the edge answers by itself
    others: tuple[int, ...] = ()  # channels of further encoders, fewer each time, with the same stride


def assemble(
    edge: Path, teacher: Path, data: DataSet, config: BottleneckConfig, out: Path, *, half: bool, stage: Stage
) -> dict[str, float]:
    """Train encoder, decoder and tail, compile the edge network, and write `vgg9.pt` and `cloud.pt` into `out`.

    Returns accuracies on the validation part in percent: `edge` (integers, its own classes), `features` (all of the
    teacher's classes, through the integer encoder) and `teacher`; of a progressive one also `leading_steps` and `more`,
    the share that needs all steps, unless that saves no bytes; of several encoders these are of the first, and
    `features, NAME` and `bytes, NAME` of each. `RunError` for runs that do not fit each other.
    """
    (edge_net, edge_record), (teacher_net, teacher_record) = load_run(edge), load_run(teacher)
    source = cast(SpikingVgg9, edge_net)
    _check(edge, edge_record, teacher, teacher_record, data)
    names, known = teacher_record.provenance.labels, edge_record.provenance.labels
    learn, choose = (part.of([data.names.index(name) for name in names]) for part in data.training())
    inside = [names.index(name) for name in known]
    own, learning = choose.of(inside), learn.of(inside)
    split_guard(own.labels)  # too few of them are better told before the training than after it
    if config.progressive and source.config.steps < 2:
        raise RunError(f"{edge} has one time step, and none can come before the others; leave --progressive out")
    if config.early and not config.together:
        raise RunError("early answers are the edge network's, which is trained with --together alone; add it")
    if config.early and source.config.steps < 2:
        raise RunError(f"{edge} has one time step, and nothing can be answered before it; leave --early out")
    check_images(edge, edge_record, learning, data.name)
    torch.manual_seed(config.seed)
    net = recut(source, config)
    sizes = [msgspec.structs.replace(net.config, code_channels=channels) for channels in config.others]
    others = [build_encoder(size, Lif) for size in sizes]
    compile_network(net, others)  # codes of the same bytes, too, are better told before the training
    channels = edge_record.provenance.frame[2]
    ann = AnnConfig(
        kind=cast(Kind, teacher_record.run.network.kind),
        channels=channels,
        classes=len(names),
        width=teacher_record.run.network.width,
    )
    cloud = CloudNet(
        CloudConfig(
            steps=net.config.steps,
            channels=channels,
            classes=len(names),
            code_channels=config.code_channels,
            code_stride=config.code_stride,
            split_channels=net.config.split_channels,
            tail_channels=config.tail_channels,
            teacher=ann,
            others=tuple(CodeConfig(channels, config.code_stride) for channels in config.others),
        ),
        Lif,
    )
    cloud.teacher = teacher_net.requires_grad_(False)
    for module in (net, cloud, *others):
        module.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    augmentation = Augmentation(edge_record.run.data.augmentation)
    views = Views(learn, augmentation, config.seed, torch.device("cpu"))
    train_bottleneck(
        net,
        cloud,
        views,
        config.plan,
        config.seed,
        stage("bottleneck and tail"),
        rate=config.rate,
        noise=config.noise,
        leading=config.progressive,
        edge=EdgeLoss(inside, config.early) if config.together else None,
        others=others,
    )
    provenance = {
        "code": code_version(),
        "data_sha256": edge_record.provenance.data_sha256,
        "edge": msgspec.json.encode(edge_record.run).decode(),
        "edge_weights_sha256": weights_sha256(edge),
        "seen": msgspec.json.encode(edge_record.provenance.seen).decode(),
        "teacher": msgspec.json.encode(teacher_record.run).decode(),
        "teacher_weights_sha256": weights_sha256(teacher),
        "bottleneck": msgspec.json.encode(config).decode(),
    }
    out.mkdir(parents=True, exist_ok=True)
    program, tables = write_model(
        out / EDGE_FILE,
        net,
        own.frames,
        own.labels,
        known,
        provenance,
        augmentation=augmentation.name,
        sent=choose.frames,
        learning=learning,
        progress=stage("integer program and class statistics"),
        accepted=config.accepted,
        half=half,
        others=others,
    )
    told = stage("tail on the integer encoder's spikes")
    tune_cloud(
        program,
        cloud,
        learn,
        augmentation,
        config.tune,
        config.seed,
        told,
        copies=config.copies,
        noise=config.noise,
        leading=config.progressive,
    )
    cloud_file, leading = out / CLOUD_FILE, config.progressive
    readings = write_cloud(cloud_file, cloud, program, tables, choose, names, provenance, half=half, leading=leading)
    with torch.inference_mode():
        images = torch.from_numpy(choose.frames)
        teacher_logits = torch.cat([cloud.frames(to_unit(chunk)) for chunk in torch.split(images, CHUNK)]).numpy()
    found = {
        "edge": _percent(integer_logits(program, own.frames), own.labels),
        "features": 100.0 * readings[0].accuracy,
        "teacher": _percent(teacher_logits, choose.labels),
    }
    if len(readings) > 1:
        for reading in readings:
            found |= {f"features, {reading.encoder}": 100.0 * reading.accuracy}
            found |= {f"bytes, {reading.encoder}": reading.bytes}
    info = readings[0].leading
    return found | ({} if info is None else {"leading_steps": float(info.steps), "more": 100.0 * info.more})


def recut(source: SpikingVgg9, config: BottleneckConfig) -> SpikingVgg9:
    """The same network, cut where `config` says, with a new encoder there."""
    net = SpikingVgg9(
        msgspec.structs.replace(
            source.config, split=config.split, code_channels=config.code_channels, code_stride=config.code_stride
        ),
        Lif,
    )
    take_over(net, source)
    return net


def _percent(logits: NDArray[np.float32], labels: Labels) -> float:
    return 100.0 * float((logits.argmax(axis=1) == labels).mean())


def _check(edge: Path, edge_record: Record, teacher: Path, teacher_record: Record, data: DataSet) -> None:
    network = edge_record.run.network
    if network.kind != VGG9 or network.bottleneck:
        what = network.kind + (" with a bottleneck" if network.bottleneck else "")
        raise RunError(f"{edge} holds a {what}; the edge network of a model file is a {VGG9}")
    kind = teacher_record.run.network.kind
    if kind not in DENSE:
        raise RunError(f"{teacher} holds a {kind}; the cloud's network is one of: {', '.join(DENSE)}")
    sizes = [record.provenance.frame for record in (edge_record, teacher_record)]
    if sizes[0] != sizes[1]:
        raise RunError(f"{edge} takes frames of {sizes[0]}, {teacher} of {sizes[1]}; give runs on the same images")
    for folder, names, where in (
        (edge, edge_record.provenance.labels, teacher_record.provenance.labels),
        (teacher, teacher_record.provenance.labels, data.names),
    ):
        foreign = [name for name in names if name not in where]
        if foreign:
            raise RunError(f"{folder} knows the class '{foreign[0]}', which teacher or data lack; give runs that fit")
