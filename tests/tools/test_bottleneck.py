"""What training knows of the link: bits that turn on their way, and what a message weighs."""

import numpy as np
import pytest
import torch

from ecc_model.nets.ann import AnnConfig
from ecc_model.nets.cloud import CloudConfig, CloudNet
from ecc_model.nets.neuron import Lif
from ecc_model.nets.vgg import VggConfig, to_unit
from ecc_tools.augmentation import Augmentation
from ecc_tools.bottleneck import answer_terms, code_logits, entropy_bits, train_bottleneck, turn
from ecc_tools.training import Plan, Views, seeded
from support.models import lively_network
from support.patterns import NAMES, pattern_part

CONFIG = VggConfig(steps=2, channels=1, height=16, width_px=16, width=0.1, classes=4, split=2, code_channels=4)


def test_each_spike_turns_by_itself_and_keeps_its_gradient():
    code = (torch.rand(2, 50, 4, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.2).float().requires_grad_()
    turned = turn(code, 0.1, seeded(3))
    assert set(turned.detach().unique().tolist()) == {0.0, 1.0}
    changed = turned != code
    assert 0.08 < changed.float().mean() < 0.12
    assert 0.08 < changed[code == 1].float().mean() < 0.12
    turned.sum().backward()
    assert torch.equal(code.grad, torch.where(changed, -1.0, 1.0))
    assert turn(code, 0.0, seeded(3)) is code


def test_entropy_is_that_of_independent_spikes():
    code = torch.zeros(1, 4, 1, 1, 3)
    code[0, :2, 0, 0, 0] = 1.0  # half of the messages: one bit
    code[0, :1, 0, 0, 1] = 1.0  # a quarter: 0.8113 bits
    assert entropy_bits(code).item() == pytest.approx(1.0 + 0.8113 + 0.0114, abs=1e-3)  # never seen: nearly nothing


def cloud_net():
    return CloudNet(
        CloudConfig(
            steps=2,
            channels=1,
            classes=len(NAMES),
            code_channels=4,
            code_stride=1,
            split_channels=CONFIG.split_channels,
            tail_channels=8,
            teacher=AnnConfig(kind="resnet8", channels=1, classes=len(NAMES), width=0.125),
        ),
        Lif,
    ).eval()


def trained(rate, leading=False, epochs=3):
    net, cloud = lively_network(CONFIG, 0), cloud_net()
    part = pattern_part(400, 0)
    views = Views(part, Augmentation("none"), 0, torch.device("cpu"))
    plan = Plan(epochs=epochs, learning_rate=4e-3)
    train_bottleneck(net, cloud, views, plan, 0, lambda share: None, rate=rate, leading=leading)
    with torch.no_grad():
        return net.encoder(net.split(to_unit(torch.from_numpy(part.frames)))), cloud, part.labels


def test_answers_to_leading_steps_are_trained_beside_those_to_all():
    torch.manual_seed(0)
    cloud, chance = cloud_net(), seeded(1)
    code = (torch.rand(2, 6, 4, 4, 4) < 0.5).float()
    labels, teacher = torch.arange(6) % 4, torch.randn(6, 4)
    alone = answer_terms(cloud, code, labels, teacher, None)
    both = answer_terms(cloud, code, labels, teacher, chance)
    assert list(alone) == ["joint"]
    assert list(both) == ["joint", "leading"]
    torch.testing.assert_close(both["joint"], alone["joint"])
    first = answer_terms(cloud, code[:1], labels, teacher, None)["joint"]
    torch.testing.assert_close(both["leading"], 0.5 * first)


def test_a_tail_that_saw_leading_steps_answers_by_them():
    right = {}
    for leading in (False, True):
        code, cloud, labels = trained(0.0, leading, epochs=8)
        codes = code.transpose(0, 1).bool().numpy()
        right[leading] = [(code_logits(cloud, codes[:, :steps]).argmax(1) == labels).mean() for steps in (1, 2)]
    assert right[True][0] > right[False][0] + 0.1
    assert right[True][1] > right[False][1] - 0.05


def test_the_rate_term_makes_messages_lighter():
    free, weighed = (entropy_bits(trained(rate)[0]).item() for rate in (0.0, 0.02))
    assert weighed < 0.6 * free
    assert np.isfinite(weighed)
