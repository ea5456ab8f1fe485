"""Class statistics: the integers that they are, the classifier that follows, and how it becomes a part of a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecc_device.engines import NumpyEngine
from ecc_device.engines.exits import Counter
from ecc_model import reference, statistics
from ecc_model.errors import CompileError, ModelError
from ecc_model.layers import Tap
from ecc_model.program import Probe, Program
from ecc_model.statistics import Statistics, add, begin, build, describe, make_exit, scaled, solve, stats_id
from support.programs import PIXEL_THETA, conv, readout, small_program

PROGRAM = small_program()  # split point (2, 4, 4, 4), three classes
TAPS = (Tap(0, 2), Tap(3))  # 16 cells at the cut, 5 neurons
FEATURES = 21
Counts = NDArray[np.int64]


def drawn(rows: int, classes: int, seed: int = 0) -> tuple[Counts, Counts]:
    """Rows whose counts depend on their class, and the classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    centres = np.random.default_rng(99).integers(1, 12, (classes, FEATURES))
    return rng.poisson(centres[labels]).astype(np.int64), labels


def cut_of(channels: int) -> Program:
    """Three classes, and so many channels at the cut."""
    rng = np.random.default_rng(0)
    head, encoder = conv(rng, 1, channels, theta=PIXEL_THETA), conv(rng, channels, 2)
    exit_ = (conv(rng, channels, 3), *PROGRAM.exit[1:])
    return replace(PROGRAM, head=(head, *PROGRAM.head[1:]), encoder=(encoder,), exit=exit_)


def learnt(rows: int = 200, classes: int = 5) -> Statistics:
    """Three base classes, and two learnt ones."""
    counts, labels = drawn(rows, classes)
    base = labels < 3
    grown = add(begin(PROGRAM, TAPS, 1.0, 3), counts[base], labels[base])
    return add(grown, counts[~base], labels[~base], classes)


# ---- sums ----


def test_statistics_are_numbers_sums_and_sums_of_products() -> None:
    counts, labels = drawn(200, 5)
    found = learnt()
    upper = np.triu_indices(FEATURES)
    assert (found.features, found.base) == (FEATURES, 3)
    for label in range(5):
        own = counts[labels == label]
        assert found.rows[label] == len(own)
        np.testing.assert_array_equal(found.sums[label], own.sum(axis=0))
    base = counts[labels < 3]
    np.testing.assert_array_equal(found.triangles[0], (base.T @ base)[upper])
    np.testing.assert_array_equal(found.triangles[2], (counts[labels == 4].T @ counts[labels == 4])[upper])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.lists(st.integers(0, 40), max_size=4))
def test_rows_one_by_one_and_in_any_order_give_the_same_bits(seed: int, cuts: list[int]) -> None:
    counts, labels = drawn(40, 5, seed)
    whole = add(begin(PROGRAM, TAPS, 1.0, 3), counts, labels, 5)
    order = np.random.default_rng(seed).permutation(40)
    pieces = begin(PROGRAM, TAPS, 1.0, 3)
    for part in np.split(order, sorted(cuts)):
        pieces = add(pieces, counts[part], labels[part], 5)
    for name in ("rows", "sums", "triangles"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))


def test_rows_that_do_not_fit_are_refused() -> None:
    begun = begin(PROGRAM, TAPS, 1.0, 3)
    for counts, labels, classes, text in [
        (np.zeros((2, 20), np.int64), [0, 1], None, r"^\(2, 20\) counts and 2 labels for statistics of 21$"),
        (np.zeros((2, 21), np.int64), [0], None, r"^\(2, 21\) counts and 1 labels for statistics of 21$"),
        (np.zeros((1, 21), np.int64), [3], None, r"^labels 3 to 3 for 3 classes$"),
        (np.zeros((1, 21), np.int64), [-1], None, r"^labels -1 to -1 for 3 classes$"),
        (np.zeros((1, 21), np.int64), [0], 2, r"^\(1, 21\) counts and 1 labels for statistics of 21$"),
    ]:
        with pytest.raises(ModelError, match=text):
            add(begun, counts, np.array(labels), classes)


def test_more_features_than_a_model_file_carries_are_refused() -> None:
    wide = cut_of(33)
    with pytest.raises(ModelError, match=r"^statistics of 528 features; 1 to 512 are possible, choose other taps$"):
        begin(wide, (Tap(0, 4),), 1.0, 3)
    with pytest.raises(ModelError, match=r"^taps \[\[0, 3\]\] do not fit the layers that they count behind$"):
        begin(PROGRAM, (Tap(0, 3),), 1.0, 3)


# ---- the classifier ----


