"""`ecc-tools train` and `distill`: a network on a data set, alone (CE) or jointly with a teacher (eq. 8 to 10)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn

from ecc_model.nets.neuron import Lif, spikingjelly_lif
from ecc_model.nets.resnet import SpikingResnet
from ecc_model.nets.spikebottlenet import SpikeBottleNet, take_over
from ecc_model.nets.vgg import SpikingVgg9, to_unit
from ecc_model.nets.vit import HEADS, VisionTransformer, from_pretrained
from ecc_tools.augmentation import Augmentation
from ecc_tools.averaging import Average
from ecc_tools.data.parts import DataSet, Part
from ecc_tools.data.tasks import parse_tasks
from ecc_tools.networks import VIT, build_network
from ecc_tools.objective import Objective, load_teacher
from ecc_tools.rounding import AsIntegers
from ecc_tools.runs import (
    LOG,
    Provenance,
    Record,
    RunConfig,
    RunError,
    RunFolder,
    code_version,
    is_pretrained,
    load_run,
    load_weights,
    read_record,
)
from ecc_tools.training import LossNotFinite, Plan, Progress, Views, make_optimizer, memory_or, train

EVAL_BATCH = 250
Report = Callable[[Mapping[str, float]], None]  # told the line of the log after every epoch


def fit(
    config: RunConfig,
    data: DataSet,
    folder: Path,
    *,
    teacher: Path | None = None,
    start_from: Path | None = None,
    resume: bool = False,
    device: str = "cpu",
    progress: Progress,
    report: Report,
) -> Mapping[str, float]:
    """Train into `folder` and return the log's line of the best epoch (`best_of`), chosen on the validation part.

    A run that was stopped goes on with `resume` and ends as if it had not been. Only `data.training()` is read.
    `start_from`: a run with the same network, whose weights this one begins with (fine-tuning; the second step of a
    spiking bottleneck's training begins with the network alone); for a ViT also pretrained weights (`is_pretrained`).
    `RunError`, `TeacherUnfit`, `LossNotFinite` (the checkpoint stays), `OutOfMemory`; of a pretrained ViT `ModelError`.
    """
    where = find_device(device)
    learn, choose, labels = task_parts(config, data)
    height, width_px, channels = learn.frames.shape[1:]
    network = config.network
    pretrained = start_from is not None and is_pretrained(start_from, network.kind)
    record = Record(
        run=config,
        provenance=Provenance(
            data_sha256=learn.sha256,
            code=code_version(),
            torch=str(torch.__version__),
            frame=(height, width_px, channels),
            labels=labels,
            seen=_seen(labels, teacher, start_from, pretrained=pretrained),
        ),
    )
    run = RunFolder(folder)
    torch.manual_seed(config.seed)
    neuron = Lif if config.plan.compiled else spikingjelly_lif
    net = build_network(
        network.kind,
        width=network.width,
        steps=network.steps,
        frame=(height, width_px, channels),
        classes=len(labels),
        neuron=neuron,
        bottleneck=network.bottleneck or None,
    ).to(where)
    if start_from is not None:
        begin_with(net, start_from)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    views = Views(learn, Augmentation(config.data.augmentation), config.seed, where, count=config.data.views)
    source = None if teacher is None else load_teacher(teacher, labels, where)
    objective = Objective(config, net, source, views, folder)
    state = run.begin(record, resume=resume)
    modules = nn.ModuleDict({"net": net} | ({} if objective.align is None else {"align": objective.align}))
    optimizer = make_optimizer(modules.parameters(), config.plan)
    average = Average(net, config.ema) if config.ema else None
    rows, start = [], 0
    if state is not None:
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        if average is not None:
            average.load(state["average"])
        start = state["epoch"] + 1
        rows = run.rows()[:start]
        if len(rows) < start:
            raise RunError(f"{folder / LOG} lacks epochs that the checkpoint has; make the run anew")
        if "best" in state and rows and "operations" in rows[0]:
            raise RunError(f"{folder} kept its most accurate epoch, as older versions did; make the run anew")
    began = time.monotonic()
    epochs = train(
        optimizer,
        objective,
        len(views),
        config.plan,
        config.seed,
        progress,
        start=start,
        begin=objective.begin,
        stepped=(lambda: None) if average is None else average.update,
    )
    try:
        for done in epochs:
            kept = net if average is None else average.net
            answering = AsIntegers(kept) if config.int8 else kept
            line = {"epoch": float(done.epoch), **done.terms, **validate(answering, choose, where, config.plan)}
            if not math.isfinite(line["validation_loss"]):  # its last step broke the weights: nothing is kept of it
                raise LossNotFinite(f"the validation loss is not finite in epoch {done.epoch}; lower the learning rate")
            line["seconds"] = round(time.monotonic() - began, 1)
            began = time.monotonic()
            rows.append(line)
            run.save_rows(rows)
            if best_of(rows) is line:
                run.save_weights({k: v.detach().cpu().contiguous() for k, v in kept.state_dict().items()})
            run.save_checkpoint(
                {
                    "epoch": done.epoch,
                    "modules": modules.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "average": {} if average is None else average.state(),
                }
            )
            report(line)
    except LossNotFinite as exc:
        last = f"the last good checkpoint is that of epoch {len(rows) - 1}" if rows else "no epoch was finished"
        raise LossNotFinite(f"{exc}; {last}, in {folder}") from exc
    return best_of(rows)


def _seen(labels: Sequence[str], teacher: Path | None, start_from: Path | None, *, pretrained: bool) -> tuple[str, ...]:
    """These classes, and those that the teacher and the run to begin with have seen; of a pretrained ViT its name."""
    seen, runs = list(labels), [teacher, start_from]
    if start_from is not None and pretrained:
        seen, runs = [*seen, start_from.name], [teacher]
    for run in runs:
        if run is not None:
            earlier = read_record(run).provenance
            seen += earlier.seen or earlier.labels
    return tuple(dict.fromkeys(seen))


def find_device(name: str) -> torch.device:
    """The processor or GPU of that name. `RunError` where torch has none."""
    gpus = torch.cuda.device_count()
    known = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{index}" for index in range(gpus))]
    if name not in known:
        raise RunError(f"torch finds no device '{name}' here to train on; give --device {', or '.join(known[:2])}")
    return torch.device(name)


def best_of(rows: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """The line of a log whose epoch is kept: the most accurate one, of equals the first.

    Where operations are penalized, accuracy alone would choose an epoch that has hardly felt it: then it is the one
    with the least validation loss and penalty together.
    """
    if "operations" in rows[0]:
        return min(rows, key=lambda row: row["validation_loss"] + row["operations"])
    return max(rows, key=lambda row: row["accuracy"])


def begin_with(net: nn.Module, folder: Path) -> None:
    """Give `net` the best weights of a run; a network with a new bottleneck those of one without. `RunError`.

    A run on other classes gives all but its last layer; so do pretrained weights of a ViT (errors: `from_pretrained`).
    """
    if isinstance(net, VisionTransformer) and is_pretrained(folder, VIT):
        own = cast(Any, net.vit).config
        given = from_pretrained(folder, own.num_labels)
        found = cast(Any, given.vit).config
        if (found.num_attention_heads, found.num_channels) != (own.num_attention_heads, own.num_channels):
            raise RunError(
                f"{folder} is a ViT of --width {found.num_attention_heads / HEADS:.3g} for images of "
                f"{found.num_channels} channels, this run one of {own.num_attention_heads / HEADS:.3g} for "
                f"{own.num_channels}; give what fits"
            )
        net.load_state_dict(given.state_dict())
        return
    if isinstance(net, SpikeBottleNet):
        trained, _ = load_run(folder)
        if isinstance(trained, SpikingVgg9 | SpikingResnet):
            try:
                take_over(net.net, trained)
            except ValueError as exc:
                raise RunError(f"{folder} cannot be begun with: {exc}; train the network alone first") from exc
            return
    if not load_weights(net, folder, any_classes=True):
        raise RunError(f"{folder} holds another network than this run; begin without it")


def task_parts(config: RunConfig, data: DataSet) -> tuple[Part, Part, tuple[str, ...]]:
    """The parts to train with and to choose with, of the classes of the run's task, and their names."""
    learn, choose = data.training()
    if not config.data.tasks:
        if config.data.task:
            raise RunError(f"--task {config.data.task} is one of a split's; give the split with --tasks")
        return learn, choose, data.names
    tasks = parse_tasks(config.data.tasks, len(data.names))
    if config.data.task >= len(tasks):
        raise RunError(
            f"{config.data.tasks} makes {len(tasks)} tasks of {data.name}; give --task 0 to {len(tasks) - 1}"
        )
    classes = tasks[config.data.task]
    return learn.of(classes), choose.of(classes), tuple(data.names[label] for label in classes)


@torch.inference_mode()
def validate(net: nn.Module, part: Part, device: torch.device, plan: Plan) -> dict[str, float]:
    """`accuracy` (percent) and `validation_loss` (cross entropy) on a part, in the precision of the training.

    `OutOfMemory`.
    """
    was_training = net.training
    net.eval()
    right, loss = 0, 0.0
    batch = min(EVAL_BATCH, plan.batch)  # what the training had memory for
    for start in range(0, len(part.labels), batch):
        labels = torch.from_numpy(part.labels[start : start + batch]).to(device)
        try:
            frames = to_unit(torch.from_numpy(part.frames[start : start + batch]).to(device))
            with torch.autocast(device.type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
                logits = net(frames)
        except RuntimeError as exc:
            raise memory_or(exc, batch) from exc
        right += int((logits.argmax(1) == labels).sum())
        loss += float(F.cross_entropy(logits.float(), labels, reduction="sum"))
    net.train(was_training)
    return {"accuracy": 100.0 * right / len(part.labels), "validation_loss": loss / len(part.labels)}
