"""The Setup stage of the digits demo: teacher, edge network, bottleneck, model files, recorded streams."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecc_device.sources import save_npz
from ecc_model.nets import losses
from ecc_model.nets.ann import AnnConfig
from ecc_model.nets.cloud import CloudConfig, CloudNet
from ecc_model.nets.neuron import spikingjelly_lif
from ecc_model.nets.vgg import SpikingVgg9, VggConfig
from ecc_tools.augmentation import Augmentation
from ecc_tools.bottleneck import KL_WEIGHT, train_bottleneck, tune_cloud
from ecc_tools.compiling import write_cloud, write_model
from ecc_tools.demo_data import DemoModels
from ecc_tools.digits import KNOWN, NAMES, SIDE, load_digits
from ecc_tools.stages import Stage
from ecc_tools.training import Plan, Progress, Terms, Views, make_optimizer, parameters_of, run_through, train

STEPS = 2
WIDTH = 0.25
CODE_CHANNELS = 4  # on a 4x4 map, 2 steps: 128 bits, 16 bytes
RATE_HZ = 10.0
TEACHER = Plan(epochs=20, learning_rate=4e-3)
EDGE = Plan(epochs=30, learning_rate=4e-3)
BOTTLENECK = Plan(epochs=15, learning_rate=4e-3)
TUNE = Plan(epochs=5, learning_rate=1e-3)
COPIES = 6
CPU = torch.device("cpu")


def set_up(folder: Path, seed: int, stage: Stage) -> DemoModels:
    """Train all networks on the digits and write `vgg9.pt`, `cloud.pt`, `first.npz` and `second.npz`."""
    torch.set_num_threads(1)  # fastest for networks this small, and the same sums whatever the number of cores
    torch.manual_seed(seed)
    parts = load_digits(seed)
    config = VggConfig(
        steps=STEPS,
        channels=1,
        height=SIDE,
        width_px=SIDE,
        width=WIDTH,
        classes=KNOWN,
        split=2,
        code_channels=CODE_CHANNELS,
    )
    net = SpikingVgg9(config, spikingjelly_lif)
    cloud = CloudNet(
        CloudConfig(
            steps=STEPS,
            channels=1,
            classes=len(NAMES),
            code_channels=CODE_CHANNELS,
            code_stride=config.code_stride,
            split_channels=config.split_channels,
            tail_channels=48,
            teacher=AnnConfig(kind="resnet8", channels=1, classes=len(NAMES), width=0.375),
        ),
        spikingjelly_lif,
    )
    augmentation = Augmentation("digits")
    all_digits = Views(parts["train"], augmentation, seed, CPU)
    known_digits = Views(parts["train"].of(range(KNOWN)), augmentation, seed, CPU)
    _train_teacher(cloud, all_digits, seed, stage("teacher, ten digits"))
    _train_edge(net, cloud, known_digits, seed, stage(f"edge network, digits 0-{KNOWN - 1}"))
    train_bottleneck(net, cloud, all_digits, BOTTLENECK, seed, stage("bottleneck and tail"))
    provenance = {"data": "scikit-learn digits", "seed": str(seed), "made-by": "ecc-tools demo-train"}
    choose = parts["validation"].of(range(KNOWN))
    edge_path, cloud_path = folder / "vgg9.pt", folder / "cloud.pt"
    sent = parts["validation"].frames
    program, tables = write_model(
        edge_path,
        net,
        choose.frames,
        choose.labels,
        NAMES[:KNOWN],
        provenance,
        sent=sent,
        learning=parts["train"].of(range(KNOWN)),
        progress=stage("integer program and class statistics"),
    )
    told = stage("tail on the integer encoder's spikes")
    tune_cloud(program, cloud, parts["train"], augmentation, TUNE, seed, told, copies=COPIES)
    write_cloud(cloud_path, cloud, program, tables, parts["validation"], NAMES, provenance)
    streams = {name: folder / f"{name}.npz" for name in ("first", "second")}
    for name, path in streams.items():
        times = np.arange(len(parts[name].labels)) / RATE_HZ
        save_npz(path, parts[name].frames, labels=parts[name].labels, names=NAMES, times=times)
    return DemoModels(edge_path, cloud_path, streams["first"], streams["second"])


def _train_teacher(cloud: CloudNet, views: Views, seed: int, progress: Progress) -> None:
    """The cloud's teacher: cross entropy on all classes."""

    def begin(epoch: int) -> None:
        views.begin(epoch)
        cloud.train()

    def loss(rows: Tensor) -> Terms:
        return {"cross_entropy": F.cross_entropy(cloud.frames(views.frames(rows)), views.labels(rows))}

    optimizer = make_optimizer(cast(nn.Module, cloud.teacher).parameters(), TEACHER)
    run_through(train(optimizer, loss, len(views), TEACHER, seed, progress, begin=begin))
    cloud.eval()


def _train_edge(net: SpikingVgg9, cloud: CloudNet, views: Views, seed: int, progress: Progress) -> None:
    """Head and exit jointly with the frozen teacher (eq. 8): KL to its logits over the edge's classes."""

    def begin(epoch: int) -> None:
        views.begin(epoch)
        net.train()

    def loss(rows: Tensor) -> Terms:
        frames = views.frames(rows)
        with torch.no_grad():
            teacher = cloud.frames(frames)[:, : net.config.classes]
        return {"joint": losses.joint(net(frames), views.labels(rows), teacher, KL_WEIGHT)}

    optimizer = make_optimizer(parameters_of(net.head, net.exit), EDGE)
    run_through(train(optimizer, loss, len(views), EDGE, seed, progress, begin=begin))
    net.eval()
