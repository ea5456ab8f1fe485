from dataclasses import replace

import numpy as np
import pytest
import torch

from ecc_device.learning.lwf import Lessons, grow, learn
from ecc_device.learning.recipes import OURS, PLAIN
from ecc_model import bits
from ecc_model.nets.checkpoint import load_edge
from ecc_model.nets.neuron import Lif
from support.models import CONFIG, class_rows, write_tiny_models


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_models(tmp_path_factory.mktemp("models"), learnable=True)


@pytest.fixture(scope="module")
def exit_(model):
    return load_edge(model.edge, Lif).exit


@pytest.fixture(scope="module")
def lessons(model):
    program = model.program
    shape = program.split_shape

    def spikes(labels, seed):
        return np.stack([bits.unpack(row, shape) for row in class_rows(program, labels, seed)])

    new = [6 + index % 2 for index in range(80)]
    logits = np.zeros((80, 8), np.float32)
    logits[np.arange(80), new] = 6.0
    old = [index % 6 for index in range(48)]
    return Lessons(spikes(new, 1), logits, spikes(old, 2), np.array(old))


def accuracy(exit_, spikes, labels):
    with torch.no_grad():
        out = exit_(torch.from_numpy(spikes).transpose(0, 1).float())
    return float((out.argmax(1).numpy() == labels).mean())


def test_growing_keeps_the_old_logits(exit_):
    spikes = (torch.rand(2, 3, *_split()) < 0.3).float()
    with torch.no_grad():
        assert torch.equal(grow(exit_, 9)(spikes)[:, :6], exit_(spikes))


def test_new_classes_are_learnt(exit_, lessons):
    learnt = learn(exit_, lessons, OURS, 0, lambda share: None)
    assert accuracy(learnt, lessons.spikes, lessons.logits.argmax(1)) > 0.9
    assert accuracy(learnt, lessons.replay_spikes, lessons.replay_labels) > 0.9


def test_our_recipe_freezes_batch_norm_and_the_published_one_moves_it(exit_, lessons):
    before = exit_[0].norm.running_mean.clone()
    ours = learn(exit_, lessons, replace(OURS, steps=4), 0, lambda share: None)
    plain = learn(exit_, lessons, replace(PLAIN, steps=4), 0, lambda share: None)
    assert torch.equal(ours[0].norm.running_mean, before)
    assert not torch.equal(plain[0].norm.running_mean, before)


def test_the_old_exit_is_left_alone_and_the_seed_decides(exit_, lessons):
    before = [p.clone() for p in exit_.parameters()]
    once = learn(exit_, lessons, replace(OURS, steps=6), 5, lambda share: None)
    again = learn(exit_, lessons, replace(OURS, steps=6), 5, lambda share: None)
    assert all(torch.equal(a, b) for a, b in zip(before, exit_.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), again.parameters(), strict=True))


def test_progress_ends_at_one(exit_, lessons):
    shares = []
    learn(exit_, lessons, replace(OURS, steps=4), 0, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def _split():
    return (CONFIG.split_channels, *CONFIG.split_sides)
