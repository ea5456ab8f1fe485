"""Candidates of each learner: what they learn from, what they carry, which one is preferred."""

import re
import zipfile
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from ecc_device.early import fit_early, step_logits
from ecc_device.engines import NumpyEngine, ReferenceEngine
from ecc_device.learning import lwf
from ecc_device.learning.candidate import Course, Judgement, judge, make_candidate, possible, write_taught
from ecc_device.learning.job import Job, held_out
from ecc_device.learning.joining import TAKEN_FOR_NEW
from ecc_device.learning.lesson import count_rows, exit_logits, unpack_rows
from ecc_device.learning.recipes import JOINED, LEARNERS, LWF, OURS
from ecc_model import bits
from ecc_model.errors import UpdateError
from ecc_model.modelfile import read_edge, write_learnt
from ecc_model.nets.checkpoint import load_edge
from ecc_model.nets.neuron import Lif
from ecc_model.program import Conv, MaxPool, Probe, Readout
from support.models import DIGITS, TAPS, class_rows, write_tiny_models

LABELS = [6, 7, 8, 9] * 20 + [0, 1, 2, 3, 4, 5] * 4


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_tiny_models(tmp_path_factory.mktemp("models"), learnable=True, rates="channel+step")


def update(models, learner, labels=LABELS):
    """A job and its rows, all answered rightly."""
    rows = np.stack([np.frombuffer(row, np.uint8) for row in class_rows(models.program, labels, seed=3)])
    logits = 6.0 * np.eye(10, dtype=np.float32)[labels]
    job = Job(model=str(models.edge), labels=list(DIGITS), row_ids=list(range(len(rows))), learner=learner, seed=0)
    return job, {"bits": rows, "logits": logits, "held": held_out(np.array(labels))}


@pytest.fixture(scope="module")
def course(models):
    return Course(*update(models, "auto"), lambda share: None)


def test_what_each_choice_makes(models, monkeypatch):
    model = read_edge(models.edge)
    assert {name: possible(name, model) for name in LEARNERS} == {
        "auto": ("analytic", "lwf", "both"),
        "analytic": ("analytic",),
        "lwf": ("lwf",),
        "both": ("both",),
        "lwf-plain": ("lwf-plain",),
    }
    assert possible("auto", replace(model, statistics=None)) == ("lwf",)


def test_only_rows_that_are_not_held_out_reach_the_statistics(models, course):
    _, arrays = update(models, "analytic")
    before, after = read_edge(models.edge).statistics, course.taught("analytic").statistics
    learnt = ~arrays["held"].astype(bool)
    assert learnt.sum() == 88
    assert before.rows.tolist() == [40] * 6
    assert after.rows.tolist() == [44] * 6 + [16] * 4
    counts = count_rows(models.program, before, arrays["bits"][learnt])
    labels = np.array(LABELS)[learnt]
    np.testing.assert_array_equal(after.sums[7], counts[labels == 7].sum(axis=0))
    np.testing.assert_array_equal(after.sums[:6].sum(axis=0) - before.sums.sum(axis=0), counts[labels < 6].sum(axis=0))


@pytest.mark.parametrize("learner", ["analytic", "lwf", "both"])
def test_every_candidate_learns_new_classes_and_carries_the_same_statistics(models, course, tmp_path, learner):
    taught = course.taught(learner)
    job, _ = update(models, learner)
    fresh = [k % 10 for k in range(100)]
    rows = np.stack([np.frombuffer(row, np.uint8) for row in class_rows(models.program, fresh, seed=8)])
    assert (exit_logits(taught.program, rows).argmax(axis=1) == fresh).mean() >= 0.95
    accepted, reason = judge(course, taught).accepted, judge(course, taught).reason
    assert accepted, reason
    write_taught(tmp_path / "candidate.pt", job, taught)
    written = read_edge(tmp_path / "candidate.pt")
    assert written.statistics.rows.tolist() == [44] * 6 + [16] * 4
    assert (written.labels, written.temperature, written.threshold) == (DIGITS, taught.temperature, taught.threshold)
    assert written.accepted == read_edge(models.edge).accepted == 0.8
    assert written.manifest.provenance["learner"] == learner
    assert written.rates.kind == "channel+step"
    assert written.program.features_id == models.program.features_id
    assert exit_logits(written.program, rows).tobytes() == exit_logits(taught.program, rows).tobytes()
    again = read_edge(models.edge).manifest.statistics
    assert written.manifest.statistics.stats_id == again.stats_id
    load_edge(tmp_path / "candidate.pt", Lif)


