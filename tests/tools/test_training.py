import math

import pytest
import torch
from torch import nn

from ecc_tools.augmentation import Augmentation
from ecc_tools.data.parts import Part
from ecc_tools.training import (
    LossNotFinite,
    OutOfMemory,
    Plan,
    Views,
    learning_rate,
    make_optimizer,
    run_through,
    train,
)
from support.patterns import pattern_part

CPU = torch.device("cpu")
SILENT = lambda share: None  # noqa: E731
PLAN = Plan(epochs=4, learning_rate=0.1, batch=10, optimizer="sgd", weight_decay=0.0, warmup=0.25)


def line(start: float = 0.0) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, start)
    return layer


def test_the_rate_rises_in_the_warm_up_and_falls_by_a_cosine_to_zero():
    shares = [0.0, 0.125, 0.25, 0.625, 1.0]
    rates = [learning_rate(PLAN, share) for share in shares]
    assert rates == pytest.approx([0.001, 0.05, 0.1, 0.05, 0.0])


def test_every_row_is_seen_once_an_epoch_in_an_order_of_its_own():
    layer, seen = line(), []

    def loss(rows):
        seen.append(rows.tolist())
        return {"square": layer.weight.square().sum()}

    for done in train(make_optimizer(layer.parameters(), PLAN), loss, 30, PLAN, 7, SILENT):
        assert done.terms == {"square": pytest.approx(0.0)}
    epochs = [[*seen[at], *seen[at + 1], *seen[at + 2]] for at in range(0, 12, 3)]
    assert all(sorted(epoch) == list(range(30)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_run_from_a_later_epoch_sees_the_same_batches():
    layer, whole, rest = line(), [], []

    def watch(seen):
        return lambda rows: seen.append(rows.tolist()) or {"zero": layer.weight.sum() * 0.0}

    optimizer = make_optimizer(layer.parameters(), PLAN)
    run_through(train(optimizer, watch(whole), 30, PLAN, 7, SILENT))
    run_through(train(optimizer, watch(rest), 30, PLAN, 7, SILENT, start=2))
    assert rest == whole[6:]


def test_the_terms_are_summed_and_logged_apart():
    layer = line(1.0)
    plan = Plan(epochs=1, learning_rate=0.1, batch=10, optimizer="sgd", weight_decay=0.0, warmup=0.0)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    terms = lambda rows: {"two": 2.0 * layer.weight.sum(), "three": 3.0 * layer.weight.sum()}  # noqa: E731
    (done,) = train(optimizer, terms, 10, plan, 0, SILENT)
    assert done.terms == {"two": 2.0, "three": 3.0}
    assert layer.weight.item() == pytest.approx(1.0 - 0.1 * 5.0)


def test_a_loss_that_is_no_number_stops_the_training_and_names_term_and_place():
    layer = line()

    def loss(rows):
        return {"good": layer.weight.sum(), "bad": torch.tensor(math.nan)}

    with pytest.raises(
        LossNotFinite, match=r"^the loss term 'bad' is not finite in epoch 0, batch 2; lower the learning rate$"
    ):
        run_through(train(make_optimizer(layer.parameters(), PLAN), loss, 30, PLAN, 0, SILENT))


def test_a_batch_that_does_not_fit_into_memory_names_one_to_try():
    layer = line()

    def loss(rows):
        return {"large": torch.empty(1 << 50).sum() + layer.weight.sum()}

    with pytest.raises(OutOfMemory, match=r"^a batch of 10 does not fit into memory; try --batch 5$"):
        run_through(train(make_optimizer(layer.parameters(), PLAN), loss, 30, PLAN, 0, SILENT))


def test_another_error_stays_what_it_is():
    layer = line()

    def loss(rows):
        return {"wrong": (torch.zeros(2, 3) @ torch.zeros(2, 3)).sum() + layer.weight.sum()}

    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        run_through(train(make_optimizer(layer.parameters(), PLAN), loss, 30, PLAN, 0, SILENT))


def views(count: int = 0, seed: int = 3, part: Part | None = None) -> Views:
    return Views(part or pattern_part(40, 0), Augmentation("crop-flip"), seed, CPU, count=count)


def shown(views: Views, epoch: int) -> torch.Tensor:
    views.begin(epoch)
    return views.frames(torch.arange(len(views)))


def test_a_view_depends_on_seed_and_epoch_alone():
    one, other = views(), views()
    shown(other, 0)
    shown(other, 1)
    assert torch.equal(shown(one, 2), shown(other, 2))
    assert not torch.equal(shown(one, 0), shown(one, 1))
    assert not torch.equal(shown(one, 0), shown(views(seed=4), 0))


def test_fixed_views_return_by_turns():
    fixed = views(count=2)
    assert torch.equal(shown(fixed, 0), shown(fixed, 2))
    assert not torch.equal(shown(fixed, 0), shown(fixed, 1))
    assert [fixed.number(epoch) for epoch in range(4)] == [0, 1, 0, 1]


def test_frames_are_floats_in_the_unit_range_with_channels_first():
    part = pattern_part(40, 0)
    plain = Views(part, Augmentation("none"), 0, CPU)
    frames = shown(plain, 0)
    assert frames.shape == (40, 1, 16, 16)
    assert frames[3, 0, 5, 2].item() == pytest.approx(part.frames[3, 5, 2, 0] / 255)
    assert plain.labels(torch.tensor([1, 6])).tolist() == [1, 2]
