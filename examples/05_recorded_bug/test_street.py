"""The robot looked for number 9 and stopped at number 5: one unsure reading was enough, and the link was away.

python -m pytest examples/05_recorded_bug
"""

from __future__ import annotations

from pathlib import Path

import pytest
from courier import stops_at

from ecc_snn.testing import PROFILES
from ecc_snn.testing.plugin import RunReplay

STREET = Path(__file__).with_name("street.mcap")
NUMBER, WRONG, RIGHT = "9", 16, (26, 27, 28)


def test_the_moment_is_in_the_recording(replay: RunReplay) -> None:
    """Without it the tests below would show nothing."""
    result = replay(STREET)[WRONG]
    assert (result.label, result.why, result.ambiguous) == (NUMBER, "offline", True)


def test_the_robot_drives_on_to_the_right_house(replay: RunReplay) -> None:
    """The bug itself."""
    assert stops_at(replay(STREET), NUMBER) == 28


@pytest.mark.parametrize("link", PROFILES)
def test_it_does_so_on_other_links(replay: RunReplay, link: str) -> None:
    """The cloud's recorded answers come later, or not at all."""
    assert stops_at(replay(STREET, link=link), NUMBER) in RIGHT


def test_every_decision_is_as_recorded(replay: RunReplay) -> None:
    """Another model, engine or rule would be named with the first frame that differs."""
    replay(STREET, expect=STREET)