def test_without_gradients_torchs_part_is_copied_byte_for_byte(models, course, tmp_path):
    job, _ = update(models, "analytic")
    path = tmp_path / "candidate.pt"
    write_taught(path, job, course.taught("analytic"))
    with zipfile.ZipFile(models.edge) as archive:
        first = min(info.header_offset for info in archive.infolist() if "/extra/" in info.filename)
        names = [name for name in archive.namelist() if "/extra/" not in name]
    assert path.read_bytes()[:first] == models.edge.read_bytes()[:first]
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[: len(names)] == names
        assert len(archive.namelist()) == len(names) + 5
    before, after = load_edge(models.edge, Lif).state_dict(), load_edge(path, Lif).state_dict()
    assert all((before[name] == after[name]).all() for name in before)
    # and once more, from what was written so
    second = Course(*update(replace(models, edge=path), "analytic"), lambda share: None)
    write_taught(tmp_path / "next.pt", job, second.taught("analytic"))
    assert read_edge(tmp_path / "next.pt").statistics.rows.tolist() == [48] * 6 + [32] * 4


def test_the_exits_are_what_their_learners_say(models, course):
    closed, trained, both = (course.taught(name).program for name in ("analytic", "lwf", "both"))
    assert closed.exit is course.model.program.exit
    assert isinstance(closed.second[-1], Probe)
    assert [type(layer) for layer in closed.second[:-1]] == [Conv, Conv, Conv, MaxPool]
    assert closed.second[-1].taps == TAPS
    assert trained.exit is closed.exit
    assert isinstance(trained.second[-1], Readout)
    assert (len(both.exit), len(both.second)) == (len(trained.second), len(closed.second))
    assert (closed.known, trained.known, both.known) == (6, 6, 0)
    assert (closed.format, trained.format, both.format) == (4, 4, 3)


@pytest.mark.parametrize("learner", JOINED)
def test_the_models_own_exit_goes_on_deciding_among_its_classes(course, learner):
    before, after = course.model.program, course.taught(learner).program
    rows = course.unlearnt.rows
    old, new = exit_logits(before, rows), exit_logits(after, rows)
    np.testing.assert_array_equal(new[:, :6], old)
    assert (new.argmax(axis=1) == course.unlearnt.labels).mean() > 0.9
    assert (new[: course.unlearnt.judging].argmax(axis=1) >= 6).mean() <= TAKEN_FOR_NEW


def test_every_model_that_is_learnt_knows_what_the_factorys_answered_rightly(models, course, tmp_path):
    base = read_edge(models.edge)
    judging = base.guard.judge.astype(bool)
    right = exit_logits(base.program, base.guard.bits[judging]).argmax(axis=1) == base.guard.labels[judging]
    assert base.guard.factory is None
    job, _ = update(models, "analytic")
    for learner, name in (("analytic", "first.pt"), ("lwf", "other.pt")):
        write_taught(tmp_path / name, job, course.taught(learner))
        np.testing.assert_array_equal(read_edge(tmp_path / name).guard.factory, right)
    later = Course(*update(replace(models, edge=tmp_path / "first.pt"), "analytic"), lambda share: None)
    assert later.unlearnt.judging > len(right)
    write_taught(tmp_path / "second.pt", later.job, later.taught("analytic"))
    np.testing.assert_array_equal(read_edge(tmp_path / "second.pt").guard.factory, right)


