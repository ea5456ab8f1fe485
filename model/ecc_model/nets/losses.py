"""Losses of the two papers, as plain functions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

TAU_D = 2.0  # distillation temperature


def distillation(student: Tensor, teacher: Tensor, tau_d: float = TAU_D) -> Tensor:
    """`L_KL = tau_d^2 KL(softmax(z_teacher / tau_d) || softmax(z_student / tau_d))`, mean over the batch.

    Shape: (B, N) logits each; the teacher carries no gradient.
    """
    target = F.log_softmax(teacher.detach() / tau_d, dim=1)
    return tau_d**2 * F.kl_div(F.log_softmax(student / tau_d, dim=1), target, reduction="batchmean", log_target=True)


def joint(student: Tensor, labels: Tensor, teacher: Tensor, weight: float) -> Tensor:
    """`L = L_CE + l1 L_KL` (ECC-SNN, eq. 8) with `l1 = weight`.

    Shape: student (B, N); labels (B,) as indices, or (B, N) as probabilities where images are mixed; teacher (B, N).
    """
    return F.cross_entropy(student, labels) + weight * distillation(student, teacher)


def feature_alignment(student: Tensor, teacher: Tensor) -> Tensor:
    """`L_feat = 1/T sum_t || M(F_teacher) - F_student[t] ||^2` (ECC-SNN, eq. 9), the square as a mean over elements.

    The student carries gradient, and so does the learnt 1x1 map M, which is applied outside: the teacher's map enters
    it detached. The mean keeps the term's weight apart from the size of the map.

    Shape: student (T, B, C, H, W) spikes, teacher (B, C, H, W) behind M.
    """
    return F.mse_loss(student, teacher.expand_as(student))


def without_forgetting(new: Tensor, old: Tensor, weight: float) -> Tensor:
    """`l_old L_old` of eq. 12: KL between the old exit's logits and the new exit's, over the old classes only.

    Shape: new (B, N + added), old (B, N).
    """
    return weight * distillation(new[:, : old.shape[1]], old)
