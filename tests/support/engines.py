"""Engines that can run here."""

from __future__ import annotations

from ecc_device.engines import ENGINES, make_engine
from ecc_model.errors import MissingEngine
from support.programs import small_program


def installed_engines() -> list[str]:
    """The names of those whose libraries are installed."""
    found = []
    for name in ENGINES:
        try:
            make_engine(name, small_program())
        except MissingEngine:
            continue
        found.append(name)
    return found
