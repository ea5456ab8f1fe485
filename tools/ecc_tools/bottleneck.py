"""Training what lies between the edge and the cloud: encoders, decoders and tail behind the head, frozen or not.

Where there are several encoders, each image goes through all of them, into one batch of the tail that they share.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecc_model.bits import Spikes
from ecc_model.nets import losses
from ecc_model.nets.cloud import CloudNet
from ecc_model.nets.vgg import SpikingVgg9, exit_after_each_step, to_unit
from ecc_model.program import Program
from ecc_tools.augmentation import Augmentation
from ecc_tools.data.parts import Part
from ecc_tools.frame_by_frame import encode_all
from ecc_tools.training import Plan, Progress, Terms, Views, make_optimizer, parameters_of, run_through, seeded, train

KL_WEIGHT = 0.5  # l1 of eq. 8, the authors' own
LEADING_WEIGHT = 0.5  # of answers to leading time steps: those to all of them come first
LEAST_RATE = 1e-3  # a spike that never fires in a batch may do so in another
CHUNK = 500


class EdgeLoss(NamedTuple):
    """What the edge's own answers are trained for beside the cloud's.

    classes: the edge's classes among the cloud's, in the edge's order; other images do not count. early: weight of the
    answers after fewer than T steps.
    """

    classes: list[int]
    early: float

    def terms(self, answers: Tensor, labels: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Eq. 8 for the edge's logits (T, B, N) after each step, labels (B,) and teacher's logits (B, M)."""
        own = labels[:, None] == torch.tensor(self.classes)
        known = own.any(1)
        if not known.any():
            return {}
        targets, wanted = own[known].int().argmax(1), teacher[known][:, self.classes]
        *earlier, whole = (losses.joint(logits[known], targets, wanted, KL_WEIGHT) for logits in answers)
        terms = {"edge": whole}
        if earlier and self.early:
            terms["early"] = self.early * torch.stack(earlier).mean()
        return terms


