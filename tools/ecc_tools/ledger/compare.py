"""Our figures beside the published ones, split point by split point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ecc_tools.energy import CONSTANTS, energy_mj
from ecc_tools.ledger.account import Entry
from ecc_tools.ledger.anatomy import Anatomy
from ecc_tools.ledger.published import (
    DESIGNS,
    PAPER,
    PAPER_AC,
    PAPER_BYTES,
    PAPER_ROLLS,
    RIVAL,
    RIVAL_BYTES,
    RIVAL_MAC,
    ROWS,
    STEPS,
    is_published,
)


@dataclass(frozen=True)
class Compared:
    """One figure of a published table, and ours for the same design and the same T."""

    published: float
    ours: float

    @property
    def difference(self) -> float:
        """Ours less the published one."""
        return self.ours - self.published


@dataclass(frozen=True)
class Published:
    """What was published about one split point.

    steps: the paper's T there; figures: by the names of `ROWS`; implied_rate: the mean firing rate at which the
    paper's energy is `rate * T * MACs * 0.9 pJ`.
    """

    steps: int
    figures: Mapping[str, Compared]
    implied_rate: float


def compare(anatomy: Anatomy, entries: Sequence[Entry]) -> list[Published] | None:
    """Each entry beside the tables; None for a network that they are not about.

    Spiking energy is ours at the paper's T, with rates that were measured or assumed at ours.
    """
    if not is_published(anatomy):
        return None
    return [_published(index, entry, anatomy.spec.steps) for index, entry in enumerate(entries)]


def _published(index: int, entry: Entry, own_steps: int) -> Published:
    steps, ac, rolls = STEPS[index], CONSTANTS["ac"].value, CONSTANTS["rolls"].value
    sops = entry.sops / own_steps * steps
    ours = {
        RIVAL_BYTES: DESIGNS[RIVAL][index].bytes(entry.cut),
        PAPER_BYTES: DESIGNS[PAPER][index].bytes(entry.cut),
        RIVAL_MAC: entry.spent["mac"].convolutions,
        PAPER_AC: energy_mj(sops, ac),
        PAPER_ROLLS: energy_mj(sops, rolls),
    }
    figures = {name: Compared(ROWS[name].values[index], value) for name, value in ours.items()}
    implied = figures[PAPER_AC].published / energy_mj(steps * entry.macs, ac)
    return Published(steps, figures, implied)
