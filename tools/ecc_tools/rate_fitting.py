"""Fit a rate table to the codes of validation frames.

Its kind is chosen on messages that the rates were not fitted to: two halves, each coded with the rates of the other.
Of all kinds within `NEAR` of the shortest total the one with the smallest table is taken.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from ecc_model import rates
from ecc_model.bits import Spikes
from ecc_model.errors import CompileError
from ecc_model.rangecoder import ONE
from ecc_model.rate_rules import Table
from ecc_model.rates import GROUPS, LINEAR, MAX_CONTEXTS, MAX_LINEAR_BITS, NEIGHBOURS, RateTable, Shape

NEAR = 1.01  # a larger table must save more than this
PRIOR_MESSAGES = 4.0  # a context believes the coarser one as much as this many messages of its own
WEIGHT_PRECISION = 15.0  # of the normal prior of a linear weight: flat from 10 to 20 for 500 to 13,000 messages
WEIGHT_UNIT = 32  # weights are in 1/32 of a logit
LOGIT_RANGE = 11  # sigmoid(-11) is about 1/65536
FITTING_STEPS = 100  # of L-BFGS, at most; 30 to 70 are taken
CHUNK_BITS = 1 << 22
CHOOSING_BITS = 1 << 23  # of the messages that the kind is chosen with
SEED = 0

Numbers = NDArray[np.float64]


class Counts(NamedTuple):
    """How often a spike fired and could have, by place and neighbours: (T * C, H * W, 2, 2, 2, 2), as `NEIGHBOURS`."""

    ones: Numbers
    total: Numbers


def fit_rates(messages: Spikes) -> RateTable:
    """The rates that code such messages (N, T, C, H, W) best; `CompileError` for fewer than two of them."""
    shape = messages.shape[1:]
    if len(messages) < 2:
        raise CompileError(f"rates cannot be fitted to {len(messages)} messages; give more validation frames")
    some = np.random.default_rng(SEED).permutation(len(messages))[: max(2, CHOOSING_BITS // math.prod(shape))]
    one, other = messages[some[0::2]], messages[some[1::2]]
    there, back = _lengths(one, other), _lengths(other, one)
    lengths = {kind: there[kind] + back[kind] for kind in there}
    near = [kind for kind in lengths if lengths[kind] <= NEAR * min(lengths.values())]
    return fit_kind(messages, min(near, key=lambda kind: _size(shape, kind)))


def fit_kind(messages: Spikes, kind: str) -> RateTable:
    """A rate table of `kind`, fitted to messages (N, T, C, H, W)."""
    if kind == LINEAR:
        return _fit_linear(messages)
    return rates.tables(messages.shape[1:], kind, _table(_count(messages), kind))


def _lengths(fitted: Spikes, coded: Spikes) -> dict[str, float]:
    """Bits of the messages `coded` by the rates of `fitted`, for each kind that the shape allows."""
    shape = fitted.shape[1:]
    counts, others = _count(fitted), _count(coded)
    lengths = {}
    names = [kept for size in range(len(NEIGHBOURS) + 1) for kept in itertools.combinations(NEIGHBOURS, size)]
    for group, kept in itertools.product(GROUPS, names):
        if _contexts(shape, group) <= MAX_CONTEXTS:
            kind = "+".join((group, *kept))
            p, (ones, total) = _table(counts, kind) / ONE, _of_kind(others, kind)
            lengths[kind] = -float((ones * np.log2(p) + (total - ones) * np.log2(1.0 - p)).sum())
    if math.prod(shape) <= MAX_LINEAR_BITS:
        lengths[LINEAR] = float(_fit_linear(fitted).code_lengths(coded).sum())
    return lengths


def _contexts(shape: Shape, group: str) -> int:
    return math.prod(shape if group == "position" else shape[:2])


def _size(shape: Shape, kind: str) -> int:
    """Numbers in a table of `kind`."""
    return math.prod(shape) ** 2 // 2 if kind == LINEAR else rates.table_size(shape, kind)


# ---- tables ----


def _count(messages: Spikes) -> Counts:
    _, steps, channels, height, width = messages.shape
    maps, places = steps * channels, height * width
    if maps * places > MAX_CONTEXTS:
        places = 1  # rates by position are not allowed then
    cells = maps * places << len(NEIGHBOURS)
    place = np.arange(maps * height * width).reshape(maps, height, width) // (height * width // places)
    ones, total = np.zeros(cells), np.zeros(cells)
    for spikes in np.array_split(messages, -(-messages.size // CHUNK_BITS)):
        rows = spikes.reshape(-1, maps, height, width)
        index = np.broadcast_to(place, rows.shape)
        for step, channel, up, left in NEIGHBOURS.values():
            before = np.zeros_like(rows)
            back = step * channels + channel
            before[:, back:, up:, left:] = rows[:, : maps - back, : height - up, : width - left]
            index = 2 * index + before
        total += np.bincount(index.reshape(-1), minlength=cells)
        ones += np.bincount(index[rows], minlength=cells)
    shape = (maps, places, *(2 for _ in NEIGHBOURS))
    return Counts(ones.reshape(shape), total.reshape(shape))


def _of_kind(counts: Counts, kind: str) -> Counts:
    """Counts of the contexts of `kind`, flat and in its order."""
    group, *kept = kind.split("+")
    axes = tuple(2 + axis for axis, name in enumerate(NEIGHBOURS) if name not in kept)
    axes += () if group == "position" else (1,)
    return Counts(counts.ones.sum(axes).reshape(-1), counts.total.sum(axes).reshape(-1))


def _table(counts: Counts, kind: str) -> Table:
    group, *kept = kind.split("+")
    maps, places = counts.ones.shape[:2]
    folds = [2] * len(kept) + ([places] if group == "position" else []) + [maps]
    ones, total = _of_kind(counts, kind)
    return _fixed(_smoothed(ones, total, folds))


def _smoothed(ones: Numbers, total: Numbers, folds: list[int]) -> Numbers:
    """Rates of contexts, `folds[0]` of which make one coarser context, and so on; the coarsest by Laplace's rule."""
    if not folds:
        return (ones + 0.5) / (total + 1.0)
    coarse = _smoothed(ones.reshape(-1, folds[0]).sum(1), total.reshape(-1, folds[0]).sum(1), folds[1:])
    return (ones + PRIOR_MESSAGES * np.repeat(coarse, folds[0])) / (total + PRIOR_MESSAGES)


