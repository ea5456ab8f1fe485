from dataclasses import replace

import numpy as np
import pytest

from ecc_device.learning.gate import Exam, decide

NAMES = ["cat", "dog"]


def exam(lost=0, won=0, rows=200, held_before=2, held_after=18, held=20, lost_class=0):
    """`lost` rows of one class right before and wrong after, `won` rows the other way, the rest right in both."""
    before, after = np.ones(rows, bool), np.ones(rows, bool)
    known_class = np.arange(rows) % 2
    of_class = np.flatnonzero(known_class == lost_class)
    after[of_class[:lost]] = False
    before[of_class[lost : lost + won]] = False
    return Exam(before, after, known_class, np.arange(held) < held_before, np.arange(held) < held_after, before)


def test_accepts_a_candidate_that_learns_and_keeps():
    accepted, reason, figures = decide(exam(lost=2, won=1), NAMES)
    assert accepted
    assert reason == "held-out rows 10% -> 90%, known classes lose 0.5 points (90 % sure: below 1.8)"
    assert figures["known_loss_points"] == 0.5
    assert figures["held_agreement_after"] == 0.9
    assert (figures["worst_class"], figures["worst_class_loss_points"]) == ("cat", 1.0)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"rows": 100}, "cannot tell: 100 judging rows (of 200) and 20 held-out rows (of 10)"),
        ({"held": 9}, "cannot tell: 200 judging rows (of 200) and 9 held-out rows (of 10)"),
        ({"rows": 100, "lost": 20}, "known classes lose 20.0 points on 100 rows, 3.0 are allowed"),  # few, and certain
        ({"rows": 100, "lost": 3}, "cannot tell: 100 judging rows (of 200) and 20 held-out rows (of 10)"),
        ({"lost": 8}, "known classes lose 4.0 points on 200 rows, 3.0 are allowed"),
        ({"lost": 6, "lost_class": 1}, "class 'dog' certainly loses: 6.0 points on 100 rows"),
        ({"held_before": 10, "held_after": 10}, "held-out rows do not improve: 50% before, 50% after"),
        ({"held_before": 2, "held_after": 6}, "held-out rows agree with the cloud in 30%, 33% are asked for"),
    ],
)
def test_turns_down(case, reason):
    accepted, why, _ = decide(exam(**case), NAMES)
    assert (accepted, why) == (False, reason)


def test_no_rows_at_all_cannot_tell():
    accepted, reason, _ = decide(exam(rows=0, held=0, held_before=0, held_after=0), NAMES)
    assert not accepted
    assert reason.startswith("cannot tell: 0 judging rows")


def test_thousands_of_changed_rows_are_judged_too():
    accepted, why, _ = decide(exam(rows=4000, lost=1200), NAMES)
    assert (accepted, why) == (False, "known classes lose 30.0 points on 4000 rows, 3.0 are allowed")
    mixed = exam(rows=4000, lost=1100, won=900)
    mixed.known_after[np.flatnonzero(mixed.known_class == 1)[:100]] = True
    mixed.known_before[np.flatnonzero(mixed.known_class == 1)[:100]] = False
    accepted, why, _ = decide(mixed, NAMES)
    assert (accepted, why) == (False, "class 'cat' certainly loses: 10.0 points on 2000 rows")


def test_with_many_classes_one_of_them_loses_something_by_chance():
    """Four of sixty rows are certain (p = 1/16) for one class, and no wonder for one of six."""
    names = [str(index) for index in range(6)]
    known_class = np.arange(360) % 6
    before, after = np.ones(360, bool), np.ones(360, bool)
    after[np.flatnonzero(known_class == 3)[:4]] = False
    held = np.zeros(20, bool), np.ones(20, bool), before
    assert decide(Exam(before, after, known_class, *held), names)[0]
    after[np.flatnonzero(known_class == 3)[:6]] = False
    accepted, reason, _ = decide(Exam(before, after, known_class, *held), names)
    assert (accepted, reason) == (False, "class '3' certainly loses: 10.0 points on 60 rows")


def test_small_losses_of_many_updates_do_not_add_up():
    """Each update alone may lose 2.5 points; the first is the last that may."""
    factory, right, decisions = np.ones(200, bool), np.ones(200, bool), []
    for update in range(3):
        after = right.copy()
        after[5 * update : 5 * update + 5] = False
        decisions.append(decide(replace(exam(), known_before=right, known_after=after, factory=factory), NAMES))
        right = after
    assert [accepted for accepted, _, _ in decisions] == [True, False, False]
    assert [found["known_loss_points"] for _, _, found in decisions] == [2.5, 2.5, 2.5]
    assert [found["factory_loss_points"] for _, _, found in decisions] == [2.5, 5.0, 7.5]
    assert decisions[1][1] == "known classes lose 5.0 points since the factory's model on 200 rows, 3.0 are allowed"


def test_what_was_won_may_be_lost_again():
    """A model that knows 5 points more than the factory's may not lose them at once, but bit by bit."""
    factory = np.arange(200) >= 10
    better, worse = np.ones(200, bool), np.arange(200) >= 5
    accepted, _, found = decide(replace(exam(), known_before=better, known_after=worse, factory=factory), NAMES)
    assert accepted
    assert (found["known_loss_points"], found["factory_loss_points"], found["factory_rows"]) == (2.5, -2.5, 200)


def test_a_class_is_compared_with_the_factorys_model_too():
    factory, right = np.ones(360, bool), np.ones(360, bool)
    found = exam(rows=360)
    found.known_class[:] = np.arange(360) % 6
    own = np.flatnonzero(found.known_class == 3)
    right[own[:4]] = False
    after = right.copy()
    after[own[4:6]] = False
    names = [str(index) for index in range(6)]
    accepted, reason, _ = decide(replace(found, known_before=right, known_after=after, factory=factory), names)
    assert (accepted, reason) == (
        False,
        "class '3' certainly loses: 10.0 points since the factory's model on 60 rows",
    )


def test_rows_that_joined_later_are_none_of_the_factorys():
    """200 rows of its own; of 40 others, learnt since, ten are right now that were wrong."""
    before, after = np.ones(240, bool), np.ones(240, bool)
    before[:4] = before[200:210] = False
    after[:8] = False
    found = replace(exam(rows=240), known_before=before, known_after=after, factory=np.ones(200, bool))
    accepted, reason, _ = decide(found, NAMES)
    assert (accepted, reason) == (
        False,
        "known classes lose 4.0 points since the factory's model on 200 rows, 3.0 are allowed",
    )
