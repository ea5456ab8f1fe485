"""What training knows of the link: bits that turn on their way, and what a message weighs."""

import msgspec
import numpy as np
import pytest
import torch

from ecc_model.nets.ann import AnnConfig
from ecc_model.nets.cloud import CloudConfig, CloudNet, CodeConfig
from ecc_model.nets.losses import joint
from ecc_model.nets.neuron import Lif
from ecc_model.nets.vgg import VggConfig, to_unit
from ecc_tools.augmentation import Augmentation
from ecc_tools.bottleneck import EdgeLoss, answer_terms, code_logits, entropy_bits, train_bottleneck, turn
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
    alone = answer_terms(cloud, [code], labels, teacher, None)
    both = answer_terms(cloud, [code], labels, teacher, chance)
    assert list(alone) == ["joint"]
    assert list(both) == ["joint", "leading"]
    torch.testing.assert_close(both["joint"], alone["joint"])
    first = answer_terms(cloud, [code[:1]], labels, teacher, None)["joint"]
    torch.testing.assert_close(both["leading"], 0.5 * first)


def test_each_image_goes_through_all_encoders():
    torch.manual_seed(0)
    several = msgspec.structs.replace(cloud_net().config, others=(CodeConfig(2, 1),))
    cloud = CloudNet(several, Lif).eval()
    codes = [(torch.rand(2, 6, channels, 4, 4) < 0.5).float() for channels in (4, 2)]
    labels, teacher = torch.arange(6) % 4, torch.randn(6, 4)
    found = answer_terms(cloud, codes, labels, teacher, None)["joint"]
    each = [joint(cloud.features(code, index), labels, teacher, 0.5) for index, code in enumerate(codes)]
    torch.testing.assert_close(found, torch.stack(each).mean())


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


def test_the_edge_is_trained_for_its_own_classes_alone():
    loss = EdgeLoss([2, 0], early=0.5)
    answers = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels, teacher = torch.tensor([0, 1, 2, 3, 2]), torch.randn(5, 4)
    terms = loss.terms(answers, labels, teacher)
    known, targets = [0, 2, 4], torch.tensor([1, 0, 0])
    first, whole = (joint(logits[known], targets, teacher[known][:, [2, 0]], 0.5) for logits in answers)
    torch.testing.assert_close(terms, {"edge": whole, "early": 0.5 * first})
    sum(terms.values()).backward()
    assert torch.equal(answers.grad[:, [1, 3]], torch.zeros(2, 2, 2))
    assert loss.terms(answers, torch.tensor([1, 3, 3, 1, 1]), teacher) == {}


@pytest.mark.parametrize("together", [False, True])
def test_head_and_exit_change_only_where_they_are_trained_on(together):
    net, cloud = lively_network(CONFIG, 0), cloud_net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    views = Views(pattern_part(200, 0), Augmentation("none"), 0, torch.device("cpu"))
    edge = EdgeLoss([0, 1, 2, 3], 1.0) if together else None
    train_bottleneck(net, cloud, views, Plan(epochs=1, learning_rate=4e-3), 0, lambda share: None, edge=edge)
    changed = {name.split(".")[0] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == ({"head", "encoder", "exit"} if together else {"encoder"})
