"""Writes street.mcap, the recording that the test replays: 29 house numbers, and a link that is gone for a while.

On a robot it is `Edge(..., record="street.mcap")` that writes one. Here event-camera samples are the street, and the
doubles of `ecc_snn.testing` are the cloud and the link.

python examples/05_recorded_bug/make_recording.py --out street.mcap
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ecc_device.sources import open_source
from ecc_snn import EccError, Edge
from ecc_snn.testing import LinkProfile, SimulatedClock, SimulatedLink, TableCloud

HERE = Path(__file__).parent
MODEL = HERE.parent / "06_event_camera.pt"
STREET = f"{HERE.parent / 'streams' / 'nmnist'}#steps=3"
LINK = LinkProfile(name="street", delay_s=0.02, jitter_s=0.03, outage_every_s=6.0, outage_s=3.0)
SECONDS = 0.5  # between two frames


def main() -> None:
    """Drive twice: alone, which tells what is to be asked, then with a cloud that knows the answers."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--out", type=Path, default=HERE / "street.mcap", help="the recording; must not exist")
    chosen = options.parse_args()

    street = list(open_source(STREET))
    with tempfile.TemporaryDirectory() as state, Edge(MODEL, state=state) as edge:
        rows = {edge.classify(frame.pixels).row: frame.label for frame in street}
    cloud = TableCloud(MODEL, {row: label for row, label in rows.items() if row is not None and label is not None})
    clock = SimulatedClock()
    link = SimulatedLink(cloud, clock, LINK)
    with (
        tempfile.TemporaryDirectory() as state,
        Edge(MODEL, state=state, link=link, clock=clock, record=chosen.out) as edge,
    ):
        for number, frame in enumerate(street):
            clock.advance_to(number * SECONDS)
            result = edge.classify(frame.pixels)
            print(f"{number:3}  house {frame.label}, read as {result.label}: {result.why}")


if __name__ == "__main__":
    try:
        main()
    except EccError as error:
        sys.exit(f"error: {error}")
