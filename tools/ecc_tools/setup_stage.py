"""The Setup stage of the digits demo: teacher, edge network, bottleneck, model files, recorded streams."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ecc_device.calibration import fit_temperature
from ecc_device.sources import save_npz
from ecc_model.modelfile import EncoderInfo
from ecc_model.nets.checkpoint import ENCODER_NAME, save_cloud
from ecc_model.nets.cloud import CloudConfig, CloudNet
from ecc_model.nets.neuron import spikingjelly_lif
from ecc_model.nets.vgg import SpikingVgg9, VggConfig
from ecc_tools import training
from ecc_tools.compiling import Agreement, compare, write_model
from ecc_tools.digits import KNOWN, NAMES, SIDE, Part, load_digits
from ecc_tools.stages import Stage
from ecc_tools.training import Plan

STEPS = 2
WIDTH = 0.25
CODE_CHANNELS = 4  # on a 4x4 map, 2 steps: 128 bits, 16 bytes
RATE_HZ = 10.0
TEACHER = Plan(epochs=20, learning_rate=4e-3)
EDGE = Plan(epochs=30, learning_rate=4e-3)
BOTTLENECK = Plan(epochs=15, learning_rate=4e-3)
TUNE = Plan(epochs=5, learning_rate=1e-3)


@dataclass(frozen=True, eq=False)
class Setup:
    """What Setup leaves behind, all in one folder."""

    edge: Path
    cloud: Path
    streams: dict[str, Path]
    parts: dict[str, Part]
    agreement: Agreement  # on the known digits of both streams, which nothing was chosen on


def set_up(folder: Path, seed: int, stage: Stage) -> Setup:
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
            teacher_channels=24,
        ),
        spikingjelly_lif,
    )
    train, known = parts["train"], parts["train"].known()
    training.train_teacher(cloud, train.frames, train.labels, TEACHER, stage("teacher, ten digits"))
    training.train_edge(net, cloud, known.frames, known.labels, EDGE, stage(f"edge network, digits 0-{KNOWN - 1}"))
    training.train_bottleneck(net, cloud, train.frames, train.labels, BOTTLENECK, stage("bottleneck and tail"))
    provenance = {"data": "scikit-learn digits", "seed": str(seed), "made-by": "ecc-tools demo"}
    choose = parts["validation"].known()
    edge_path, cloud_path = folder / "vgg9.pt", folder / "cloud.pt"
    program = write_model(edge_path, net, choose.frames, choose.labels, NAMES[:KNOWN], provenance)
    training.tune_cloud(program, cloud, train.frames, train.labels, TUNE, stage("tail on the integer encoder's spikes"))
    frame = program.input
    save_cloud(
        cloud_path,
        cloud,
        labels=NAMES,
        temperature=_features_temperature(training.encode(program, parts["validation"].frames), cloud, parts),
        encoders=[EncoderInfo(ENCODER_NAME, program.features_id, list(program.code_shape))],
        frame=[frame.steps, frame.channels, frame.height, frame.width],
        provenance=provenance,
    )
    streams = {name: folder / f"{name}.npz" for name in ("first", "second")}
    for name, path in streams.items():
        times = np.arange(len(parts[name].labels)) / RATE_HZ
        save_npz(path, parts[name].frames, labels=parts[name].labels, names=NAMES, times=times)
    unseen = [parts[name].known() for name in streams]
    frames = np.concatenate([part.frames for part in unseen])
    labels = np.concatenate([part.labels for part in unseen])
    return Setup(edge_path, cloud_path, streams, parts, compare(net, program, frames, labels))


def _features_temperature(codes: np.ndarray, cloud: CloudNet, parts: dict[str, Part]) -> float:
    """The cloud's temperature, fitted on validation frames as they arrive: through the encoder."""
    with torch.inference_mode():
        logits = cloud.features(torch.from_numpy(codes).transpose(0, 1).float())
    return fit_temperature(logits.tolist(), parts["validation"].labels.tolist())
