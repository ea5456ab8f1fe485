"""Recordings: what a device saw, decided and asked, in one MCAP file that Foxglove opens and a replay repeats."""

from __future__ import annotations

from ecc_device.recordings.recorder import Recorder
from ecc_device.recordings.recording import Recording

__all__ = ["Recorder", "Recording"]