def test_a_candidate_is_turned_down_for_what_was_lost_before_it(models, tmp_path):
    """The active model errs in ten judging rows, 4.6 points, in which the factory's did not."""
    base = read_edge(models.edge)
    judging = np.flatnonzero(base.guard.judge)
    labels = base.guard.labels.copy()
    labels[judging[:10]] = (labels[judging[:10]] + 1) % 6
    guard = replace(base.guard, labels=labels, factory=np.ones(len(judging), np.uint8))
    told = {name: getattr(base, name) for name in ("labels", "temperature", "threshold", "statistics")}
    edge = tmp_path / "active.pt"
    write_learnt(edge, base, base.program, guard, early=None, provenance={}, **told)
    outcome = make_candidate(tmp_path, *update(replace(models, edge=edge), "analytic"), lambda share: None)
    assert not outcome.accepted
    assert re.match(r"known classes lose \d\.\d points since the factory's model on 216 rows, 3.0 are", outcome.reason)
    assert outcome.figures["known_loss_points"] <= 2.5


def test_classes_that_overlap_are_told_apart_in_favour_of_the_known_one(models):
    job, arrays = update(models, "analytic", [6] * 40 + [0, 1, 2, 3, 4, 5] * 4)
    job, arrays["logits"] = msgspec.structs.replace(job, labels=list(DIGITS[:7])), arrays["logits"][:, :7]
    lookalikes = class_rows(models.program, [0] * 40, seed=7)  # all called "6", and nothing else than a "0"
    arrays["bits"][:40] = np.stack([np.frombuffer(row, np.uint8) for row in lookalikes])
    course = Course(job, arrays, lambda share: None)
    judging = course.unlearnt.rows[: course.unlearnt.judging]
    taken = (exit_logits(course.taught("analytic").program, judging).argmax(axis=1) >= 6).mean()
    assert taken <= TAKEN_FOR_NEW
    alone = (exit_logits(course._learnt["analytic"].program, judging).argmax(axis=1) >= 6).mean()
    assert alone > 0.05


def test_a_candidate_says_anew_which_frames_may_end_early(models, course, tmp_path):
    taught = course.taught("lwf")
    rows, labels = course.unlearnt.rows, course.unlearnt.labels
    steps = step_logits(taught.program, unpack_rows(rows, taught.program))
    np.testing.assert_array_equal(steps[:, -1], exit_logits(taught.program, rows))
    assert taught.early == fit_early(steps, labels)
    write_taught(tmp_path / "learnt.pt", course.job, taught)
    assert read_edge(tmp_path / "learnt.pt").manifest.early == taught.early


def test_both_is_the_mean_of_both_each_over_its_temperature(models, course):
    both = course.taught("both")
    rows = course.unlearnt.rows[:20]
    parts = []
    for name in ("analytic", "lwf"):
        alone = course._learnt[name].program
        temperature, _ = course.unlearnt.calibrate(exit_logits(alone, course.unlearnt.rows))
        parts.append(exit_logits(alone, rows) / temperature)
    mean = (parts[0] + parts[1]) / 2
    np.testing.assert_allclose(exit_logits(both.program, rows), mean, rtol=1e-4, atol=1e-4)
    for split in unpack_rows(rows[:3], both.program):
        assert NumpyEngine(both.program).exit(split).tobytes() == ReferenceEngine(both.program).exit(split).tobytes()


def test_a_later_update_learns_on_from_each_kind_of_model(models, course, tmp_path):
    for learner, known in (("analytic", 6), ("lwf", 6), ("both", 0)):
        path = tmp_path / f"{learner}.pt"
        write_taught(path, update(models, learner)[0], course.taught(learner))
        later = Course(*update(replace(models, edge=path), "auto"), lambda share: None)
        assert [later.taught(name).program.known for name in ("analytic", "lwf")] == [known, known]
        assert later.taught("analytic").statistics.rows.tolist() == [48] * 6 + [32] * 4


