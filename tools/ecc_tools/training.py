"""Training at Setup: one loop, and what each network minimizes in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ecc_device.engine import NumpyEngine
from ecc_model.frames import Pixels
from ecc_model.nets import losses
from ecc_model.nets.cloud import CloudNet
from ecc_model.nets.vgg import SpikingVgg9, to_unit
from ecc_model.program import Program

KL_WEIGHT = 0.5  # l1 of eq. 8, the authors' own
Progress = Callable[[float], None]  # told the finished share, 0 to 1, after every batch


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train: Adam with a one-cycle learning rate."""

    epochs: int
    learning_rate: float
    batch: int = 64
    weight_decay: float = 5e-4


def optimise(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    rows: int,
    plan: Plan,
    progress: Progress,
) -> None:
    """Minimize `loss(indices)` over batches of indices below `rows`; the order comes from torch's seed."""
    parameters = list(parameters)
    optimizer = torch.optim.Adam(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    batches = max(1, rows // plan.batch)
    total = plan.epochs * batches
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.learning_rate, total_steps=total)
    for epoch in range(plan.epochs):
        order = torch.randperm(rows)
        for batch in range(batches):
            optimizer.zero_grad(set_to_none=True)
            loss(order[batch * plan.batch : (batch + 1) * plan.batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            progress((epoch * batches + batch + 1) / total)


def augment(frames: Tensor) -> Tensor:
    """Random rotation (10 degrees), scale (10 %) and shift (1.5 pixels) of float frames (B, C, H, W)."""
    count = len(frames)
    angle = (torch.rand(count) * 2 - 1) * 0.175
    scale = 1 + (torch.rand(count) * 2 - 1) * 0.1
    shift = (torch.rand(count, 2) * 2 - 1) * 3.0 / frames.shape[-1]
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(count, 2, 3)
    grid = F.affine_grid(theta, list(frames.shape), align_corners=False)
    return F.grid_sample(frames, grid, align_corners=False)


def train_teacher(cloud: CloudNet, frames: Pixels, labels: NDArray[np.int64], plan: Plan, progress: Progress) -> None:
    """The cloud's teacher: cross entropy on all classes."""
    images, targets = to_unit(torch.from_numpy(frames)), torch.from_numpy(labels)
    cloud.teacher.train()

    def loss(rows: Tensor) -> Tensor:
        return F.cross_entropy(cloud.teacher(augment(images[rows])), targets[rows])

    optimise(cloud.teacher.parameters(), loss, len(labels), plan, progress)
    cloud.eval()


def train_edge(
    net: SpikingVgg9,
    cloud: CloudNet,
    frames: Pixels,
    labels: NDArray[np.int64],
    plan: Plan,
    progress: Progress,
) -> None:
    """Head and exit jointly with the frozen teacher (eq. 8): KL to its logits over the edge's classes."""
    images, targets = to_unit(torch.from_numpy(frames)), torch.from_numpy(labels)
    net.train()

    def loss(rows: Tensor) -> Tensor:
        batch = augment(images[rows])
        with torch.no_grad():
            teacher = cloud.teacher(batch)[:, : net.config.classes]
        return losses.joint(net(batch), targets[rows], teacher, KL_WEIGHT)

    optimise([*net.head.parameters(), *net.exit.parameters()], loss, len(labels), plan, progress)
    net.eval()


def train_bottleneck(
    net: SpikingVgg9,
    cloud: CloudNet,
    frames: Pixels,
    labels: NDArray[np.int64],
    plan: Plan,
    progress: Progress,
) -> None:
    """Encoder, decoder and tail behind the frozen head, with the teacher beside them."""
    images, targets = to_unit(torch.from_numpy(frames)), torch.from_numpy(labels)
    net.encoder.train()
    cloud.decoder.train()
    cloud.tail.train()

    def loss(rows: Tensor) -> Tensor:
        batch = augment(images[rows])
        with torch.no_grad():
            split, teacher = net.split(batch), cloud.teacher(batch)
        return losses.joint(cloud.features(net.encoder(split)), targets[rows], teacher, KL_WEIGHT)

    parts = (net.encoder, cloud.decoder, cloud.tail)
    optimise([p for part in parts for p in part.parameters()], loss, len(labels), plan, progress)
    net.eval()
    cloud.eval()


def tune_cloud(
    program: Program,
    cloud: CloudNet,
    frames: Pixels,
    labels: NDArray[np.int64],
    plan: Plan,
    progress: Progress,
    *,
    copies: int = 6,
) -> None:
    """Decoder and tail once more, on what the integer head and encoder really emit (`copies` views a frame)."""
    images = to_unit(torch.from_numpy(frames))
    views = torch.cat([images, *(augment(images) for _ in range(copies - 1))])
    targets = torch.from_numpy(labels).repeat(copies)
    with torch.no_grad():
        teacher = torch.cat([cloud.teacher(chunk) for chunk in torch.split(views, 256)])
    pixels = (views * 255).round().to(torch.uint8).movedim(1, -1).numpy()
    codes = torch.from_numpy(encode(program, pixels)).transpose(0, 1).float()
    cloud.decoder.train()
    cloud.tail.train()

    def loss(rows: Tensor) -> Tensor:
        return losses.joint(cloud.features(codes[:, rows]), targets[rows], teacher[rows], KL_WEIGHT)

    parameters = [*cloud.decoder.parameters(), *cloud.tail.parameters()]
    optimise(parameters, loss, len(targets), plan, progress)
    cloud.eval()


def encode(program: Program, frames: Pixels) -> NDArray[np.bool_]:
    """What the device would send for each frame: (N, T, C', H', W')."""
    engine = NumpyEngine(program)
    return np.stack([engine.encode(engine.head(frame)) for frame in frames])
