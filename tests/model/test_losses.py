"""Losses of the papers, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ecc_model.nets.losses import distillation, joint, without_forgetting

EVEN = torch.tensor([[0.0, 0.0]])
THREE_TO_ONE = torch.tensor([[math.log(3.0), 0.0]])  # p = 3/4, 1/4 at temperature 1


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def test_distillation_is_kl_from_the_teacher_to_the_student() -> None:
    assert distillation(EVEN, THREE_TO_ONE, tau_d=1.0).item() == pytest.approx(kl([0.75, 0.25], [0.5, 0.5]))
    assert distillation(THREE_TO_ONE, EVEN, tau_d=1.0).item() == pytest.approx(kl([0.5, 0.5], [0.75, 0.25]))
    assert distillation(EVEN, EVEN).item() == 0.0


def test_distillation_softens_both_by_its_temperature_and_scales_by_its_square() -> None:
    expected = 4 * kl([0.75, 0.25], [0.5, 0.5])
    assert distillation(EVEN, 2 * THREE_TO_ONE).item() == pytest.approx(expected)
    assert distillation(EVEN, 2 * THREE_TO_ONE, tau_d=2.0).item() == pytest.approx(expected)


def test_distillation_is_the_mean_over_the_batch() -> None:
    both = distillation(torch.cat([EVEN, EVEN]), torch.cat([THREE_TO_ONE, EVEN]), tau_d=1.0)
    assert both.item() == pytest.approx(kl([0.75, 0.25], [0.5, 0.5]) / 2)


def test_joint_loss_is_cross_entropy_plus_weighted_distillation() -> None:
    found = joint(EVEN, torch.tensor([1]), 2 * THREE_TO_ONE, 0.5)
    assert found.item() == pytest.approx(math.log(2) + 0.5 * 4 * kl([0.75, 0.25], [0.5, 0.5]))


def test_old_classes_are_compared_among_themselves_only() -> None:
    new = torch.tensor([[math.log(9.0), 0.0, 50.0, -7.0]])  # two classes were added
    expected = 3.0 * 4 * kl([0.5, 0.5], [0.75, 0.25])
    assert without_forgetting(new, EVEN, 3.0).item() == pytest.approx(expected)


def test_no_gradient_reaches_the_teacher_and_the_student_learns_towards_it() -> None:
    for loss in (
        lambda student, teacher: distillation(student, teacher),
        lambda student, teacher: joint(student, torch.tensor([0]), teacher, 1.0),
        lambda student, teacher: without_forgetting(student, teacher, 1.0),
    ):
        student, teacher = EVEN.clone().requires_grad_(), THREE_TO_ONE.clone().requires_grad_()
        loss(student, teacher).backward()
        assert teacher.grad is None
        assert student.grad is not None
        assert student.grad[0, 0] < 0 < student.grad[0, 1]


def test_gradients_of_the_added_classes_come_from_the_new_data_alone() -> None:
    new = torch.zeros(1, 4, requires_grad=True)
    without_forgetting(new, THREE_TO_ONE, 1.0).backward()
    assert new.grad is not None
    assert new.grad[0, 2:].tolist() == [0.0, 0.0]
