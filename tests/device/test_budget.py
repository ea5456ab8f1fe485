"""Upload budgets: never above their limit, well used where there is reason to, and the same every time."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecc_device.budget import Budget, parse_budget
from ecc_device.device import DeviceConfig
from ecc_model.errors import DeviceError
from support.workers import PATIENCE_S, World, frames, silent

FLOOR = 0.5
FRAMES = 1000
REQUEST = 30  # bytes


def decide(budget: Budget, scores: list[float], times: list[float] | None = None, size: int = REQUEST) -> list[bool]:
    """Which frames go up, each of them with a request of `size` bytes."""
    went = []
    for index, score in enumerate(scores):
        allowed = budget.decide(index / 10 if times is None else times[index], score, FLOOR).allowed
        if allowed:
            budget.spend(size)
        went.append(allowed)
    return went


def in_windows(went: list[bool], length: int = FRAMES) -> list[int]:
    """Uploads in every window of so many frames."""
    sums = [0, *itertools.accumulate(went)]
    return [sums[end] - sums[end - length] for end in range(length, len(sums))]


def jumping(seed: int, share: float, count: int, *, spread: bool) -> list[float]:
    """Scores of a stream whose difficulty jumps tenfold, up and down; at the easiest 1.5 times `share` is ambiguous.

    spread: scores of hard times lie above all of easy times, the worst case for a quantile of the past.
    """
    dice = Random(seed)
    length = dice.choice((300, 700, 1500, 3000))
    scores = []
    for index in range(count):
        hard = index // length % 2 == 1
        ambiguous = dice.random() < min(0.95, (15.0 if hard else 1.5) * share)
        low, high = ((0.9, 1.0) if hard else (FLOOR, 0.6)) if spread else (FLOOR, 1.0)
        scores.append(dice.uniform(low, high) if ambiguous else dice.uniform(0.0, FLOOR))
    return scores


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("seed", range(4))
def test_a_stream_whose_difficulty_jumps_tenfold(seed: int, share: float, spread: bool) -> None:
    went = decide(parse_budget(f"{100 * share:g}%"), jumping(seed, share, 12_000, spread=spread))
    assert max(in_windows(went)) <= 1.1 * share * FRAMES
    assert sum(went) >= 0.8 * share * len(went)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(0.001, 1.0),
    st.lists(st.tuples(st.integers(1, 1500), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6),
    st.integers(0, 2**32),
)
def test_no_stream_exceeds_the_hard_limit(share: float, phases: list[tuple[int, float, float]], seed: int) -> None:
    dice = Random(seed)
    scores = [dice.uniform(min(low, high), max(low, high)) for count, low, high in phases for _ in range(count)]
    went = decide(parse_budget(f"{100 * share:.4f}%"), scores)
    assert all(score > FLOOR for score, gone in zip(scores, went, strict=True) if gone)
    assert max(in_windows(went, FRAMES), default=sum(went)) <= 1.1 * FRAMES * round(share, 6) + 1e-6


@given(st.lists(st.floats(0, 1), max_size=600), st.sampled_from(["1%", "5%", "30%", "10kB/h"]))
def test_the_same_stream_gives_the_same_decisions(scores: list[float], limit: str) -> None:
    one, other = parse_budget(limit), parse_budget(limit)
    for index, score in enumerate(scores):
        first, second = (budget.decide(index / 10, score, FLOOR) for budget in (one, other))
        assert first == second
        if first.allowed:
            one.spend(REQUEST)
            other.spend(REQUEST)


def test_what_goes_up_are_the_frames_that_the_edge_is_least_sure_of() -> None:
    dice = Random(0)
    scores = [dice.random() for _ in range(10_000)]
    went = decide(parse_budget("5%"), scores)
    sent = [score for score, gone in zip(scores, went, strict=True) if gone]
    assert sum(went) == pytest.approx(500, abs=10)
    assert sum(sent) / len(sent) > 0.95  # the best 5 % have a mean of 0.975


def test_frames_that_the_edge_is_sure_of_never_go_up() -> None:
    assert decide(parse_budget("50%"), [FLOOR] * 3000) == [False] * 3000


def test_equal_scores_are_spread_evenly() -> None:
    went = decide(parse_budget("10%"), [2.0] * 5000)
    windows = in_windows(went)
    assert (min(windows), max(windows)) == pytest.approx((100, 100), abs=10)
    gaps = [b - a for a, b in itertools.pairwise(index for index, gone in enumerate(went) if gone)]
    assert set(gaps[20:]) <= {9, 10, 11}


def test_a_share_of_all_holds_nothing_back() -> None:
    assert all(decide(parse_budget("100%"), [2.0] * 3000))


def test_bytes_an_hour() -> None:
    """Ten frames a second for three hours: of 108,000 frames 10,000 may go up."""
    dice = Random(0)
    scores = [dice.random() for _ in range(108_000)]
    went = decide(parse_budget("100 kB/h"), scores)
    hourly = [REQUEST * count for count in in_windows(went, 36_000)]
    assert max(hourly) <= 1.1 * 100_000
    assert min(hourly) >= 0.8 * 100_000
    assert sum(score for score, gone in zip(scores, went, strict=True) if gone) / sum(went) > 0.93


def test_few_bytes_and_large_requests() -> None:
    """Three requests of 3 kB fit into an hour of 10 kB; the first is paid off in the first hour."""
    went = decide(parse_budget("10kB/h"), [2.0] * 144_000, size=3000)
    hourly = in_windows(went, 36_000)
    assert max(hourly) == 3
    assert set(hourly[36_000:]) == {2, 3}


def test_a_clock_that_is_set_back_stands_still_and_one_set_forward_costs_an_hour_at_most() -> None:
    budget = parse_budget("10kB/h")
    hour = [index / 10 for index in range(36_000)]
    before = REQUEST * sum(decide(budget, [2.0] * 36_000, hour))
    back = REQUEST * sum(decide(budget, [2.0] * 10, [-1e9 + index / 10 for index in range(10)]))
    forward = REQUEST * sum(decide(budget, [2.0] * 36_000, [1e9 + time_s for time_s in hour]))
    assert before == pytest.approx(10_000, rel=0.1)
    assert back <= 2 * REQUEST
    assert forward <= 1.1 * 10_000 + REQUEST


def test_the_past_asks_only_from_what_is_left() -> None:
    budget = parse_budget("10%")
    for _ in range(200):
        budget.decide(0.0, 0.0, FLOOR)
    taken = 0
    while budget.spare():
        budget.spend(REQUEST, backlog=True)
        taken += 1
    assert taken == 5  # half of the reserve, which is a tenth of a window's 100
    told = budget.decide(0.0, 0.9, FLOOR)
    assert (told.backlog, told.used, told.allowed) == ((REQUEST,) * 5, 5.0, True)
    assert budget.decide(0.0, 0.9, FLOOR).backlog == ()


def test_a_recorded_past_is_booked_again() -> None:
    one, other = parse_budget("10kB/h"), parse_budget("10kB/h")
    one.spend(31, backlog=True)
    one.spend(29, backlog=True)
    told = one.decide(0.0, 0.9, FLOOR)
    other.repeat(told.to_record()["backlog"])
    assert other.decide(0.0, 0.9, FLOOR) == told


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "'' is not a budget; give a share of the frames, e.g. 5%, or bytes, e.g. 2MB/h"),
        ("5", "'5' is not a budget; give a share of the frames, e.g. 5%, or bytes, e.g. 2MB/h"),
        ("-5%", "'-5%' is not a budget; give a share of the frames, e.g. 5%, or bytes, e.g. 2MB/h"),
        ("2MB", "'2MB' is not a budget; give a share of the frames, e.g. 5%, or bytes, e.g. 2MB/h"),
        ("2MB/d", "'2MB/d' is not a budget; give a share of the frames, e.g. 5%, or bytes, e.g. 2MB/h"),
        ("0.05%", "a budget of 0.05%: give a share from 0.1% to 100%"),
        ("101%", "a budget of 101%: give a share from 0.1% to 100%"),
        ("0B/h", "a budget of 0B/h: give more than nothing, or choose the filter edge-only"),
    ],
)
def test_what_is_no_budget(text: str, error: str) -> None:
    with pytest.raises(DeviceError) as caught:
        parse_budget(text)
    assert str(caught.value) == error


@pytest.mark.parametrize("text", ["5%", " 5 % ", "0.1%", "2MB/h", "2 mb / h", "500kB/h", "1.5GB/h", "900B/h"])
def test_how_budgets_may_be_written(text: str) -> None:
    assert parse_budget(text).limit == text


def test_a_device_keeps_to_its_budget(world: World) -> None:
    """Every frame is ambiguous; the first is as unsure as any, and the reserve is half full."""
    device = world.device(budget="5%")
    results = [device.runtime.classify(frame) for frame in frames(300)]
    held = [result for result in results if result.why == "budget"]
    assert len(results) - len(held) == device.status()["uploads"] == pytest.approx(15, abs=5)
    assert {result.why for result in results} - {"budget"} <= {"cloud answered", "cloud less sure"}
    for result in held:
        assert (result.row, result.cloud, result.stands, result.ambiguous) == (None, None, "edge", True)
        assert result.budget is not None
        assert not result.budget.allowed
    budget = device.status()["budget"]
    assert (budget["limit"], budget["held_back"]) == ("5%", len(held))
    assert budget["used"] == len(results) - len(held)


def test_rows_that_wait_share_the_budget(world: World) -> None:
    """Offline rows wait; when the link is back they go up as far as the budget has something to spare."""
    device = world.device(budget="10%", deadline_s=0.0)
    world.worker.script = silent
    world.broker.stop()
    offline = [device.runtime.classify(frame) for frame in frames(60)]
    waiting = [result for result in offline if result.row is not None]
    assert {result.why for result in waiting} == {"offline"}
    assert len(waiting) > 6
    world.broker.start()
    assert device.offload is not None
    assert device.offload.wait_ready(PATIENCE_S)
    asked = world.worker.wait_for(5)
    world.settle(device)
    assert len(world.worker.received) == len(asked) == 5
    told = device.runtime.classify(frames(1)[0]).budget
    assert told is not None
    assert len(told.backlog) == 5


def test_a_budget_that_is_none_stops_the_start(world: World) -> None:
    with pytest.raises(DeviceError, match=r"^'much' is not a budget; give a share"):
        world.device(budget="much")
    assert DeviceConfig(model=world.models.edge, state=world.folder).budget is None
