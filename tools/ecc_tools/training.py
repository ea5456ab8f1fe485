"""The training loop: augmented views of a part, one epoch after another, learning rate by cosine with warm-up."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor, nn

from ecc_model.errors import EccError
from ecc_model.nets.vgg import to_unit
from ecc_tools.augmentation import Augmentation
from ecc_tools.data.parts import Part

CHUNK = 2048  # frames augmented at a time
CHECK_EVERY = 50  # batches between looks at the loss: each look makes a GPU wait
Progress = Callable[[float], None]  # told the finished share, 0 to 1, after every batch
Terms = Mapping[str, Tensor]  # the loss as its terms, which are summed


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how fast to train."""

    epochs: int
    learning_rate: float  # at its highest
    batch: int = 64
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: float = 5e-4
    warmup: float = 0.3  # share of all batches in which the rate rises; a cosine to zero follows
    precision: Literal["float32", "bfloat16"] = "float32"
    compiled: bool = False  # torch.compile: needs a C++ compiler, pays from a few epochs on


class LossNotFinite(EccError):
    """The loss of a training has become infinite or no number."""


class OutOfMemory(EccError):
    """A batch that does not fit into memory."""


@dataclass(frozen=True)
class EpochLosses:
    """Means over one epoch."""

    epoch: int
    terms: dict[str, float]


class Views:
    """A part on a device, shown in a new augmented view every epoch, or in `count` fixed ones by turns.

    `begin(epoch)` makes the epoch's view; `frames(rows)` are floats (B, C, H, W) of it, `labels(rows)` (B,).
    """

    def __init__(self, part: Part, augmentation: Augmentation, seed: int, device: torch.device, count: int = 0) -> None:
        self._plain = torch.from_numpy(part.frames)
        self._labels = torch.from_numpy(part.labels).to(device)
        self.classes = int(part.labels.max()) + 1
        self._augmentation = augmentation
        self._seed = seed
        self._device = device
        self._count = count
        self._view: Tensor | None = None

    def __len__(self) -> int:
        return len(self._plain)

    def number(self, epoch: int) -> int:
        """Which view an epoch shows."""
        return epoch % self._count if self._count else epoch

    def begin(self, epoch: int) -> None:
        """Make the view of this epoch: the same for the same seed, whatever came before."""
        generator = seeded(self._seed, 1, self.number(epoch))
        chunks = [self._augmentation(chunk, generator) for chunk in torch.split(self._plain, CHUNK)]
        self._view = torch.cat(chunks).to(self._device)

    def frames(self, rows: Tensor) -> Tensor:
        """Float frames (B, C, H, W) in [0, 1], channels last in memory."""
        if self._view is None:
            raise RuntimeError("begin() has not been called")
        return to_unit(self._view[rows.to(self._device)])

    def labels(self, rows: Tensor) -> Tensor:
        """Labels (B,)."""
        return self._labels[rows.to(self._device)]


def seeded(*numbers: int) -> torch.Generator:
    """A generator of random numbers that depends on all of `numbers`."""
    value = 0
    for number in numbers:
        value = (value * 1_000_003 + number + 1) % (1 << 62)
    return torch.Generator().manual_seed(value)


def make_optimizer(parameters: Iterable[nn.Parameter], plan: Plan) -> torch.optim.Optimizer:
    """Adam (decay as part of the gradient, as in the papers), AdamW (decay apart), or SGD with Nesterov momentum."""
    if plan.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    if plan.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    return torch.optim.SGD(
        parameters, lr=plan.learning_rate, momentum=0.9, weight_decay=plan.weight_decay, nesterov=True
    )


def learning_rate(plan: Plan, share: float) -> float:
    """The rate at the finished share of all batches."""
    if share < plan.warmup:
        return plan.learning_rate * max(share / plan.warmup, 0.01)
    return plan.learning_rate * 0.5 * (1 + math.cos(math.pi * (share - plan.warmup) / (1 - plan.warmup)))


def train(
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor], Terms],
    rows: int,
    plan: Plan,
    seed: int,
    progress: Progress,
    *,
    start: int = 0,
    begin: Callable[[int], None] = lambda epoch: None,
    stepped: Callable[[], None] = lambda: None,
) -> Iterator[EpochLosses]:
    """Minimize the sum of `loss(indices)` over batches of indices below `rows`; yields after each epoch from `start`.

    `begin(epoch)` is called before an epoch, `stepped()` after each step. The order of batches depends on `seed` and
    epoch alone, so a run that goes on from epoch k is the run that never stopped. `LossNotFinite`, `OutOfMemory`.
    """
    batches = max(1, rows // plan.batch)
    total = plan.epochs * batches
    device_type = next(p.device.type for group in optimizer.param_groups for p in group["params"])
    for epoch in range(start, plan.epochs):
        begin(epoch)
        order = torch.randperm(rows, generator=seeded(seed, 0, epoch))
        sums: dict[str, Any] = {}
        for batch in range(batches):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(plan, (epoch * batches + batch) / total)
            optimizer.zero_grad(set_to_none=True)
            try:
                with torch.autocast(device_type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
                    terms = loss(order[batch * plan.batch : (batch + 1) * plan.batch])
                torch.stack([term.float() for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
            except RuntimeError as exc:
                raise memory_or(exc, plan.batch) from exc
            optimizer.step()
            stepped()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0.0) + term.detach().float()
            if batch % CHECK_EVERY == CHECK_EVERY - 1 or batch == batches - 1:
                _check(sums, epoch, batch)
            progress((epoch * batches + batch + 1) / total)
        yield EpochLosses(epoch, {name: float(value) / batches for name, value in sums.items()})


def _check(sums: Mapping[str, Tensor], epoch: int, batch: int) -> None:
    wrong = [name for name, value in sums.items() if not math.isfinite(float(value))]
    if wrong:
        raise LossNotFinite(
            f"the loss term '{wrong[0]}' is not finite in epoch {epoch}, batch {batch}; lower the learning rate"
        )


def memory_or(exc: RuntimeError, batch: int) -> Exception:
    """`OutOfMemory` where torch says in `exc` that a batch does not fit, else `exc` itself."""
    text = str(exc)
    if isinstance(exc, torch.OutOfMemoryError) or "not enough memory" in text or "can't allocate memory" in text:
        return OutOfMemory(f"a batch of {batch} does not fit into memory; try --batch {max(1, batch // 2)}")
    return exc


def run_through(epochs: Iterator[EpochLosses]) -> None:
    """Train all epochs of a run that nobody logs."""
    for _ in epochs:
        pass


def parameters_of(*modules: nn.Module) -> list[nn.Parameter]:
    """All parameters of the modules, in order."""
    return list(itertools.chain.from_iterable(module.parameters() for module in modules))
