"""Deadlines: none is exceeded, and every answer that comes later is delivered once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ecc_snn import Edge, Result
from ecc_snn.testing import SimulatedClock, SimulatedLink, TableCloud
from support.edges import frames

if TYPE_CHECKING:
    from support.models import TinyModels

DEADLINE_S = 0.05
DELAY_S = (0.0, 0.5)  # of the worker


@pytest.mark.parametrize("calls", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_frame_is_late_with_a_worker_that_takes_up_to_half_a_second(
    tmp_path: Path, unsure: TinyModels, calls: int
) -> None:
    """A tenth of the answers come in time, all others later, as corrections."""
    clock, pictures = SimulatedClock(), frames(16)
    cloud = TableCloud(unsure.edge, otherwise="9", delay_s=DELAY_S)
    corrections: Counter[int] = Counter()
    took, results = [], []
    with Edge(unsure.edge, state=tmp_path, link=SimulatedLink(cloud, clock), clock=clock) as edge:
        edge.on_result(lambda result: corrections.update([result.frame]))
        for index in range(calls):
            begin = clock.monotonic()
            results.append(edge.classify(pictures[index % 16], deadline_ms=1000 * DEADLINE_S))
            took.append(clock.monotonic() - begin)
        clock.advance_to(clock.now() + DELAY_S[1])
    assert max(took) <= DEADLINE_S + 1e-9
    in_time = {result.frame for result in results if result.cloud is not None}
    assert len(in_time) == pytest.approx(calls * DEADLINE_S / DELAY_S[1], rel=0.25)
    assert {result.why for result in results} == {"cloud answered", "deadline"}
    assert set(corrections) == {result.frame for result in results} - in_time
    assert set(corrections.values()) == {1}


def test_an_answer_at_the_very_deadline_is_in_time(tmp_path: Path, unsure: TinyModels) -> None:
    def answered(name: str, delay_s: float) -> Result:
        clock = SimulatedClock()
        link = SimulatedLink(TableCloud(unsure.edge, otherwise="9", delay_s=delay_s), clock)
        with Edge(unsure.edge, state=tmp_path / name, link=link, clock=clock) as edge:
            return edge.classify(frames(1)[0], deadline_ms=1000 * DEADLINE_S)

    assert answered("at", DEADLINE_S).why == "cloud answered"
    assert answered("after", DEADLINE_S + 1e-6).why == "deadline"


def test_the_forecast_learns_from_what_came_in_time(tmp_path: Path, unsure: TinyModels) -> None:
    clock = SimulatedClock()
    link = SimulatedLink(TableCloud(unsure.edge, {1: "9", 2: "9", 4: "9"}, delay_s=0.02), clock)
    with Edge(unsure.edge, state=tmp_path, link=link, clock=clock, deadline_ms=1000 * DEADLINE_S) as edge:
        told = [edge.classify(pixels).explain().facts["forecast"] for pixels in frames(5)]
    assert [(one["asked"], one["late"]) for one in told] == [(0, 0), (1, 0), (2, 0), (3, 1), (4, 1)]
    assert [one["answer_s"] for one in told] == [None, *[pytest.approx(0.02)] * 4]
