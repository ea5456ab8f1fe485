"""How a device learns, by name; without torch, so that command lines can list it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Settings of learning by gradients. Steps are Adam steps with a cosine learning rate."""

    steps: int = 200
    batch: int = 32
    learning_rate: float = 2e-3
    l_new: float = 2.0  # weight of KL to the cloud's logits, l1 of eq. 8
    l_old: float = 1.0  # weight of KL to the old exit, eq. 12
    replay: bool = True  # guard rows are learnt along
    freeze_norm: bool = True  # batch norm keeps the statistics of Setup


OURS = Recipe()
PLAIN = Recipe(l_new=0.0, l_old=0.5, replay=False, freeze_norm=False)
JOINED = ("analytic", "lwf")  # the model's own exit goes on deciding among its classes: see `joining`
LWF = {"lwf": OURS, "lwf-plain": PLAIN}  # those that need torch
REPLAY_PER_NEW_CLASS = 10  # learnt rows of a new class that join the guard set, so that it is not forgotten later

# What each choice makes: one candidate, or several of which the gate prefers one. Of equally good ones the first, so
# the cheapest stand first.
LEARNERS = {
    "auto": ("analytic", "lwf", "both"),
    "analytic": ("analytic",),
    "lwf": ("lwf",),
    "both": ("both",),
    "lwf-plain": ("lwf-plain",),
}
DEFAULT = "auto"
NONE = "none"  # a device that never learns
CHOICES = (*LEARNERS, NONE)
