from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ecc_device.engines import make_engine
from ecc_device.learning.checkpoint import STOPPED, Checkpoint
from ecc_device.learning.lesson import exit_logits, unpack_rows
from ecc_device.learning.lwf import Lessons, grow, learn
from ecc_device.learning.recipes import OURS, PLAIN
from ecc_model import bits
from ecc_model.modelfile import read_edge
from ecc_model.nets import integers, losses
from ecc_model.nets.checkpoint import load_edge
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_section
from support.models import CONFIG, class_rows, write_tiny_models

NOTHING = Checkpoint(None)
EXAMPLES = Path(__file__).parents[3] / "examples"


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
        out = integers.answer(exit_, torch.from_numpy(spikes).transpose(0, 1).float())
    return float((out.argmax(1).numpy() == labels).mean())


def test_growing_keeps_the_old_logits(exit_):
    spikes = (torch.rand(2, 3, *_split()) < 0.3).float()
    with torch.no_grad():
        assert torch.equal(grow(exit_, 9)(spikes)[:, :6], exit_(spikes))


def test_new_classes_are_learnt(exit_, lessons):
    learnt = learn(exit_, lessons, OURS, 0, lambda share: None, NOTHING)
    assert accuracy(learnt, lessons.spikes, lessons.logits.argmax(1)) > 0.9
    assert accuracy(learnt, lessons.replay_spikes, lessons.replay_labels) > 0.9


def test_what_is_trained_is_what_the_integer_program_answers(monkeypatch):
    """On real spikes of the shipped model: the logits that the loss sees, and those of the device."""
    edge = EXAMPLES / "models" / "vgg9.pt"
    shipped, net = read_edge(edge), load_edge(edge, Lif)
    program, guard = shipped.program, shipped.guard
    with np.load(EXAMPLES / "streams" / "first.npz") as stream:
        frames, labels = stream["frames"][:200], stream["labels"][:200]
    head = make_engine(None, program).head
    rows = np.stack([np.frombuffer(bits.pack(head(frame)), np.uint8) for frame in frames])
    numbered = 6.0 * np.eye(10, dtype=np.float32)[labels] + np.arange(200, dtype=np.float32)[:, None]
    replayed = ~guard.judge.astype(bool)
    replay = unpack_rows(guard.bits[replayed], program), guard.labels[replayed].astype(np.int64)
    lessons = Lessons(unpack_rows(rows, program), numbered, *replay)
    learnt = learn(net.exit, lessons, replace(OURS, steps=8), 0, lambda share: None, NOTHING)
    seen = []

    def joint(fresh, labels, teacher, weight):
        seen.append((teacher.min(dim=1).values.long(), fresh.detach()))
        return losses.joint(fresh, labels, teacher, weight)

    monkeypatch.setattr("ecc_device.learning.lwf.losses", SimpleNamespace(**vars(losses) | {"joint": joint}))
    learn(learnt, lessons, replace(OURS, steps=1, batch=200, learning_rate=0.0), 0, lambda share: None, NOTHING)
    [(order, trained)] = seen
    answered = exit_logits(replace(program, exit=compile_section(learnt, steps=program.steps)), rows)[order]
    assert sorted(order.tolist()) == list(range(200))
    assert (trained.argmax(dim=1).numpy() == answered.argmax(axis=1)).mean() >= 0.995
    np.testing.assert_allclose(trained.numpy(), answered, rtol=0, atol=1e-5)


def test_our_recipe_freezes_batch_norm_and_the_published_one_moves_it(exit_, lessons):
    before = exit_[0].norm.running_mean.clone()
    ours = learn(exit_, lessons, replace(OURS, steps=4), 0, lambda share: None, NOTHING)
    plain = learn(exit_, lessons, replace(PLAIN, steps=4), 0, lambda share: None, NOTHING)
    assert torch.equal(ours[0].norm.running_mean, before)
    assert not torch.equal(plain[0].norm.running_mean, before)


def test_the_old_exit_is_left_alone_and_the_seed_decides(exit_, lessons):
    before = [p.clone() for p in exit_.parameters()]
    once = learn(exit_, lessons, replace(OURS, steps=6), 5, lambda share: None, NOTHING)
    again = learn(exit_, lessons, replace(OURS, steps=6), 5, lambda share: None, NOTHING)
    assert all(torch.equal(a, b) for a, b in zip(before, exit_.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), again.parameters(), strict=True))


def test_progress_ends_at_one(exit_, lessons):
    shares = []
    learn(exit_, lessons, replace(OURS, steps=4), 0, shares.append, NOTHING)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.mark.parametrize("recipe", [OURS, PLAIN], ids=["ours", "plain"])
def test_a_learner_that_is_stopped_goes_on_to_the_same_bits(exit_, lessons, tmp_path, recipe):
    recipe = replace(recipe, steps=12)
    whole = learn(exit_, lessons, recipe, 3, lambda share: None, NOTHING)
    done = []
    for stop_at in (1, 2, 7, 12):  # within an epoch, at its end, and after the last step
        checkpoint = Checkpoint(tmp_path / "checkpoint")

        def progress(share, stop_at=stop_at, checkpoint=checkpoint):
            done.append(round(share * recipe.steps))
            if done[-1] == stop_at:
                checkpoint.stop()

        with pytest.raises(SystemExit) as ended:
            learn(exit_, lessons, recipe, 3, progress, checkpoint)
        assert ended.value.code == STOPPED
    torch.manual_seed(77)  # of no consequence
    again = learn(exit_, lessons, recipe, 3, done.append, Checkpoint(tmp_path / "checkpoint"))
    assert done == list(range(1, 13))  # no step was taken twice
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_a_damaged_checkpoint_is_as_good_as_none(exit_, lessons, tmp_path):
    path = tmp_path / "checkpoint"
    path.write_bytes(bytes(100))
    shares = []
    learn(exit_, lessons, replace(OURS, steps=2), 0, shares.append, Checkpoint(path))
    assert shares == [0.5, 1.0]


def test_a_disk_without_room_for_a_checkpoint_does_not_end_the_learning(exit_, lessons, tmp_path, monkeypatch):
    monkeypatch.setattr("ecc_device.learning.checkpoint.EVERY_S", 0.0)
    shares = []
    learn(exit_, lessons, replace(OURS, steps=2), 0, shares.append, Checkpoint(tmp_path / "missing" / "checkpoint"))
    assert shares == [0.5, 1.0]


def test_a_stop_outside_of_the_steps_ends_at_once():
    with pytest.raises(SystemExit):
        Checkpoint(None).stop()


def _split():
    return (CONFIG.split_channels, *CONFIG.split_sides)
