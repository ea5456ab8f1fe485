"""The ledger as JSON and CSV. Each name of a figure says what it rests on."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ecc_model.errors import EccError
from ecc_tools.energy import CONSTANTS
from ecc_tools.ledger.account import Entry, Spent
from ecc_tools.ledger.anatomy import Anatomy
from ecc_tools.ledger.compare import Published
from ecc_tools.ledger.published import ROWS
from ecc_tools.ledger.rates import Kind, Rates
from ecc_tools.runs import code_version

SCHEMA = 1
USED = ("mac", "ac", "rolls", "link up", "link down")
PARTS = ("stem", "shortcuts", "encoder", "exit")  # what the papers leave out, but for the radio
BASIS: dict[Kind, str] = {  # of a modelled figure that rests on firing rates
    "measured": "modelled",
    "borrowed": "modelled_at_borrowed_rates",
    "assumed": "modelled_at_assumed_rate",
}


class LedgerRefused(EccError):
    """A folder that cannot be written into."""


def to_record(
    anatomy: Anatomy, rates: Rates, entries: Sequence[Entry], published: Sequence[Published] | None, *, everything: bool
) -> dict[str, Any]:
    """What `energy.json` holds. Millijoule and bytes per frame; `macs` of one pass, cumulative like all figures."""
    spec = anatomy.spec
    rows = [_row(rates, entry, everything=everything) for entry in entries]
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "code": code_version(),
        "network": asdict(spec),
        "rates": {"kind": rates.kind, "about": rates.about},
        "splits": rows,
        "layers": [asdict(layer) | {f"rate_{rates.kind}": rates.layers.get(layer.name)} for layer in anatomy.layers],
        "constants": {name: asdict(CONSTANTS[name]) for name in USED},
    }
    if published is not None:
        found["published_rows"] = {name: asdict(row) for name, row in ROWS.items()}
        for row, beside in zip(rows, published, strict=True):
            row["published"] = {
                "steps": beside.steps,
                "rate_implied": beside.implied_rate,
                **{name: asdict(pair) | {"difference": pair.difference} for name, pair in beside.figures.items()},
            }
    return found


def write(record: Mapping[str, Any], out: Path) -> None:
    """`energy.json`, and the split points as `energy.csv`. `LedgerRefused`."""
    rows = [_flat(row) for row in record["splits"]]
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / "energy.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        with (out / "energy.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    except OSError as exc:
        raise LedgerRefused(f"{out}: cannot be written into ({exc.strerror}); give another folder with --out") from exc


def _row(rates: Rates, entry: Entry, *, everything: bool) -> dict[str, Any]:
    basis, code = BASIS[rates.kind], entry.code
    row: dict[str, Any] = {
        "split": entry.cut.name,
        "map": [entry.cut.channels, entry.cut.height, entry.cut.width_px],
        "code": [code.steps, *code.shape(entry.cut)],
        "bytes": entry.bytes,
        "dense_bytes": entry.dense_bytes,
        "macs": entry.macs,
        f"rate_{rates.kind}": entry.rate,
        f"cut_rate_{rates.kind}": entry.cut_rate,
        f"sops_{basis}": entry.sops,
        "mac_mj_modelled": entry.spent["mac"].convolutions,
        f"ac_mj_{basis}": entry.spent["ac"].convolutions,
        f"rolls_mj_{basis}": entry.spent["rolls"].convolutions,
    }
    if everything:
        row["everything"] = {
            name: _parts(spent, "modelled" if name == "mac" else basis) for name, spent in entry.spent.items()
        }
    return row


def _parts(spent: Spent, basis: str) -> dict[str, float]:
    return {
        f"paper_mj_{basis}": spent.convolutions,
        **{f"{part}_mj_{basis}": getattr(spent, part) for part in PARTS},
        "radio_mj_assumed": spent.radio,
        f"everything_but_radio_mj_{basis}": spent.modelled,
        f"everything_mj_{basis}_and_assumed": spent.modelled_and_assumed,
    }


def _flat(row: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name} ")
        else:
            found[f"{prefix}{name}"] = "x".join(map(str, value)) if isinstance(value, list) else value
    return found