def train_bottleneck(
    net: SpikingVgg9,
    cloud: CloudNet,
    views: Views,
    plan: Plan,
    seed: int,
    progress: Progress,
    *,
    rate: float = 0.0,
    noise: float = 0.0,
    leading: bool = False,
    edge: EdgeLoss | None = None,
    others: Sequence[nn.Sequential] = (),
) -> None:
    """Encoder, decoder and tail behind the frozen head, jointly with the cloud's teacher (eq. 8).

    rate: weight of the estimated entropy of a message, per bit, so that bits are learnt and not only counted; noise:
    share of the bits that turn on their way; leading: the tail learns to answer leading time steps, too; edge: head
    and exit are trained on with all the rest, so that the spikes at the cut serve both; others: further encoders, those
    of the cloud's further decoders.
    """
    encoders = (net.encoder, *others)
    parts = (*encoders, *cloud.decoders, cloud.tail, *(() if edge is None else (net.head, net.exit)))
    chance = seeded(seed, 5)

    def to_codes(frames: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """What travels from each encoder, and where the edge is trained on its answers after each step."""
        with torch.set_grad_enabled(edge is not None):
            split = net.split(frames)
        return [encoder(split) for encoder in encoders], None if edge is None else exit_after_each_step(net.exit, split)

    forward = torch.compile(to_codes) if plan.compiled else to_codes

    def begin(epoch: int) -> None:
        views.begin(epoch)
        for part in parts:
            part.train()

    def loss(rows: Tensor) -> Terms:
        frames = views.frames(rows)
        labels = views.labels(rows)
        with torch.no_grad():
            teacher = cloud.frames(frames)
        codes, answers = forward(frames)
        sent = [turn(code, noise, chance) for code in codes]
        terms = answer_terms(cloud, sent, labels, teacher, chance if leading else None)
        if edge is not None and answers is not None:
            terms |= edge.terms(answers, labels, teacher)
        return terms | {"rate": rate * torch.stack([entropy_bits(code) for code in codes]).mean()} if rate else terms

    optimizer = make_optimizer(parameters_of(*parts), plan)
    run_through(train(optimizer, loss, len(views), plan, seed, progress, begin=begin))
    for module in (net, cloud, *others):
        module.eval()


def tune_cloud(
    program: Program,
    cloud: CloudNet,
    part: Part,
    augmentation: Augmentation,
    plan: Plan,
    seed: int,
    progress: Progress,
    *,
    copies: int,
    noise: float = 0.0,
    leading: bool = False,
) -> None:
    """Decoders and tail once more, on what the integer head and encoders really emit: the part plain and augmented.

    `copies` counts the plain one; `noise` and `leading` as in `train_bottleneck`.
    """
    chance = seeded(seed, 6)
    generator = seeded(seed, 3)
    plain = torch.from_numpy(part.frames)
    shown = [plain, *(augmentation(plain, generator) for _ in range(copies - 1))]
    codes = [torch.from_numpy(code) for code in encode_all(program, torch.cat(shown).numpy())]
    with torch.no_grad():
        chunks = [chunk for frames in shown for chunk in torch.split(frames, CHUNK)]
        teacher = torch.cat([cloud.frames(to_unit(chunk)) for chunk in chunks])
    labels = torch.from_numpy(part.labels).repeat(copies)
    parts = (*cloud.decoders, cloud.tail)

    def begin(epoch: int) -> None:
        for part in parts:
            part.train()

    def loss(rows: Tensor) -> Terms:
        sent = [turn(code[rows].transpose(0, 1).float(), noise, chance) for code in codes]
        return answer_terms(cloud, sent, labels[rows], teacher[rows], chance if leading else None)

    optimizer = make_optimizer(parameters_of(*parts), plan)
    run_through(train(optimizer, loss, len(labels), plan, seed, progress, begin=begin))
    cloud.eval()


def answer_terms(
    cloud: CloudNet, codes: Sequence[Tensor], labels: Tensor, teacher: Tensor, chance: torch.Generator | None
) -> dict[str, Tensor]:
    """The loss of the answers to the codes (T, B, C, H, W) that each encoder makes of B images.

    With `chance` there is also that of the answers to some leading steps. All are in one batch, so that batch norm sees
    in training what it is used for.
    """
    decoded = torch.cat([decoder(code) for decoder, code in zip(cloud.decoders, codes, strict=True)], 1)
    labels, teacher = labels.repeat(len(codes)), teacher.repeat(len(codes), 1)
    if chance is None:
        return {"joint": losses.joint(cloud.tail(decoded), labels, teacher, KL_WEIGHT)}
    steps, batch = decoded.shape[:2]
    kept = torch.arange(steps)[:, None] < torch.randint(1, steps, (batch,), generator=chance)
    shown = torch.cat([decoded, decoded * kept.to(decoded)[:, :, None, None, None]], 1)
    whole, leading = cloud.tail(shown).chunk(2)
    return {
        "joint": losses.joint(whole, labels, teacher, KL_WEIGHT),
        "leading": LEADING_WEIGHT * losses.joint(leading, labels, teacher, KL_WEIGHT),
    }


def turn(code: Tensor, share: float, chance: torch.Generator) -> Tensor:
    """Spikes of which each turns over with probability `share`: a binary symmetric channel, with its gradient."""
    if share == 0.0:
        return code
    turned = (torch.rand(code.shape, generator=chance) < share).to(code)
    return code + turned - 2.0 * code * turned


def entropy_bits(code: Tensor) -> Tensor:
    """Entropy of a message in bits, if each of its spikes fires by itself at its rate over the batch.

    Shape: (T, B, C, H, W) -> (). An upper bound of what the rate tables take, which also know neighbours.
    """
    p = code.mean(1).clamp(LEAST_RATE, 1.0 - LEAST_RATE)
    return -(p * p.log2() + (1.0 - p) * (1.0 - p).log2()).sum()


def code_logits(cloud: CloudNet, codes: Spikes, decoder: int = 0) -> NDArray[np.float32]:
    """The cloud's logits (N, classes) for codes (N, t, C, H, W) of all steps, or of leading ones."""
    with torch.inference_mode():
        chunks = torch.split(torch.from_numpy(codes), CHUNK)
        return torch.cat([cloud.features(chunk.transpose(0, 1).float(), decoder) for chunk in chunks]).numpy()
