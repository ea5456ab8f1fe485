"""Test doubles for programs that use ecc-snn: a cloud, a link, a camera and clocks whose behaviour a test decides.

clock = SimulatedClock()
link = SimulatedLink(TableCloud("vgg9.pt", otherwise="7", delay_s=(0.0, 0.5)), clock, "lossy")
with Edge("vgg9.pt", link=link, clock=clock, state=folder) as edge:
    assert edge.classify(pixels, deadline_ms=50).why in ("cloud answered", "deadline")

On a `SimulatedClock` nothing takes time but what the test, the cloud and the link say, so that the same test makes the
same run each time. The fixture `replay` is in the pytest plugin `ecc_snn.testing.plugin`.
"""

from __future__ import annotations

from ecc_device.clock import SimulatedClock
from ecc_device.linkprofiles import PROFILES, LinkProfile
from ecc_snn.testing.camera import SimulatedCamera
from ecc_snn.testing.clock import RealtimeClock
from ecc_snn.testing.cloud import TableCloud
from ecc_snn.testing.link import SimulatedLink

__all__ = [
    "PROFILES",
    "LinkProfile",
    "RealtimeClock",
    "SimulatedCamera",
    "SimulatedClock",
    "SimulatedLink",
    "TableCloud",
]