def test_classes_that_are_learnt_one_after_the_other_keep_their_slots(models, tmp_path):
    edge = models.edge
    for index, new in enumerate([(8, 9), (6, 7)]):
        labels = [*new] * 30 + [0, 1, 2, 3, 4, 5] * 4 + [8, 9] * 5
        known = read_edge(edge).labels
        rows = np.stack([np.frombuffer(row, np.uint8) for row in class_rows(models.program, labels, seed=20 + index)])
        grown = [*known, *(DIGITS[label] for label in new)]
        logits = 6.0 * np.eye(len(grown), dtype=np.float32)[[grown.index(DIGITS[label]) for label in labels]]
        job = Job(model=str(edge), labels=grown, row_ids=list(range(len(labels))), learner="analytic", seed=0)
        course = Course(
            job, {"bits": rows, "logits": logits, "held": held_out(logits.argmax(axis=1))}, lambda share: None
        )
        verdict = judge(course, course.taught("analytic"))
        assert verdict.accepted, verdict.reason
        edge = tmp_path / f"{index}.pt"
        write_taught(edge, job, course.taught("analytic"))
    learnt = read_edge(edge)
    assert learnt.labels == (*DIGITS[:6], "8", "9", "6", "7")
    judging = learnt.guard.judge.astype(bool)
    assert {learnt.labels[label] for label in learnt.guard.labels[judging]} == set(DIGITS)
    fresh = [k % 10 for k in range(100)]
    rows = np.stack([np.frombuffer(row, np.uint8) for row in class_rows(models.program, fresh, seed=8)])
    named = [learnt.labels[index] for index in exit_logits(learnt.program, rows).argmax(axis=1)]
    assert np.mean([name == DIGITS[label] for name, label in zip(named, fresh, strict=True)]) >= 0.95


def test_the_gate_prefers_accepted_ones_then_agreement_then_a_smaller_loss():
    def judged(accepted, agreement, loss):
        return Judgement(accepted, "", {"held_agreement_after": agreement, "known_loss_points": loss})

    order = [judged(True, 0.9, 0.5), judged(True, 0.9, 1.0), judged(True, 0.8, -1.0), judged(False, 1.0, 0.0)]
    assert sorted(order, key=lambda one: one.rank, reverse=True) == order


def test_packed_rows_are_counted_like_frames(models):
    _, arrays = update(models, "analytic")
    found = read_edge(models.edge).statistics
    counts = count_rows(models.program, found, arrays["bits"][:3])
    for row, own in zip(arrays["bits"], counts, strict=False):
        split = bits.unpack(row.tobytes(), models.program.split_shape)
        assert own[: models.program.split_shape[1] * 4].sum() == split.sum()


def broken(error):
    def learn_lesson(lesson, recipe):
        raise error

    return learn_lesson


NO_MEMORY = "the update needs more than 2048 MiB; learn from fewer rows"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UpdateError("torch is tired; let it rest"), "torch is tired; let it rest"),
        (MemoryError(), NO_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 78643200 bytes"), NO_MEMORY),
    ],
)
def test_a_learner_that_fails_is_left_out_with_its_reason(models, monkeypatch, tmp_path, error, reason):
    monkeypatch.setattr(lwf, "learn_lesson", broken(error))
    outcome = make_candidate(tmp_path, *update(models, "auto"), lambda share: None)
    assert outcome.accepted, outcome.reason
    assert [one["learner"] for one in outcome.figures["candidates"]] == ["analytic"]
    assert outcome.figures["skipped"] == {"lwf": reason, "both": reason}
    with pytest.raises(UpdateError, match=f"^{reason}$"):
        make_candidate(tmp_path, *update(models, "lwf"), lambda share: None)


def test_a_learner_that_runs_off_to_infinity_is_left_out(models, monkeypatch, tmp_path):
    monkeypatch.setitem(LWF, "lwf", replace(OURS, steps=2, learning_rate=float("inf")))
    outcome = make_candidate(tmp_path, *update(models, "auto"), lambda share: None)
    assert outcome.accepted, outcome.reason
    assert (
        list(outcome.figures["skipped"].values())
        == ["weights are not finite; train again with a smaller learning rate"] * 2
    )


def test_when_every_learner_fails_each_says_why(models, monkeypatch, tmp_path):
    monkeypatch.setattr(lwf, "learn_lesson", broken(UpdateError("no")))
    monkeypatch.setattr("ecc_device.learning.analytic.learn", broken_lesson)
    with pytest.raises(UpdateError, match=r"^analytic: singular; lwf: no; both: no$"):
        make_candidate(tmp_path, *update(models, "auto"), lambda share: None)


def broken_lesson(lesson):
    raise UpdateError("singular")


def test_another_error_is_nobodys_to_hide(models, monkeypatch, tmp_path):
    monkeypatch.setattr(lwf, "learn_lesson", broken(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match=r"^a bug$"):
        make_candidate(tmp_path, *update(models, "auto"), lambda share: None)