def by_the_book(counts: Counts, labels: Counts, ridge: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The docstring's formula from the rows themselves, each class with the same weight: base classes of equal size."""
    means = np.stack([counts[labels == label].mean(axis=0) for label in range(labels.max() + 1)])
    within = np.mean([np.cov(counts[labels == label].T, bias=True) for label in range(len(means))], axis=0)
    inverse = np.linalg.inv(within + ridge * np.trace(within) / FEATURES * np.eye(FEATURES))
    return means @ inverse, -0.5 * np.einsum("nd,de,ne->n", means, inverse, means)


def test_the_classifier_is_a_linear_discriminant_with_equal_weight_for_each_class() -> None:
    counts, labels = drawn(3000, 5)
    keep = np.concatenate([np.flatnonzero(labels == label)[: 8 if label > 2 else 300] for label in range(5)])
    counts, labels = counts[keep], labels[keep]
    found = solve(add(begin(PROGRAM, TAPS, 0.5, 3), counts, labels, 5))
    for ours, book in zip(found, by_the_book(counts, labels, 0.5), strict=True):
        np.testing.assert_allclose(ours, book, rtol=1e-8)
    fresh, truth = drawn(2000, 5, seed=1)
    assert ((fresh @ found[0].T + found[1]).argmax(axis=1) == truth).mean() > 0.95


def test_what_cannot_be_solved_says_why() -> None:
    with pytest.raises(ModelError, match=r"^class 3 has no rows to learn from$"):
        solve(add(begin(PROGRAM, TAPS, 1.0, 3), *drawn(60, 3), classes=5))
    same = np.ones((6, FEATURES), np.int64)
    with pytest.raises(ModelError, match=r"^the statistics' rows do not differ within classes; count at other taps$"):
        solve(add(begin(PROGRAM, TAPS, 1.0, 3), same, np.arange(6) % 3))


def test_integers_agree_with_floats_in_more_than_995_of_1000_rows() -> None:
    found = learnt()
    weight, bias = solve(found)
    *_, probe = make_exit(PROGRAM, found, weight, bias)
    assert isinstance(probe, Probe)
    assert (probe.taps, probe.weight.dtype, np.abs(probe.weight).max()) == (TAPS, np.int16, 2**15 - 1)
    fresh, _ = drawn(20_000, 5, seed=2)
    floats = fresh @ weight.T + bias
    integers = (fresh @ probe.weight.T.astype(np.int64) + probe.bias) * probe.scale
    assert (floats.argmax(axis=1) == integers.argmax(axis=1)).mean() >= 0.995
    np.testing.assert_allclose(integers, floats, atol=2e-3 * np.abs(floats).max())


def test_an_exit_of_the_statistics_counts_what_they_counted() -> None:
    found = learnt()
    program = replace(PROGRAM, exit=make_exit(PROGRAM, found, *solve(found)))
    assert program.exit[:3] == PROGRAM.exit[:3]
    split = np.random.default_rng(0).random(PROGRAM.split_shape) < 0.4
    counts = Counter(found.layers, found.taps, PROGRAM.split_shape, NumpyEngine(PROGRAM).segment).counts(split)
    seen = reference.run(PROGRAM.exit[:3], split)[0]
    np.testing.assert_array_equal(counts, [*reference.count(split, 2), *reference.count(seen, 1)])
    probe = program.exit[-1]
    assert isinstance(probe, Probe)
    sums = probe.weight.astype(np.int64) @ counts + probe.bias
    assert NumpyEngine(program).exit(split).tolist() == (sums.astype(np.float32) * probe.scale).tolist()
    halved = replace(program, exit=scaled(program.exit, 0.5))
    assert (NumpyEngine(halved).exit(split) * 2).tolist() == NumpyEngine(program).exit(split).tolist()


def test_weights_that_could_leave_32_bits_are_scaled_down() -> None:
    found, huge = learnt(), 2.0**20
    weight = np.full((5, FEATURES), huge)
    *_, probe = make_exit(PROGRAM, found, weight, np.full(5, -1e12))
    assert isinstance(probe, Probe)
    assert abs(probe.bias).max() + 8 * abs(probe.weight.astype(np.int64)).sum(axis=1).max() < 2**31
    replace(grown(), exit=(*PROGRAM.exit[:3], probe))


# ---- records ----


def test_records_make_the_same_statistics_again() -> None:
    found, program = learnt(), grown()
    info, tensors = describe(program, found)
    again = build(msgspec.json.decode(msgspec.json.encode(info), type=type(info)), dict(tensors), program)
    assert (again.taps, again.ridge, again.base) == (found.taps, found.ridge, 3)
    for name in ("rows", "sums", "triangles"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
        assert tensors[name].dtype == np.int32
    assert info.stats_id == stats_id(program, again)
    large = replace(found, triangles=found.triangles + 2**31)
    _, tensors = describe(program, large)
    assert (tensors["triangles"].dtype, tensors["sums"].dtype) == (np.int64, np.int32)


def grown() -> Program:
    """`PROGRAM` with five classes."""
    return replace(PROGRAM, exit=(*PROGRAM.exit[:3], readout(np.random.default_rng(0), 5, 5)))


def test_head_layers_and_taps_change_the_id_and_learning_does_not() -> None:
    found = learnt()
    head = replace(PROGRAM, head=(replace(PROGRAM.head[0], bias=PROGRAM.head[0].bias + np.int32(1)), *PROGRAM.head[1:]))
    layer = replace(found.layers[0], bias=found.layers[0].bias + np.int32(1))
    ids = {
        stats_id(PROGRAM, found),
        stats_id(head, found),
        stats_id(PROGRAM, replace(found, taps=(Tap(0, 4), Tap(3)))),
        stats_id(PROGRAM, replace(found, layers=(layer, *found.layers[1:]))),
    }
    assert len(ids) == 4
    more = add(found, *drawn(10, 5))
    assert stats_id(grown(), more) == stats_id(PROGRAM, found)
    encoder = (replace(PROGRAM.encoder[0], bias=PROGRAM.encoder[0].bias + np.int32(1)),)
    assert stats_id(replace(PROGRAM, encoder=encoder), found) == stats_id(PROGRAM, found)


Change = Callable[[dict[str, Any], dict[str, Any]], object]


def tensor(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda _, tensors: tensors.update({name: change(tensors[name])})


def readout_between(info: dict[str, Any], tensors: dict[str, Any]) -> None:
    """The neurons are a readout."""
    info["layers"][2] = {"op": "readout"}
    tensors["statistics.2.scale"] = np.ones(len(tensors["statistics.2.bias"]), np.float32)
    tensors.pop("statistics.2.theta")


LIES: dict[str, tuple[Change, str]] = {
    "no rows": (lambda _, t: t.pop("rows"), "the statistics have no integers 'rows'"),
    "sums of floats": (tensor("sums", lambda s: s.astype(np.float32)), "the statistics have no integers 'sums'"),
    "left over": (lambda _, t: t.update(more=t["rows"]), "tensors that no statistics use: 'more'"),
    "other classes": (tensor("rows", lambda r: r[1:]), "statistics of (4,) rows and (5, 21) sums do not fit"),
    "other features": (tensor("sums", lambda s: s[:, 1:]), "statistics of (5,) rows and (5, 20) sums do not fit"),
    "short triangles": (tensor("triangles", lambda t: t[:, 1:]), "do not fit the program and the taps"),
    "flat triangles": (tensor("triangles", lambda t: t[0]), "do not fit the program and the taps"),
    "too many triangles": (
        tensor("triangles", lambda t: np.repeat(t, 2, 0)),
        "statistics with 6 triangles for 5 ",
    ),
    "numbers below zero": (tensor("sums", lambda s: s - 10_000), "or numbers below zero"),
    "no ridge": (lambda i, _: i.update(ridge=0.0), "the statistics' ridge is 0.0"),
    "endless ridge": (lambda i, _: i.update(ridge=float("inf")), "the statistics' ridge is inf"),
    "other taps": (lambda i, _: i.update(taps=[[0, 4], [3, 1]]), "do not fit the program and the taps"),
    "no taps": (lambda i, _: i.update(taps=[]), "the statistics' layers do not end at their last tap"),
    "tap beyond": (lambda i, _: i.update(taps=[[0, 2], [4, 1]]), "the statistics' layers do not end at their last tap"),
    "taps out of order": (lambda i, _: i.update(taps=[[3, 1], [0, 2]]), "its taps are not in order"),
    "readout among the layers": (lambda i, t: readout_between(i, t), "do not fit the layers that they count"),
    "tap that does not fit": (
        lambda i, _: i.update(taps=[[0, 3], [3, 1]]),
        "taps [[0, 3], [3, 1]] do not fit",
    ),
    "unknown layer": (lambda i, _: i["layers"].append({"op": "x"}), "statistics.3: unknown layer"),
    "layer missing": (lambda i, _: i["layers"].pop(), "tensors that no statistics use: 'statistics.2."),
    "other layer": (
        tensor("statistics.2.bias", lambda b: b + np.int32(1)),
        "its stats_id is not that of",
    ),
    "threshold of zero": (
        tensor("statistics.2.theta", lambda t: t * 0),
        "statistics.2: a firing threshold below 1",
    ),
    "other id": (
        lambda i, _: i.update(stats_id="00"),
        "its stats_id is not that of its head",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_statistics_that_lie_are_refused_by_name(name: str) -> None:
    change, text = LIES[name]
    info, tensors = describe(grown(), learnt())
    facts, left = msgspec.to_builtins(info), dict(tensors)
    change(facts, left)
    with pytest.raises(ModelError) as caught:
        build(msgspec.convert(facts, statistics.StatisticsInfo), left, grown())
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_statistics_of_another_cut_are_refused() -> None:
    info, tensors = describe(grown(), learnt())
    other = cut_of(5)
    other = replace(other, exit=(*other.exit[:3], readout(np.random.default_rng(0), 5, 5)))
    with pytest.raises(CompileError, match=r"statistics.0: conv does not fit an input of shape \(2, 5, 4, 4\)"):
        build(info, dict(tensors), other)
