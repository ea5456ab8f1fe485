"""Learning without forgetting on stored spikes: eq. 12 of ECC-SNN, with our measures against forgetting.

Needs torch, and runs only in the learner's child process.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ecc_device.learning.checkpoint import Checkpoint
from ecc_device.learning.lesson import Learnt, Lesson, unpack_rows
from ecc_device.learning.recipes import Recipe
from ecc_model.bits import Spikes
from ecc_model.nets import integers, losses
from ecc_model.nets.checkpoint import load_edge
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_section
from ecc_model.nets.vgg import Classifier

ROWS_AT_ONCE = 256  # through the old exit
Answer = Callable[[nn.Sequential, Tensor], Tensor]  # an exit's logits (B, N) of spikes (T, B, ...)


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
    net.exit = learn(net.exit, lessons, recipe, lesson.seed, lesson.progress, lesson.checkpoint)
    net.config = msgspec.structs.replace(net.config, classes=len(lesson.labels))
    return Learnt(replace(program, exit=compile_section(net.exit, steps=program.steps), second=(), known=0), net)


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
    exit_: nn.Sequential,
    lessons: Lessons,
    recipe: Recipe,
    seed: int,
    progress: Callable[[float], None],
    checkpoint: Checkpoint,
) -> nn.Sequential:
    """`L = CE + l_new KL(cloud) + l_old KL(old exit) [+ CE of replayed rows]`; returns a new exit, in eval mode.

    Both exits answer as their integer programs do; where batch norm moves there is none yet, and they answer in floats.
    From a checkpoint of the same lessons, recipe and seed it goes on to the same bits.
    """
    answer = integers.answer if recipe.freeze_norm else _in_floats
    torch.manual_seed(seed)
    old = copy.deepcopy(exit_).eval()
    new = grow(exit_, lessons.logits.shape[1])
    spikes, teacher = _steps_first(lessons.spikes), torch.from_numpy(lessons.logits)
    replay, replay_labels = _steps_first(lessons.replay_spikes), torch.from_numpy(lessons.replay_labels)
    labels = teacher.argmax(1)
    old_logits, old_replay = _logits(answer, old, spikes), _logits(answer, old, replay)
    optimizer = torch.optim.Adam(new.parameters(), lr=recipe.learning_rate)
    batches = max(1, -(-len(labels) // recipe.batch))
    new.train()
    if recipe.freeze_norm:
        _freeze_norms(new)
    order = torch.arange(len(labels))
    first = _restore(checkpoint, new, optimizer, order)
    with checkpoint.steps():
        for step in range(first, recipe.steps):
            optimizer.param_groups[0]["lr"] = recipe.learning_rate * (1 + math.cos(math.pi * step / recipe.steps)) / 2
            if step % batches == 0:
                order = torch.randperm(len(labels))
            rows = order[(step % batches) * recipe.batch : (step % batches + 1) * recipe.batch]
            again = torch.randint(len(replay_labels), (recipe.batch,)) if recipe.replay else rows[:0]
            out = answer(new, torch.cat([spikes[:, rows], replay[:, again]], dim=1).float())
            fresh, kept = out[: len(rows)], out[len(rows) :]
            loss = losses.joint(fresh, labels[rows], teacher[rows], recipe.l_new)
            loss = loss + losses.without_forgetting(fresh, old_logits[rows], recipe.l_old)
            if recipe.replay:
                loss = loss + F.cross_entropy(kept, replay_labels[again])
                loss = loss + losses.without_forgetting(kept, old_replay[again], recipe.l_old)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress((step + 1) / recipe.steps)
            if checkpoint.due():
                checkpoint.save(_state(new, optimizer, order, step + 1))
    return new.eval()


def _state(net: nn.Module, optimizer: torch.optim.Adam, order: Tensor, step: int) -> dict[str, NDArray[Any]]:
    """All that the steps from `step` on depend on."""
    tensors = {
        **dict(_parts(net, optimizer)),
        "order": order,
        "random": torch.get_rng_state(),
        "step": torch.tensor(step),
    }
    return {name: tensor.detach().numpy() for name, tensor in tensors.items()}


def _restore(checkpoint: Checkpoint, net: nn.Module, optimizer: torch.optim.Adam, order: Tensor) -> int:
    """Put a checkpoint's state into place, if there is one; the step to go on with."""
    saved = checkpoint.load()
    if saved is None:
        return 0
    for parameter in optimizer.param_groups[0]["params"]:
        moments = {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": torch.tensor(0.0), **moments}
    with torch.no_grad():
        for name, tensor in [*_parts(net, optimizer), ("order", order)]:
            tensor.copy_(torch.from_numpy(saved[name].copy()).reshape(tensor.shape))
    torch.set_rng_state(torch.from_numpy(saved["random"].copy()))
    return int(saved["step"][0])


def _parts(net: nn.Module, optimizer: torch.optim.Adam) -> Iterator[tuple[str, Tensor]]:
    """Every tensor that steps change, by name."""
    for name, tensor in net.state_dict().items():
        yield f"net.{name}", tensor
    for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
        for name, tensor in optimizer.state[parameter].items():
            yield f"adam.{index}.{name}", tensor


def _in_floats(exit_: nn.Sequential, spikes: Tensor) -> Tensor:
    return cast(Tensor, exit_(spikes))


def _logits(answer: Answer, exit_: nn.Sequential, spikes: Tensor) -> Tensor:
    """(T, R, ...) spikes to logits (R, N), in parts: all rows at once would need gigabytes."""
    with torch.no_grad():
        return torch.cat([answer(exit_, part.float()) for part in torch.split(spikes, ROWS_AT_ONCE, dim=1)])


def _steps_first(spikes: Spikes) -> Tensor:
    """(R, T, ...) spikes to a view (T, R, ...); a byte each, and floats only where a batch of them is learnt."""
    return torch.from_numpy(spikes).transpose(0, 1)


def _freeze_norms(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
