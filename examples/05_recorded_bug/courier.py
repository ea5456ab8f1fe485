"""A robot that drives down a street, reads house numbers, and stops at the one it looks for."""

from __future__ import annotations

from collections.abc import Iterable

from ecc_snn import Result


def stops_at(results: Iterable[Result], number: str) -> int | None:
    """The frame at which it stops; None where it drives by.

    One sure reading is enough. An unsure one counts if the frame before it says the same; the robot stopped at the
    wrong house when it did not ask for that.
    """
    before = None
    for result in results:
        unsure = result.ambiguous and result.stands == "edge"
        if result.label == number and (not unsure or before == number):
            return result.frame
        before = result.label
    return None
