"""What the two commands print for people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ecc_tools.energy import CONSTANTS

CHOSEN = (
    "the model file's own for entropy, the same share of its guard rows for the other filters; "
    "none was chosen on these frames"
)
_COSTS = {  # title -> column -> figure
    "mJ per frame": {
        "edge\nmodelled": "edge_mj_modelled",
        "link\nassumed": "link_mj_assumed",
        "cloud\nmodelled": "cloud_mj_modelled",
        "modelled\n+ assumed": "sum_mj_modelled_and_assumed",
        "\nsaved": "saving_mj",
        "cloud\npaper": "cloud_mj_paper",
        "with it\nsaved": "saving_mj_with_cloud_of_paper",
    },
    "ms per frame": {
        "edge\nmeasured": "edge_ms_measured",
        "link\nassumed": "link_ms_assumed",
        "cloud\nmeasured": "cloud_ms_measured",
        "measured\n+ assumed": "sum_ms_measured_and_assumed",
        "\nsaved": "saving_ms",
        "cloud\npaper": "cloud_ms_paper",
        "with it\nsaved": "saving_ms_with_cloud_of_paper",
    },
}


def print_operating(found: Mapping[str, Any], out: Path) -> None:
    """The filters at their own thresholds, as a table."""
    data, edge, cloud = found["data"], found["edge"], found["cloud"]
    new = f", {data['new_frames']} of classes that the edge does not know" if data["new_frames"] else ""
    print(f"{_name(data)}: {data['frames']} frames{new}")
    print(f"edge alone {edge['accuracy']:.2%}, cloud alone ({cloud['send']}) {cloud['accuracy']:.2%}")
    table = _table("filter", "threshold", "uploads", "accuracy", "cloud always", "gain", "bytes")
    for point in found["operating"]:
        table.add_row(
            point["filter"],
            "" if point["threshold"] is None else f"{point['threshold']:.3g}",
            f"{point['upload_rate']:.1%}",
            f"{point['accuracy']:.2%}",
            f"{point['accuracy_cloud_stands']:.2%}",
            "" if point["improvement"] is None else f"{point['improvement']:.0%}",
            f"{point['bytes_up']:.1f}",
        )
    Console().print(table)
    print(f"Thresholds: {CHOSEN}.")
    print(f"Gain: share of the way from edge to cloud. Bytes: sent, mean over all frames. Written to {out}")


def print_costs(found: Mapping[str, Any], out: Path) -> None:
    """What was run, then energy and latency of every stream and system."""
    systems = _table("", "uploads", "accuracy")
    for row in found["rows"]:
        systems.add_row(f"{row['stream']}, {row['system']}", f"{row['upload_rate']:.1%}", f"{row['accuracy']:.2%}")
    Console().print(systems)
    for title, columns in _COSTS.items():
        table = _table(f"\n{title}", *columns)
        for row in found["rows"]:
            number = row["stream"].partition(" ")[0]
            table.add_row(f"{number} {row['system']}", *(_cell(row[name], name) for name in columns.values()))
        Console().print(table)
    paper = found["paper"]
    print(
        f"Saved: against the cloud alone. The paper's cloud: {paper['cloud_mj']:,.0f} mJ in "
        f"{CONSTANTS['cloud latency'].value} ms, which is {paper['cloud_watts']:,.0f} W; its ViT-B/16 at "
        f"{CONSTANTS['mac'].value} pJ per MAC: {paper['vit_b16_mj_modelled']:.0f} mJ. It reports "
        f"{paper['saving_mj']:.1%} energy and {paper['saving_ms']:.1%} latency saved."
    )
    print(f"Written to {out}")


def _table(first: str, *headings: str) -> Table:
    table = Table(first, box=None, padding=(0, 1, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def _cell(value: float | None, name: str) -> str:
    if value is None:
        return ""
    if name.startswith("saving"):
        return f"{value:.1%}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _name(data: Mapping[str, Any]) -> str:
    return f"{data['name']} ({data['part']})" if data["part"] else str(data["name"])
