"""The ledger from architecture: the published rows from shapes alone, every part of tiny networks by hand."""

from __future__ import annotations

import math

import pytest

from ecc_tools.energy import CONSTANTS
from ecc_tools.ledger.account import Entry, account
from ecc_tools.ledger.anatomy import Anatomy, NetworkSpec, dissect
from ecc_tools.ledger.compare import compare
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
    Code,
)
from ecc_tools.ledger.rates import Rates, assume_rates
from ecc_tools.networks import UnfitNetwork
from ecc_tools.results import DOCS, FOLDER, read_table
from support.imports import ROOT

RB = [f"RB{number}" for number in range(1, 17)]
# printed in SpikeBottleNet's table 3, row BottleNet++, and in its table 1
MJ = [0.27, 0.60, 0.93, 1.33, 1.66, 1.99, 2.32, 2.72, 3.05, 3.38, 3.70, 4.03, 4.36, 4.77, 5.09, 5.42]
DENSE_BYTES = [8192, 16384, 16384, 8192, 8192, 8192, 8192, 4096, 4096, 4096, 4096, 4096, 4096, 1024, 1024, 128]
SPIKE_BYTES = [8192, 4096, 4096, 4096, 4096, 4096, 4096, 2048, 1024, 1024, 1024, 1024, 2048, 256, 512, 64]


def tiny(kind: str, steps: int = 2) -> Anatomy:
    """One channel in the first stage, frames of 8 x 8 x 1, three classes."""
    return dissect(NetworkSpec(kind=kind, width=1 / 64, steps=steps, frame=(8, 8, 1), classes=3))


@pytest.fixture(scope="module")
def resnet50() -> Anatomy:
    return dissect(NetworkSpec(kind="spiking-resnet50", width=1.0, steps=4, frame=(32, 32, 3), classes=100))


@pytest.fixture(scope="module")
def entries(resnet50: Anatomy) -> list[Entry]:
    return account(resnet50, assume_rates(resnet50, 0.1))


# ---- the papers' tables, from shapes alone ----


def test_the_energy_row_of_bottlenet_is_met_in_every_digit(entries: list[Entry]) -> None:
    assert [entry.cut.name for entry in entries] == RB
    assert [round(entry.spent["mac"].convolutions, 2) for entry in entries] == MJ == list(ROWS[RIVAL_MAC].values)


