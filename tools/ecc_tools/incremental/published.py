"""What others report on CIFAR-100 without stored images; ResNet-18 in floats, trained from scratch. Percent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A method's average incremental accuracy and its last accuracy; None: not told there."""

    method: str
    average: float | None
    last: float | None
    source: str


_FETRIL, _ADAGAUSS = "FeTrIL (WACV 2023)", "AdaGauss (NeurIPS 2024)"
PUBLISHED: dict[tuple[str, str], tuple[Published, ...]] = {  # data, split
    ("cifar-100", "B50-Inc10"): (
        Published("LwF-MC", 45.9, None, _FETRIL),
        Published("PASS", 63.5, None, _FETRIL),
        Published("SSRE", 65.9, None, _FETRIL),
        Published("FeTrIL", 66.3, None, _FETRIL),
        Published("PRAKA", 70.0, None, "PRAKA (ICCV 2023)"),
        Published("FCS", None, 62.1, "FCS (CVPR 2024)"),
    ),
    ("cifar-100", "B0-Inc10"): (
        Published("LwF", 53.9, 32.8, _ADAGAUSS),
        Published("FeTrIL", 51.2, 34.9, _ADAGAUSS),
        Published("DS-AL", 54.9, 40.8, _ADAGAUSS),
        Published("EFC", 58.6, 43.6, _ADAGAUSS),
        Published("AdaGauss", 60.2, 46.1, _ADAGAUSS),
    ),
}


def published(data: str, split: str) -> tuple[Published, ...]:
    """Nothing where nobody reports this set in this split."""
    return PUBLISHED.get((data, split), ())
