"""Where a device counts, the ridge, and the statistics in its model file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ecc_device.engines import NumpyEngine
from ecc_device.engines.exits import Counter
from ecc_model.errors import CompileError
from ecc_model.layers import AveragePool, MaxPool, Tap
from ecc_model.nets.quantize import compile_network
from ecc_model.program import Program
from ecc_model.statistics import solve
from ecc_tools import statistics_fitting
from ecc_tools.augmentation import Augmentation
from ecc_tools.data.parts import Part
from ecc_tools.frame_by_frame import counting
from ecc_tools.statistics_fitting import RIDGES, VIEWS, choose, fit_statistics, tap_choices
from support.models import CONFIG, lively_network
from support.patterns import pattern_part
from support.programs import readout, small_program

LEARNING, VALIDATION = pattern_part(120, 0), pattern_part(60, 1)
PLAIN = Augmentation("none")


@pytest.fixture(scope="module")
def program() -> Program:
    """An untrained network of four classes: (2, 8, 4, 4) at the cut, (2, 15, 2, 2) behind the last pool."""
    program = compile_network(lively_network(CONFIG, 0))
    last = readout(np.random.default_rng(0), program.exit[-1].weight.shape[1], 4)
    return replace(program, exit=(*program.exit[:-1], last))


def counted(program: Program, taps: tuple[Tap, ...], part: Part) -> np.ndarray:
    """Counts (R, D) frame by frame, by the engine that a device has."""
    engine = NumpyEngine(program)
    counter = Counter(program.exit[: taps[-1].after], taps, program.split_shape, engine.segment)
    return np.stack([counter.counts(engine.head(frame)) for frame in part.frames])


def test_frames_are_counted_as_a_probe_counts_them(program: Program) -> None:
    taps = (Tap(0, 1), Tap(0, 4), Tap(4, 2), Tap(5))
    part = LEARNING.rows(np.arange(6))
    np.testing.assert_array_equal(counting(program, taps)(part.frames), counted(program, taps, part))


def test_statistics_are_those_of_all_views_of_the_training_frames(program: Program) -> None:
    told: list[float] = []
    found = fit_statistics(program, LEARNING, VALIDATION, PLAIN, told.append)
    assert (told[-1], told == sorted(told)) == (1.0, True)
    assert (found.base, found.rows.tolist()) == (4, [30 * VIEWS] * 4)
    assert found.taps in tap_choices(program)
    assert found.ridge in RIDGES
    counts = counted(program, found.taps, LEARNING)
    for label in range(4):
        np.testing.assert_array_equal(found.sums[label], VIEWS * counts[LEARNING.labels == label].sum(axis=0))
    np.testing.assert_array_equal(found.triangles[0], VIEWS * (counts.T @ counts)[np.triu_indices(found.features)])
    weight, bias = solve(found)
    answers = (counted(program, found.taps, VALIDATION) @ weight.T + bias).argmax(axis=1)
    assert (answers == VALIDATION.labels).mean() > 0.6  # by a network that was never trained


def test_augmented_views_join_and_the_same_frames_give_the_same_statistics(program: Program) -> None:
    plain, twice = (fit_statistics(program, LEARNING, VALIDATION, Augmentation("digits"), lambda _: None) for _ in "ab")
    np.testing.assert_array_equal(plain.triangles, twice.triangles)
    assert not np.array_equal(plain.sums[0] % VIEWS, np.zeros(plain.features))


def test_every_choice_counts_at_the_cut_and_fits_the_limit(program: Program) -> None:
    choices = tap_choices(program)
    assert (Tap(0, 1),) in choices
    assert (Tap(0, 2), Tap(4, 1)) in choices
    assert all(taps[0].after == 0 for taps in choices)
    small = small_program()
    averaged = (*small.exit[:1], MaxPool(2), AveragePool(2), readout(np.random.default_rng(0), 3, 3))
    choices = tap_choices(replace(small, exit=averaged))
    assert {tap.after for taps in choices for tap in taps} == {0, 2}  # spikes, not the sums behind them
    assert tap_choices(replace(small, exit=(readout(np.random.default_rng(0), 64, 3),))) == [
        (Tap(0, 1),),
        (Tap(0, 2),),
        (Tap(0, 4),),
    ]


def test_of_equally_good_choices_the_one_that_counts_most_at_the_cut_is_taken(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {(Tap(0, 1),): 0.5, (Tap(0, 2),): 0.79, (Tap(0, 4),): 0.6, (Tap(0, 2), Tap(4, 1)): 0.8}

    def score(blank: statistics_fitting.Statistics, *_: object) -> dict[float, float]:
        return {ridge: scores.get(blank.taps, 0.0) - 0.001 * (ridge != 3.0) for ridge in RIDGES}

    monkeypatch.setattr(statistics_fitting, "_scores", score)
    # two standard errors of 60 rows: 10 points
    assert choose(program, LEARNING, VALIDATION, PLAIN, lambda _: None) == ((Tap(0, 2), Tap(4, 1)), 3.0)
    scores[(Tap(0, 4),)] = 0.71
    assert choose(program, LEARNING, VALIDATION, PLAIN, lambda _: None) == ((Tap(0, 4),), 3.0)


def test_one_class_has_no_statistics() -> None:
    program = replace(small_program(), exit=(readout(np.random.default_rng(0), 64, 1),))
    with pytest.raises(CompileError, match=r"^no statistics: the network has one class, or no place in its exit"):
        fit_statistics(program, LEARNING.of([0]), VALIDATION.of([0]), PLAIN, lambda _: None)
