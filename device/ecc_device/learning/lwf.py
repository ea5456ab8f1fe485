"""Learning without forgetting on stored spikes: eq. 12 of ECC-SNN, with our measures against forgetting.

Needs torch, and runs only in the learner's child process.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ecc_device.learning.lesson import Learnt, Lesson, unpack_rows
from ecc_device.learning.recipes import Recipe
from ecc_model.bits import Spikes
from ecc_model.nets import losses
from ecc_model.nets.checkpoint import load_edge
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_section
from ecc_model.nets.vgg import Classifier

ROWS_AT_ONCE = 256  # through the old exit


@dataclass(frozen=True, eq=False)
class Lessons:
    """Spikes (R, T, C, H, W) and the cloud's logits (R, N) over the grown classes; replayed spikes and labels."""

    spikes: Spikes
    logits: NDArray[np.float32]
    replay_spikes: Spikes
    replay_labels: NDArray[np.int64]


def learn_lesson(lesson: Lesson, recipe: Recipe) -> Learnt:
    """The model's network with an exit that learnt the lesson and replayed guard rows, and its integers. One thread."""
    torch.set_num_threads(1)
    model, program, guard = lesson.model, lesson.model.program, lesson.model.guard
    net, replayed = load_edge(model.path, Lif), ~guard.judge.astype(np.bool_)
    lessons = Lessons(
        unpack_rows(lesson.rows, program),
        lesson.logits.copy(),
        unpack_rows(guard.bits[replayed], program),
        guard.labels[replayed].astype(np.int64),
    )
    net.exit = learn(net.exit, lessons, recipe, lesson.seed, lesson.progress)
    net.config = msgspec.structs.replace(net.config, classes=len(lesson.labels))
    return Learnt(replace(program, exit=compile_section(net.exit, steps=program.steps), second=()), net)


def grow(exit_: nn.Sequential, classes: int) -> nn.Sequential:
    """A copy of the exit with `classes` outputs; the first ones keep their weights, new ones start near zero."""
    grown = copy.deepcopy(exit_)
    classifier = cast(Classifier, grown[-1])
    old = classifier.linear
    new = nn.Linear(old.in_features, classes)
    with torch.no_grad():
        new.weight.mul_(0.1)
        new.weight[: old.out_features] = old.weight
        new.bias.fill_(float(old.bias.min()))
        new.bias[: old.out_features] = old.bias
    classifier.linear = new
    return grown


def learn(
    exit_: nn.Sequential, lessons: Lessons, recipe: Recipe, seed: int, progress: Callable[[float], None]
) -> nn.Sequential:
    """`L = CE + l_new KL(cloud) + l_old KL(old exit) [+ CE of replayed rows]`; returns a new exit, in eval mode."""
    torch.manual_seed(seed)
    old = copy.deepcopy(exit_).eval()
    new = grow(exit_, lessons.logits.shape[1])
    spikes, teacher = _steps_first(lessons.spikes), torch.from_numpy(lessons.logits)
    replay, replay_labels = _steps_first(lessons.replay_spikes), torch.from_numpy(lessons.replay_labels)
    labels = teacher.argmax(1)
    old_logits, old_replay = _logits(old, spikes), _logits(old, replay)
    optimizer = torch.optim.Adam(new.parameters(), lr=recipe.learning_rate)
    batches = max(1, -(-len(labels) // recipe.batch))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    new.train()
    if recipe.freeze_norm:
        _freeze_norms(new)
    for step in range(recipe.steps):
        if step % batches == 0:
            order = torch.randperm(len(labels))
        rows = order[(step % batches) * recipe.batch : (step % batches + 1) * recipe.batch]
        again = torch.randint(len(replay_labels), (recipe.batch,)) if recipe.replay else rows[:0]
        out = cast(Tensor, new(torch.cat([spikes[:, rows], replay[:, again]], dim=1).float()))
        fresh, kept = out[: len(rows)], out[len(rows) :]
        loss = losses.joint(fresh, labels[rows], teacher[rows], recipe.l_new)
        loss = loss + losses.without_forgetting(fresh, old_logits[rows], recipe.l_old)
        if recipe.replay:
            loss = loss + F.cross_entropy(kept, replay_labels[again])
            loss = loss + losses.without_forgetting(kept, old_replay[again], recipe.l_old)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        progress((step + 1) / recipe.steps)
    return new.eval()


def _logits(exit_: nn.Sequential, spikes: Tensor) -> Tensor:
    """(T, R, ...) spikes to logits (R, N), in parts: all rows at once would need gigabytes."""
    with torch.no_grad():
        return torch.cat([exit_(part.float()) for part in torch.split(spikes, ROWS_AT_ONCE, dim=1)])


def _steps_first(spikes: Spikes) -> Tensor:
    """(R, T, ...) spikes to a view (T, R, ...); a byte each, and floats only where a batch of them is learnt."""
    return torch.from_numpy(spikes).transpose(0, 1)


def _freeze_norms(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
