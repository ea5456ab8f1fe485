"""What the two commands write: CSV for every point, JSON for what was chosen, plots."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ecc_cloud.model import CloudModel
from ecc_model.errors import EccError
from ecc_model.modelfile import EdgeModel, read_edge
from ecc_tools.collaborate.costs import COLUMNS as COST_COLUMNS
from ecc_tools.collaborate.costs import CostRow, measure, stream_rows
from ecc_tools.collaborate.figures import Bars, draw_accuracy, draw_costs, draw_improvement
from ecc_tools.collaborate.labelled import Labelled, check_classes
from ecc_tools.collaborate.observe import ask_cloud, ask_edge, check_pair, compare_answers
from ecc_tools.collaborate.sweep import COLUMNS, as_rows, by_rate, by_threshold, operating
from ecc_tools.collaborate.tables import CHOSEN
from ecc_tools.energy import CONSTANTS, energy_mj, paper_cloud_watts
from ecc_tools.stages import Stage

SCHEMA = 1
DIGITS = 7  # significant, in the CSV files
HEADLINES = {"saving_mj": 0.794, "saving_ms": 0.391}  # what the paper reports on average


class ReportRefused(EccError):
    """A folder that cannot be written into."""


def report_sweep(edge: Path, cloud: Path, data: Labelled, send: str, out: Path, stage: Stage) -> dict[str, Any]:
    """Run everything on `data`, write it into `out` and return what `collaborate.json` holds.

    Errors: `read_edge`, `CloudModel`, `check_pair`, `check_classes`, and `ReportRefused`.
    """
    model, worker = read_edge(edge), CloudModel(cloud)
    check_pair(model, worker, send)
    check_classes(data, (*model.labels, *worker.labels))
    _prepare(out)
    own = ask_edge(model, data.frames, stage("edge"))
    theirs = ask_cloud(model, worker, own, data.frames, send, stage(f"cloud, {send}"))
    observed = compare_answers(own, theirs, data.truth)
    thresholds, rates, chosen = by_threshold(observed), by_rate(observed), operating(observed)
    found = {
        "schema": SCHEMA,
        "edge": {"file": str(edge), "sha256": model.sha256, "accuracy": float(observed.edge_right.mean())},
        "cloud": {"file": str(cloud), "send": send, "accuracy": float(observed.cloud_right.mean())},
        "data": _described(data, model),
        "thresholds": CHOSEN,
        "operating": [asdict(point) for point in chosen],
        "constants": _constants(),
        "versions": {name: version(name) for name in ("ecc-snn", "torch", "numpy")},
    }
    _write_csv(out / "thresholds.csv", COLUMNS, as_rows(thresholds))
    _write_csv(out / "rates.csv", COLUMNS, as_rows(rates))
    _write_json(out / "collaborate.json", found)
    draw_accuracy(out / "accuracy.png", thresholds, rates, chosen)
    draw_improvement(out / "improvement.png", rates, chosen)
    return found


def report_costs(cloud: Path, streams: Sequence[tuple[Path, Labelled]], out: Path, stage: Stage) -> dict[str, Any]:
    """Run each stream on its edge model, write everything into `out` and return what `costs.json` holds.

    Errors: as `report_sweep`.
    """
    worker = CloudModel(cloud)
    _prepare(out)
    rows: list[CostRow] = []
    described = []
    for number, (edge, data) in enumerate(streams, 1):
        model, name = read_edge(edge), f"{number} {Path(data.name).name}"
        check_pair(model, worker, "features")
        check_classes(data, (*model.labels, *worker.labels))
        own = ask_edge(model, data.frames, stage(f"{name}: edge"))
        told = stage(f"{name}: cloud, features")
        features = compare_answers(own, ask_cloud(model, worker, own, data.frames, "features", told), data.truth)
        frames = None
        if worker.reads_frames:
            told = stage(f"{name}: cloud, frames")
            frames = compare_answers(own, ask_cloud(model, worker, own, data.frames, "frames", told), data.truth)
        timings = measure(model, worker, data.frames)
        rows += stream_rows(name, features, frames, timings)
        described.append(
            {
                "stream": name,
                "edge": {"file": str(edge), "sha256": model.sha256},
                "data": _described(data, model),
                "measured_ms": {step: asdict(timing) for step, timing in timings.items()},
            }
        )
    found = {
        "schema": SCHEMA,
        "cloud": str(cloud),
        "streams": described,
        "rows": [asdict(row) for row in rows],
        "paper": {
            "cloud_watts": paper_cloud_watts(),
            "cloud_mj": CONSTANTS["cloud energy"].value,
            "vit_b16_mj_modelled": energy_mj(CONSTANTS["ViT-B/16"].value, CONSTANTS["mac"].value),
            **HEADLINES,
        },
        "constants": _constants(),
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
        "versions": {name: version(name) for name in ("ecc-snn", "torch", "numpy")},
    }
    _write_csv(out / "costs.csv", COST_COLUMNS, [astuple(row) for row in rows])
    _write_json(out / "costs.json", found)
    draw_costs(out / "costs.png", _panels(rows))
    return found


def _panels(rows: Sequence[CostRow]) -> dict[str, Bars]:
    def bars(edge: str, link: str, cloud: str) -> Bars:
        return {
            f"{row.stream}\n{row.system}, {row.upload_rate:.0%} up": {
                "edge": getattr(row, edge),
                "link": getattr(row, link),
                "cloud": getattr(row, cloud),
            }
            for row in rows
        }

    return {
        "mJ per frame: modelled + assumed link": bars("edge_mj_modelled", "link_mj_assumed", "cloud_mj_modelled"),
        "mJ per frame: the cloud as in the paper": bars("edge_mj_modelled", "link_mj_assumed", "cloud_mj_paper"),
        "ms per frame: measured + assumed link": bars("edge_ms_measured", "link_ms_assumed", "cloud_ms_measured"),
    }


def _described(data: Labelled, model: EdgeModel) -> dict[str, Any]:
    new = sum(label not in model.labels for label in data.truth)
    return {"name": data.name, "part": data.part, "frames": len(data.labels), "new_frames": new}


def _constants() -> dict[str, Any]:
    return {name: asdict(constant) for name, constant in CONSTANTS.items()}


def _prepare(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".writable").write_bytes(b"")
        (out / ".writable").unlink()
    except OSError as exc:
        raise ReportRefused(f"{out}: cannot be written into ({exc.strerror}); give another folder with --out") from exc


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{v:.{DIGITS}g}" if isinstance(v, float) else v for v in row] for row in rows)


def _write_json(path: Path, found: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