def test_the_byte_columns_follow_from_shapes(entries: list[Entry]) -> None:
    assert [entry.dense_bytes for entry in entries] == DENSE_BYTES == list(ROWS[RIVAL_BYTES].values)
    at_its_steps = [code.bytes(entry.cut) for code, entry in zip(DESIGNS[PAPER], entries, strict=True)]
    assert at_its_steps == SPIKE_BYTES == list(ROWS[PAPER_BYTES].values)
    # at one T for all: as many bits a step
    scaled = [size * 4 // steps for size, steps in zip(SPIKE_BYTES, STEPS, strict=True)]
    assert [entry.bytes for entry in entries] == scaled


def test_every_published_row_has_a_value_for_each_block_and_a_source() -> None:
    assert {len(row.values) for row in ROWS.values()} == {len(STEPS)} == {16}
    assert {len(codes) for codes in DESIGNS.values()} == {16}
    assert all(row.source and row.unit for row in ROWS.values())
    assert {code.bits for code in DESIGNS[RIVAL]} == {8}


def test_published_figures_stand_beside_ours_at_the_papers_steps(resnet50: Anatomy, entries: list[Entry]) -> None:
    beside = compare(resnet50, entries)
    assert beside is not None
    assert [published.steps for published in beside] == list(STEPS)
    for name in (RIVAL_BYTES, PAPER_BYTES):
        assert [published.figures[name].difference for published in beside] == [0] * 16
    assert max(abs(published.figures[RIVAL_MAC].difference) for published in beside) <= 0.005
    ac = beside[1].figures[PAPER_AC]  # RB2, T 2
    assert ac.ours == pytest.approx(0.1 * 2 * 130_023_424 * 0.9e-9)
    assert ac.difference == pytest.approx(ac.ours - 0.10)
    rolls = [published.figures[PAPER_ROLLS] for published in beside]
    assert rolls[0].ours == pytest.approx(0.1 * 4 * 58_720_256 * 77e-12)


def test_the_rate_that_the_paper_implies_gives_its_energy(resnet50: Anatomy, entries: list[Entry]) -> None:
    beside = compare(resnet50, entries)
    assert beside is not None
    assert [round(published.implied_rate, 2) for published in beside][::15] == [0.71, 0.25]
    again = compare(resnet50, account(resnet50, assume_rates(resnet50, beside[0].implied_rate)))
    assert again is not None
    assert again[0].figures[PAPER_AC].ours == pytest.approx(0.15)
    assert again[0].figures[PAPER_ROLLS].ours == pytest.approx(0.013, abs=0.0005)


@pytest.mark.parametrize(
    "changes",
    [{"width": 0.5}, {"frame": (64, 64, 3)}, {"kind": "spiking-resnet34"}],
    ids=lambda found: next(iter(found)),
)
def test_another_network_is_not_compared(changes: dict[str, object]) -> None:
    spec = {"kind": "spiking-resnet50", "width": 1.0, "steps": 1, "frame": (32, 32, 3), "classes": 10} | changes
    anatomy = dissect(NetworkSpec(**spec))  # type: ignore[arg-type]
    assert compare(anatomy, account(anatomy, assume_rates(anatomy, 0.1))) is None


def test_the_recorded_table_is_what_the_ledger_says(resnet50: Anatomy, entries: list[Entry]) -> None:
    beside = compare(resnet50, entries)
    assert beside is not None
    rows = read_table(ROOT / DOCS / FOLDER / "energy-resnet50.json").rows
    for row, entry, published in zip(rows, entries, beside, strict=True):
        dense = entry.spent["mac"]
        assert row == {
            "split": entry.cut.name,
            "seed": None,
            "n": None,
            "steps": published.steps,
            "dense_bytes": published.figures[RIVAL_BYTES].ours,
            "dense_bytes_paper": published.figures[RIVAL_BYTES].published,
            "bytes": published.figures[PAPER_BYTES].ours,
            "bytes_paper": published.figures[PAPER_BYTES].published,
            "mmacs": round(entry.macs / 1e6, 1),
            "mac_mj": round(dense.convolutions, 3),
            "mac_mj_paper": published.figures[RIVAL_MAC].published,
            "left_out_mj": round(dense.stem + dense.shortcuts + dense.encoder, 3),
            "rate_implied": round(100 * published.implied_rate, 1),
        }


# ---- by hand ----


def test_every_part_of_a_tiny_vgg_by_hand() -> None:
    anatomy = tiny("vgg9")
    entries = account(anatomy, assume_rates(anatomy, 0.5))
    assert [entry.cut.name for entry in entries] == ["pool 1", "pool 2", "pool 3"]
    assert [(entry.cut.channels, entry.cut.height) for entry in entries] == [(1, 4), (2, 2), (4, 1)]
    entry = entries[1]
    # 8 x 8: 1 -> 1, 1 -> 1; 4 x 4: 1 -> 2, 2 -> 2; 2 x 2: 2 -> 4, 4 -> 4, 4 -> 4; 4 -> 16 -> 3
    assert entry.macs == 576 + 288 + 576
    assert (entry.code, entry.bytes, entry.dense_bytes) == (Code(4, 1, 2), 4, 16)
    assert (entry.rate, entry.cut_rate) == (0.5, 0.5)
    assert entry.sops == 0.5 * 2 * 1440
    behind = 288 + 576 + 576 + 64 + 48
    encoder = 2 * 9 * 4 * 4
    radio = {"up": 2.27e-3, "down": 1.10e-3 * 3 * 4}
    for name, per_sop in (("ac", 0.9e-9), ("rolls", 0.077e-9)):
        spent = entry.spent[name]
        assert spent.convolutions == pytest.approx(1440 * per_sop)
        assert spent.stem == pytest.approx(576 * 4.6e-9)  # pixels multiply, once for both steps
        assert spent.shortcuts == 0.0
        assert spent.encoder == pytest.approx(encoder * per_sop)
        assert spent.exit == pytest.approx(behind * per_sop)
        assert spent.radio == pytest.approx(4 * radio["up"] + radio["down"])
    dense = entry.spent["mac"]
    assert dense.modelled == pytest.approx((1440 + 576 + encoder + behind) * 4.6e-9)
    assert dense.modelled_and_assumed == pytest.approx(dense.modelled + 16 * radio["up"] + radio["down"])


def test_every_part_of_a_tiny_resnet_by_hand() -> None:
    anatomy = tiny("spiking-resnet18", steps=3)
    entry = account(anatomy, assume_rates(anatomy, 0.5))[2]
    # RB1 and RB2: 1 -> 1 -> 1 at 8 x 8; RB3: 1 -> 2 -> 2 at 4 x 4, with a 1x1 shortcut
    assert (entry.cut.name, entry.cut.channels, entry.cut.height, entry.cut.width_px) == ("RB3", 2, 4, 4)
    assert entry.macs == 2 * (576 + 576) + 288 + 576
    shortcut, encoder = 1 * 2 * 16, 2 * 9 * 64 * 16
    behind = 1152 + (288 + 576 + 32) + 1152 + (288 + 576 + 32) + 1152
    assert entry.bytes == 3 * 64 * 16 / 8
    ac, half = entry.spent["ac"], 0.5 * 3 * 0.9e-9
    assert ac.convolutions == pytest.approx(entry.macs * half)
    assert ac.stem == pytest.approx(576 * 4.6e-9)
    assert ac.shortcuts == pytest.approx(shortcut * half)
    assert ac.encoder == pytest.approx(encoder * half)
    assert ac.exit == pytest.approx(behind * half + 3 * 24 * 4.6e-9)  # means of maps multiply in the classifier
    assert ac.modelled == pytest.approx(
        math.fsum((ac.convolutions, ac.stem, ac.shortcuts, ac.encoder, ac.exit)), rel=1e-12
    )
    dense = entry.spent["mac"]
    assert dense.shortcuts == pytest.approx(shortcut * 4.6e-9)
    assert dense.exit == pytest.approx((behind + 24) * 4.6e-9)


def test_each_layer_has_its_own_rate() -> None:
    anatomy = tiny("vgg9")
    layers = {layer.name: 0.1 * index for index, layer in enumerate(anatomy.layers) if layer.spiking}
    first, second, _ = account(anatomy, Rates("measured", "", layers, {"pool 1": 0.3, "pool 2": 0.2, "pool 3": 0.0}))
    assert first.sops == pytest.approx(0.1 * 2 * 576)
    assert first.spent["ac"].encoder == pytest.approx(0.3 * 2 * (1 * 9 * 4 * 16) * 0.9e-9)
    assert second.rate == pytest.approx((0.1 * 576 + 0.2 * 288 + 0.3 * 576) / 1440)
    assert second.cut_rate == 0.2


def test_other_codes_can_be_asked_for() -> None:
    anatomy = tiny("vgg9")
    codes = (Code(3, 2, 1), Code(1, 1, 2), Code(8, 1, 2))
    entries = account(anatomy, assume_rates(anatomy, 0.5), codes)
    assert [entry.bytes for entry in entries] == [2, 1, 2]  # 12, 8 and 16 bits
    assert entries[0].spent["ac"].encoder == pytest.approx(0.5 * (1 * 9 * 3 * 4) * 2 * 0.9e-9)


def test_a_vgg9_has_the_macs_that_it_is_known_for() -> None:
    anatomy = dissect(NetworkSpec(kind="vgg9", width=1.0, steps=1, frame=(32, 32, 3), classes=10))
    assert sum(layer.macs for layer in anatomy.layers) == 194_717_696
    assert [layer.part for layer in anatomy.layers] == ["stem", *["convolution"] * 6, *["classifier"] * 2]


def test_a_network_without_split_points_is_refused() -> None:
    with pytest.raises(UnfitNetwork, match=r"^'vgg16' is no spiking network with split points; choose vgg9, spiking-"):
        dissect(NetworkSpec(kind="vgg16", width=1.0, steps=1, frame=(32, 32, 3), classes=10))


def test_rolls_costs_77_femtojoule() -> None:
    assert (CONSTANTS["rolls"].value, CONSTANTS["rolls"].unit, CONSTANTS["rolls"].kind) == (0.077, "pJ", "modelled")
    assert "ROLLS, 77 fJ" in CONSTANTS["rolls"].source
