"""What a training run minimizes: cross entropy, a teacher's logits and features (eq. 8 to 10), operations.

With `early` the answers after fewer than T steps are trained as well: a network that is trained for T steps alone
knows little after the first, and a device could not stop there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecc_model.errors import EccError
from ecc_model.nets import losses
from ecc_model.nets.ann import Vgg16
from ecc_model.nets.vgg import SpikingVgg9
from ecc_tools.activity import Activity
from ecc_tools.augmentation import mix
from ecc_tools.networks import SPIKING
from ecc_tools.rounding import AsIntegers
from ecc_tools.runs import RunConfig, RunError, load_run, load_tensors, save_tensors
from ecc_tools.training import Terms, Views, seeded

ASK_BATCH = 500


class TeacherUnfit(EccError):
    """A teacher that this student cannot learn from."""


@dataclass(frozen=True, eq=False)
class Teacher:
    """A trained network, and the columns of its logits that are the student's classes."""

    net: nn.Module
    columns: list[int]

    def logits(self, frames: Tensor) -> Tensor:
        """Logits (B, student's classes) for frames (B, C, H, W)."""
        return cast(Tensor, self.net(frames))[:, self.columns]

    def with_features(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and VGG-16's map after its third pool (B, C, H/8, W/8)."""
        logits, features = cast(Vgg16, self.net).with_features(frames)
        return logits[:, self.columns], features


def load_teacher(folder: Path, labels: tuple[str, ...], device: torch.device) -> Teacher:
    """The network of a run, as teacher of a student with these labels. `TeacherUnfit` where it lacks one of them."""
    net, record = load_run(folder)
    known = record.provenance.labels
    unknown = [label for label in labels if label not in known]
    if unknown:
        raise TeacherUnfit(
            f"the teacher in {folder} knows {len(known)} classes, and '{unknown[0]}' is none of them; "
            "train it on all of the student's classes"
        )
    net = net.to(device, memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]
    return Teacher(net, [known.index(label) for label in labels])


class Objective:
    """The loss of a run: `L = L_CE + l1 L_KL + l2 L_feat + rate SOPs`. Called with indices, it returns the terms.

    With `early` as e, `e / (T - 1) sum_{t < T} (L_CE(z_t) + l1 L_KL(z_t))` is added, z_t the logits after t steps.
    """

    def __init__(self, config: RunConfig, net: nn.Module, teacher: Teacher | None, views: Views, folder: Path) -> None:
        weights = config.loss
        if teacher is None and (weights.logits or weights.features):
            raise TeacherUnfit("logits and features are learnt from a teacher; name one with --teacher")
        self._config, self._net, self._teacher, self._views, self._folder = config, net, teacher, views, folder
        self.align: nn.Conv2d | None = None  # M of eq. 9, learnt with the student
        method = "forward"
        if weights.early:
            if config.network.kind not in SPIKING or config.network.steps < 2:
                raise RunError("early answers are those of a spiking network with two time steps or more")
            method = "after_each_step"
        if weights.features:
            self.align = alignment(net, cast(Teacher, teacher)).to(next(net.parameters()).device)
            method = "with_features"
        if config.int8 and (config.network.kind not in SPIKING or config.network.bottleneck):
            raise RunError(
                "a device runs spiking networks alone as integers; leave --int8 out of dense ones and --split"
            )
        forward: Any = AsIntegers(net, method) if config.int8 else getattr(net, method)
        self._activity = Activity(net) if weights.rate else None
        self._forward = torch.compile(forward) if config.plan.compiled else forward
        self._mixing = seeded(config.seed)
        self._logits: Tensor | None = None

    def begin(self, epoch: int) -> None:
        """Make the epoch's view. Where views return, the teacher is asked about each once, and its logits are kept."""
        data = self._config.data
        self._views.begin(epoch)
        self._net.train()
        self._mixing = seeded(self._config.seed, 2, epoch)
        keeps = (data.views or data.augmentation == "none") and not data.mix and not self._config.loss.features
        if self._teacher is not None and keeps:
            self._logits = self._known_logits(self._views.number(epoch) if data.views else 0)

    def _known_logits(self, view: int) -> Tensor:
        path = self._folder / f"teacher-view-{view}.pt"
        if path.exists():
            return cast(Tensor, load_tensors(path)["logits"])
        device = next(self._net.parameters()).device.type
        precise = self._config.plan.precision == "float32"
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=not precise):
            parts = torch.split(torch.arange(len(self._views)), ASK_BATCH)
            answers = [cast(Teacher, self._teacher).logits(self._views.frames(rows)).float().cpu() for rows in parts]
        logits = torch.cat(answers)
        save_tensors(path, {"logits": logits})
        return logits

    def __call__(self, rows: Tensor) -> Terms:
        """The terms of the loss for the images at `rows` (B,)."""
        weights, mixed = self._config.loss, self._config.data.mix
        frames, targets = self._views.frames(rows), self._views.labels(rows)
        if mixed:
            frames, targets = mix(frames, F.one_hot(targets, self._views.classes).float(), mixed, self._mixing)
        answers, spikes = self._forward(frames) if self.align is not None else (self._forward(frames), None)
        *earlier, logits = answers if answers.ndim == 3 else (answers,)
        wanted, features = None, None
        if self._teacher is not None:
            wanted, features = self._ask(self._teacher, frames, rows)
        terms = self._by_logits(logits, targets, wanted)
        if weights.early:
            losses_before = [sum(self._by_logits(before, targets, wanted).values()) for before in earlier]
            terms["early"] = weights.early * cast(Tensor, sum(losses_before)) / len(earlier)
        if self.align is not None and spikes is not None and features is not None:
            terms["features"] = weights.features * losses.feature_alignment(spikes, self.align(features))
        if self._activity is not None:
            terms["operations"] = weights.rate * self._activity.take()
        return terms

    def _by_logits(self, logits: Tensor, targets: Tensor, wanted: Tensor | None) -> dict[str, Tensor]:
        """Cross entropy of logits (B, N), and their distance to the teacher's where that counts."""
        weights = self._config.loss
        terms = {"cross_entropy": F.cross_entropy(logits, targets, label_smoothing=weights.label_smoothing)}
        if wanted is not None and weights.logits:
            terms["logits"] = weights.logits * losses.distillation(logits, wanted, weights.tau_d)
        return terms

    @torch.no_grad()
    def _ask(self, teacher: Teacher, frames: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """The teacher's logits, and its features where they are aligned."""
        if self._logits is not None:
            return self._logits[rows].to(frames.device), None
        if self.align is not None:
            return teacher.with_features(frames)
        return teacher.logits(frames), None


def alignment(net: nn.Module, teacher: Teacher) -> nn.Conv2d:
    """M of eq. 9: a 1x1 map from the channels of the teacher's third pool to those of the student's."""
    if not isinstance(net, SpikingVgg9) or not isinstance(teacher.net, Vgg16):
        raise TeacherUnfit("features are aligned between a VGG-16 teacher and a VGG-9 student; leave --features at 0")
    return nn.Conv2d(teacher.net.feature_channels, net.config.stage_channels(2)[-1], 1)
