"""Filters: scores in range, in the right order, the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecc_device.evidence import Evidence
from ecc_device.filters import FILTERS, free_energy, make_filter
from ecc_model.errors import DeviceError
from ecc_model.numerics import softmax
from support.guards import PROGRAM, guarded, row

MEASURES = ["entropy", "energy", "margin", "max-prob"]
SURENESS = ["entropy", "margin", "max-prob"]

KNOWN = guarded([(0, row(0, 1)), (0, row(0, 2))], [(0, row(0, 3))])
NO_SPIKES = np.zeros(PROGRAM.split_shape, np.bool_)

logit_lists = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)
temperatures = st.floats(0.01, 1e3)


def score(name: str, logits: Sequence[float], temperature: float = 1.0, *, frame: int = 0, seed: int = 0) -> float:
    evidence = Evidence(frame, logits, temperature, softmax(logits, temperature), NO_SPIKES)
    return make_filter(name, KNOWN, seed).score(evidence)


def test_the_filters_and_their_names() -> None:
    assert list(FILTERS) == [
        *("entropy", "energy", "margin", "max-prob", "novelty", "entropy+novelty", "random", "cloud-only", "edge-only"),
    ]
    assert [make_filter(name, KNOWN).name for name in FILTERS] == list(FILTERS)


@pytest.mark.parametrize("name", ["", "Entropy", "novelty "])
def test_an_unknown_filter_lists_those_that_exist(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        make_filter(name, KNOWN)
    assert str(caught.value) == (
        f"'{name}' is not a filter; choose one of: entropy, energy, margin, max-prob, novelty, entropy+novelty, "
        "random, cloud-only, edge-only"
    )


@given(logit_lists, temperatures, st.integers(0, 2**63), st.integers(0, 2**32))
def test_every_score_is_in_range(logits: list[float], temperature: float, frame: int, seed: int) -> None:
    for name in [*MEASURES, "random"]:
        assert 0.0 <= score(name, logits, temperature, frame=frame, seed=seed) <= 1.0


@given(st.data(), logit_lists, temperatures)
def test_the_order_of_the_classes_changes_no_bit(data: st.DataObject, logits: list[float], temperature: float) -> None:
    shuffled = data.draw(st.permutations(logits))
    for name in MEASURES:
        assert score(name, shuffled, temperature) == score(name, logits, temperature)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("entropy", 0.8112781244591328), ("energy", 0.2095299), ("margin", 0.5), ("max-prob", 0.5)],
)
def test_values_by_hand(name: str, expected: float) -> None:
    """p = (3/4, 1/4): logits ln 3 and 0, free energy -ln 4."""
    assert score(name, [math.log(3.0), 0.0]) == pytest.approx(expected, abs=1e-7)


def test_margin_and_max_prob_of_three_classes() -> None:
    logits = [math.log(p) for p in (0.5, 0.3, 0.2)]
    assert score("margin", logits) == pytest.approx(0.8)
    assert score("max-prob", logits) == pytest.approx(0.75)
    assert score("energy", logits) == pytest.approx(0.5)  # -ln 1


@pytest.mark.parametrize("name", SURENESS)
def test_uniform_is_one_and_certain_is_zero(name: str) -> None:
    assert score(name, [3.0] * 7) == pytest.approx(1.0, abs=1e-15)
    assert score(name, [1000.0, 0.0, 0.0]) == 0.0
    assert score(name, [5.0]) == 0.0


@given(st.integers(2, 20), st.floats(0.0, 50.0), st.floats(0.0, 50.0))
def test_a_class_that_stands_out_more_is_never_more_ambiguous(classes: int, one: float, other: float) -> None:
    low, high = sorted((one, other))
    for name in MEASURES:
        assert score(name, [high] + [0.0] * (classes - 1)) <= score(name, [low] + [0.0] * (classes - 1)) + 1e-15


@given(st.lists(st.floats(-50.0, 50.0), min_size=2, max_size=10), st.floats(0.01, 50.0))
def test_energy_falls_when_all_logits_rise(logits: list[float], rise: float) -> None:
    assert score("energy", [z + rise for z in logits]) < score("energy", logits)


@pytest.mark.parametrize("size", [0.0, 10.0, 100.0, 1000.0, 10000.0])
def test_energy_tells_large_logits_apart(size: float) -> None:
    assert score("energy", [size + 1.0, 0.0]) < score("energy", [size, 0.0])
    assert score("energy", [-size - 1.0, -1e5]) > score("energy", [-size, -1e5])


@given(st.lists(st.floats(-30.0, 30.0), min_size=1, max_size=10), st.floats(0.1, 10.0))
def test_free_energy_is_its_formula(logits: list[float], temperature: float) -> None:
    expected = -temperature * math.log(math.fsum(math.exp(z / temperature) for z in logits))
    assert free_energy(logits, temperature) == pytest.approx(expected, rel=1e-12, abs=1e-10)


def test_temperature_counts() -> None:
    assert score("entropy", [2.0, 0.0], 2.0) == score("entropy", [1.0, 0.0], 1.0)
    assert free_energy([2.0, 0.0], 2.0) == 2.0 * free_energy([1.0, 0.0], 1.0)


def test_random_repeats_by_seed_and_frame() -> None:
    draws = [score("random", [1.0, 0.0], frame=frame, seed=7) for frame in range(1000)]
    again = [score("random", [9.0, 9.0], frame=frame, seed=7) for frame in range(1000)]
    other = [score("random", [1.0, 0.0], frame=frame, seed=8) for frame in range(1000)]
    assert draws == again
    assert len({*draws, *other}) == 2000
    assert 400 < sum(draw > 0.5 for draw in draws) < 600


def test_random_draws_are_pinned() -> None:
    """First 53 bits of sha256("0:0") and sha256("1:23")."""
    assert score("random", [0.0]) == 0.6736177528149841
    assert score("random", [0.0], frame=23, seed=1) == 0.5530354209385733


@given(logit_lists, st.floats(0.0, 1.0))
def test_the_baselines_ignore_every_threshold(logits: list[float], threshold: float) -> None:
    assert score("cloud-only", logits) > max(threshold, 1.0)
    assert score("edge-only", logits) < min(threshold, 0.0)
