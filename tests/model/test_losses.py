"""Losses of the papers, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from ecc_model.nets.losses import distillation, feature_alignment, joint, without_forgetting

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


def test_labels_of_mixed_images_are_probabilities() -> None:
    student, teacher = torch.randn(3, 4), torch.randn(3, 4)
    sure = joint(student, torch.eye(4)[[2, 0, 1]], teacher, 0.5)
    assert sure.item() == pytest.approx(joint(student, torch.tensor([2, 0, 1]), teacher, 0.5).item())
    mixed = joint(THREE_TO_ONE, torch.tensor([[0.4, 0.6]]), teacher[:1, :2], 0.0)
    assert mixed.item() == pytest.approx(-0.4 * math.log(0.75) - 0.6 * math.log(0.25))


def test_feature_alignment_is_the_mean_square_over_steps_batch_and_elements() -> None:
    spikes = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).view(2, 1, 2, 1, 1)  # two steps of one image with two channels
    mapped = torch.tensor([0.5, -1.0]).view(1, 2, 1, 1)
    assert feature_alignment(spikes, mapped).item() == pytest.approx((0.25 + 4 + 0.25 + 4) / 4)
    both = torch.cat([spikes, spikes], dim=1), torch.cat([mapped, torch.ones(1, 2, 1, 1)])
    assert feature_alignment(*both).item() == pytest.approx((8.5 + 1.0) / 8)


def test_the_student_and_the_map_learn_from_the_alignment() -> None:
    student = torch.tensor([0.2, 0.9]).view(1, 1, 2, 1, 1).requires_grad_()
    mapping = torch.nn.Conv2d(3, 2, 1)
    feature_alignment(student, mapping(torch.rand(1, 3, 1, 1))).backward()
    assert student.grad is not None
    assert (student.grad != 0).all()
    assert mapping.weight.grad is not None
    assert (mapping.weight.grad != 0).all()


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
