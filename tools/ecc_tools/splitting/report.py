"""What a search has found, as table, CSV, JSON and plots."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ecc_device.linkprofiles import LinkProfile
from ecc_model.optional import require
from ecc_tools.splitting.candidates import parse
from ecc_tools.splitting.search import Figures, link_ms

COLUMNS = (
    *("candidate", "n", "edge", "features", "teacher", "drop", "raw_bits", "entropy_bits", "body_bytes"),
    *("head_mj", "encoder_mj", "device_ms", "link_ms_assumed"),
)
TITLE = f"{'':14}{'features':>9}{'drop':>7}{'raw bits':>9}{'bytes':>8}{'mJ':>10}{'device ms':>11}{'link ms':>9}"


def rows(found: Sequence[Figures], link: LinkProfile) -> list[dict[str, Any]]:
    """One row for each candidate, with the cells of `COLUMNS`."""
    cells = []
    for figures in found:
        row = msgspec.to_builtins(figures) | {
            "drop": figures.drop,
            "link_ms_assumed": link_ms(link, figures.body_bytes, figures.reply_bytes),
        }
        cells.append({name: row[name] for name in COLUMNS})
    return cells


def write(
    out: Path, found: Sequence[Figures], chosen: Figures | None, link: LinkProfile, by: str, max_drop: float
) -> Any:
    """Write `split.csv`, `split.json`, `bytes.png` and `energy.png` into `out`; returns what `split.json` holds."""
    table = rows(found, link)
    with (out / "split.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([{k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()} for row in table])
    record = {
        "schema": 1,
        "chosen": chosen.candidate if chosen else None,
        "by": by,
        "max_drop": max_drop,
        "link": {"name": link.name, "kind": "assumed"},
        "candidates": table,
    }
    (out / "split.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    _draw(out / "bytes.png", found, chosen, "body_bytes", "bytes of a message, mean")
    _draw(out / "energy.png", found, chosen, "device_mj", "mJ up to the message, modelled")
    return record


def print_table(found: Sequence[Figures], chosen: Figures | None, link: LinkProfile, out: Path) -> None:
    """The table for people."""
    print(TITLE)
    for figures, row in zip(found, rows(found, link), strict=True):
        mark = "  <- chosen" if figures is chosen else ""
        print(
            f"{figures.candidate:14}{figures.features:8.2f}%{figures.drop:7.2f}{figures.raw_bits:9}"
            f"{figures.body_bytes:8.1f}{figures.head_mj + figures.encoder_mj:10.5f}{figures.device_ms:11.2f}"
            f"{row['link_ms_assumed']:9.1f}{mark}"
        )
    print(
        f"n {found[0].n} validation images; the teacher on frames: {found[0].teacher:.2f} %; mJ modelled, device ms "
        f"measured, link ms assumed ({link.name})\nmodel files: {out / (chosen.candidate if chosen else '')}"
    )


def _draw(path: Path, found: Sequence[Figures], chosen: Figures | None, name: str, title: str) -> None:
    """Accuracy of features against one cost, a line for each cut, the chosen candidate marked."""
    figure = require("matplotlib.figure", "the plots of a search").Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for split in sorted({parse(figures.candidate).split for figures in found}):
        own = [figures for figures in found if parse(figures.candidate).split == split]
        points = sorted((_cell(figures, name), figures.features) for figures in own)
        axes.plot(*zip(*points, strict=True), marker="o", label=f"after pool {split}")
    if chosen:
        cost = _cell(chosen, name)
        axes.plot(cost, chosen.features, "o", markersize=13, fillstyle="none", color="black", label="chosen")
    axes.axhline(found[0].teacher, color="grey", linestyle="--", label="the teacher on frames")
    axes.set(xlabel=title, ylabel="validation images right, %")
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def _cell(figures: Figures, name: str) -> float:
    return figures.head_mj + figures.encoder_mj if name == "device_mj" else float(getattr(figures, name))