def _fixed(p: Numbers) -> Table:
    return np.clip(np.rint(ONE * p), 1, ONE - 1).astype(np.uint16)


# ---- sums of weights ----


def _fit_linear(messages: Spikes) -> RateTable:
    """`P(x_i = 1) = sigmoid(b_i + sum_j<i w_ji x_j)`, one logistic regression for each spike."""
    flat = torch.from_numpy(np.ascontiguousarray(messages)).flatten(1).float()
    count, bits = flat.shape
    mean = (flat.sum(0) + 0.5) / (count + 1)
    bias = torch.log(mean / (1 - mean)).requires_grad_()
    weight = torch.zeros(bits, bits, requires_grad=True)
    before = torch.ones(bits, bits).triu(1)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=FITTING_STEPS, tolerance_grad=1e-3, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        effects = weight * before
        nats = binary_cross_entropy_with_logits(flat @ effects + bias, flat, reduction="sum")
        prior = WEIGHT_PRECISION / 2 * effects.square().sum() + 0.5 * (softplus(bias) + softplus(-bias)).sum()
        total: torch.Tensor = (nats + prior) / count
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    logits = np.arange(-LOGIT_RANGE * WEIGHT_UNIT, LOGIT_RANGE * WEIGHT_UNIT + 1) / WEIGHT_UNIT
    effects = (weight.detach() * WEIGHT_UNIT).round().clamp(-127, 127).to(torch.int8).numpy()
    constants = (bias.detach() * WEIGHT_UNIT).round().clamp(-(2**15), 2**15 - 1).to(torch.int16).numpy()
    return rates.linear(
        messages.shape[1:],
        _fixed(1 / (1 + np.exp(-logits))),
        constants,
        effects[np.triu_indices(bits, 1)],
    )
