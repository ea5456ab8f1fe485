"""What became of each update: facts for programs, a text for people; read from the versions in the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ecc_device.learning.gate import MAX_LOSS_POINTS, MIN_AGREEMENT
from ecc_device.store import Version
from ecc_model.errors import DeviceError

# state of a version -> how it is said
STATES = {
    "candidate": "in its shadow run",
    "trial": "about to take over",
    "active": "active",
    "previous": "was active",
    "rejected": "turned down",
    "rolled-back": "rolled back",
}
_HIDDEN = frozenset({"row_ids", "last_row", "reason"})


def update_facts(version: Version) -> dict[str, Any]:
    """One update as JSON: what it made, from what, how it ended, and everything that was measured."""
    return {
        "no": version.no,
        "parent": version.parent,
        "state": version.state,
        "created_s": version.created_s,
        "reason": version.figures.get("reason"),
        "figures": {name: value for name, value in version.figures.items() if name not in _HIDDEN},
    }


def updates(versions: Sequence[Version]) -> list[dict[str, Any]]:
    """The facts of every update, oldest first; factory models are none."""
    return [update_facts(version) for version in versions if version.parent is not None]


def find_update(versions: Sequence[Version], no: int) -> dict[str, Any]:
    """The facts of one update; `DeviceError` when `no` is none."""
    found = {facts["no"]: facts for facts in updates(versions)}
    if no not in found:
        known = f"there are: {', '.join(map(str, found))}" if found else "no update was made yet"
        raise DeviceError(f"model {no} is no update; {known}")
    return found[no]


class UpdateExplanation:
    """The facts of one update, and how to say them: `str` gives the text, a line for each topic."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.facts = dict(facts)

    def __str__(self) -> str:
        return "\n".join(f"{name:<10}{text}" for name, text in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        facts, figures = self.facts, self.facts["figures"]
        yield "model", f"{facts['no']}, learnt from model {facts['parent']}: {STATES[facts['state']]}"
        yield "why", str(facts["reason"])
        if "learner" not in figures:  # made by another version, or not by an update
            return
        yield "learnt", _learnt(figures)
        yield "known", _known(figures)
        yield "held out", _held(figures)
        yield "sure", _calibration(figures)
        for one in figures.get("candidates", ()):
            yield "candidate", f"{one['learner']}: {one['reason']}"
        for learner, reason in figures.get("skipped", {}).items():
            yield "skipped", f"{learner}: {reason}"
        if "shadow_frames" in figures:
            yield "shadow", _shadow(figures)


def _learnt(figures: Mapping[str, Any]) -> str:
    new = ", ".join(figures["new_classes"]) or "none"
    text = f"by '{figures['learner']}' from {figures['rows']} rows, new classes: {new}"
    if figures.get("unsure"):
        text += f"; {figures['unsure']} rows wait, the cloud was unsure"
    if figures.get("contradicted"):
        text += f"; {figures['contradicted']} rows wait, the cloud contradicts a clear answer of the edge"
    return text


def _known(figures: Mapping[str, Any]) -> str:
    worst = ""
    if figures.get("worst_class_loss_points", 0.0) > 0.0:
        worst = f"; most of all '{figures['worst_class']}', {figures['worst_class_loss_points']:.1f} points"
    since = ""
    if "factory_loss_points" in figures:  # an earlier version did not measure it
        since = f", {_points(figures['factory_loss_points'])} since the factory's model"
    return (
        f"{_points(figures['known_loss_points'])} on {figures['judge_rows']} judging rows (90 % sure: loses less than "
        f"{figures['known_loss_bound_points']:.1f}){since}; {MAX_LOSS_POINTS:.1f} may be lost{worst}"
    )


def _points(loss: float) -> str:
    return f"loses {loss:.1f} points" if loss >= 0.0 else f"gains {-loss:.1f} points"


def _held(figures: Mapping[str, Any]) -> str:
    before, after = figures["held_agreement_before"], figures["held_agreement_after"]
    return (
        f"agrees with the cloud on {after:.0%} of {figures['held_rows']} rows that were not learnt, "
        f"{before:.0%} before; more than before and {MIN_AGREEMENT:.0%} are asked for"
    )


def _calibration(figures: Mapping[str, Any]) -> str:
    before, after = figures["threshold"]
    return (
        f"calibration error {figures['ece_before']:.3f} -> {figures['ece_after']:.3f}, "
        f"threshold {before:.3f} -> {after:.3f}"
    )


def _shadow(figures: Mapping[str, Any]) -> str:
    return (
        f"in {figures['shadow_frames']} frames {figures['shadow_changed']} of {figures['shadow_clear']} clear answers "
        f"changed (the gate: {figures['clear_changed']} of {figures['clear_rows']}); "
        f"{figures['shadow_new']} more were taken for new classes"
    )
