"""`lwf-full`: the whole network learns each task, as the paper argues for. A benchmark: no device learns so.

A changed head would ask workers for other features, and every stored row would be worth nothing.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from ecc_device.engines import make_engine
from ecc_device.learning.lwf import grow
from ecc_device.learning.recipes import PLAIN
from ecc_model.frames import Pixels
from ecc_model.modelfile import EdgeModel
from ecc_model.nets import losses
from ecc_model.nets.checkpoint import load_edge
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_network
from ecc_model.nets.vgg import SpikingVgg9
from ecc_tools.augmentation import Augmentation
from ecc_tools.data.parts import Part
from ecc_tools.incremental.protocol import Tasks, summarize
from ecc_tools.incremental.scenes import Names
from ecc_tools.incremental.scores import by_class, percent
from ecc_tools.training import Plan, Progress, Terms, Views, make_optimizer, run_through, train

WHOLE = "lwf-full"
PLAN = Plan(epochs=5, learning_rate=1e-3)  # the authors' rate; of their 200 epochs what a processor has time for


@dataclass(frozen=True, eq=False)
class Shown:
    """Frames uint8 (N, H, W, C) and the names of their classes (N,)."""

    frames: Pixels
    truth: Names

    def of(self, names: Sequence[str]) -> Shown:
        """Only the frames of these classes."""
        chosen = np.isin(self.truth, names)
        return Shown(self.frames[chosen], self.truth[chosen])


def run_whole(
    base: EdgeModel, tasks: Tasks, learn: Shown, test: Shown, augmentation: Augmentation, seed: int, told: Progress
) -> dict[str, Any]:
    """All tasks with one seed, plain LwF through the whole network; figures as those of `run_protocol`."""
    net = load_edge(base.path, Lif)
    found, seconds = [_judged(net, test, tasks[0])], []
    for number, task in enumerate(tasks[1:], 1):
        begun, seen = time.process_time(), [name for before in tasks[: number + 1] for name in before]
        shown = learn.of(task)
        part = Part(shown.frames, np.array([seen.index(name) for name in shown.truth.tolist()], np.int64))

        def step(share: float, number: int = number) -> None:
            told((number - 1 + share) / (len(tasks) - 1))

        net = learn_task(net, part, len(seen), augmentation, seed, step)
        seconds.append(time.process_time() - begun)
        found.append(_judged(net, test, seen))
    return summarize(found) | {"seconds": max(seconds), "mib": None, "updates": []}


def learn_task(
    old: SpikingVgg9, part: Part, classes: int, augmentation: Augmentation, seed: int, progress: Progress
) -> SpikingVgg9:
    """A copy of the network with `classes` outputs that learnt the part's labels, and old classes by eq. 12."""
    torch.manual_seed(seed)
    net = copy.deepcopy(old)
    net.exit = grow(old.exit, classes)
    net.config = msgspec.structs.replace(old.config, classes=classes)
    views = Views(part, augmentation, seed, torch.device("cpu"))

    def begin(epoch: int) -> None:
        views.begin(epoch)
        net.train()

    def loss(rows: Tensor) -> Terms:
        frames, labels = views.frames(rows), views.labels(rows)
        with torch.no_grad():
            kept = old(frames)
        out = net(frames)
        return {
            "cross_entropy": torch.nn.functional.cross_entropy(out, labels),
            "old": losses.without_forgetting(out, kept, PLAIN.l_old),
        }

    optimizer = make_optimizer(net.parameters(), PLAN)
    run_through(train(optimizer, loss, len(views), PLAN, seed, progress, begin=begin))
    return net.eval()


def _judged(net: SpikingVgg9, test: Shown, seen: Sequence[str]) -> tuple[float, dict[str, float]]:
    shown, engine = test.of(seen), make_engine(None, compile_network(net))
    best = [int(engine.exit(engine.head(frame)).argmax()) for frame in shown.frames]
    flags = np.asarray(np.array(seen)[best] == shown.truth)
    return percent(flags), by_class(flags, shown.truth, seen)
