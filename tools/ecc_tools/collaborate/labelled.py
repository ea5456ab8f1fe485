"""Labelled frames by name: a data set's part, a folder of images, or a recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ecc_model.errors import SourceError
from ecc_model.frames import Pixels
from ecc_tools.compiling import load_validation
from ecc_tools.data.parts import Labels
from ecc_tools.data.sets import open_dataset

PARTS = ("test", "validation")


@dataclass(frozen=True, eq=False)
class Labelled:
    """frames: uint8 (N, H, W, C); labels: int64 (N,), indices into `names`; part: "" for a recording."""

    name: str
    part: str
    frames: Pixels
    labels: Labels
    names: tuple[str, ...]

    @property
    def truth(self) -> list[str]:
        """The label of each frame, by name."""
        return [self.names[label] for label in self.labels]


def open_labelled(spec: str, root: Path | None, part: str) -> Labelled:
    """A set of `ecc-tools data list` or a folder of images per class (their `part`), or an .npz with labels (whole).

    `SourceError`: an unknown part, or frames without labels; `DataError` as in `open_dataset`.
    """
    if part not in PARTS:
        raise SourceError(f"there is no part '{part:.40}' to report on; choose one of: {', '.join(PARTS)}")
    if spec.endswith(".npz"):
        return Labelled(spec, "", *load_validation(spec))
    data = open_dataset(spec, root)
    chosen = data.test() if part == "test" else data.training()[1]
    return Labelled(spec, part, chosen.frames, chosen.labels, data.names)


def check_classes(data: Labelled, known: Sequence[str]) -> None:
    """`SourceError` unless some class of the data is one that the models know."""
    if not set(data.names) & set(known):
        raise SourceError(
            f"{data.name}: none of its classes ({_some(data.names)}) is one that the models know ({_some(known)}); "
            "give frames of their classes"
        )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
