"""What a frame costs at the edge, on the link and in the cloud: ECC-SNN's Figures 6 and 7.

Three systems on each stream: the edge alone, edge and cloud (spikes go up when the entropy is above the model's own
threshold), and the cloud alone (every frame goes up as an image). Names say of each figure what it is: `measured` on
this machine, `modelled` from counted operations, `assumed` for the link, `paper` with ECC-SNN's own constants.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from ecc_broker.codec import encode_spikes
from ecc_cloud.model import CloudModel
from ecc_device.engines import NumpyEngine
from ecc_device.results import make_answer
from ecc_model.frames import Pixels, fit
from ecc_model.modelfile import EdgeModel
from ecc_model.rates import agreed
from ecc_tools.collaborate.observe import CloudSide, Flags, Numbers, Observed
from ecc_tools.energy import CONSTANTS, link_ms

TIMED_FRAMES = 100
WARM_UP = 5
EDGE, TOGETHER, CLOUD = "edge alone", "edge and cloud", "cloud alone"


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one step, measured frame by frame: median, 5 % to 95 %, how many frames."""

    median: float
    p5: float
    p95: float
    n: int


@dataclass(frozen=True)
class CostRow:
    """One system on one stream. Costs are means per frame, over frames that went up and frames that did not.

    saving_*: share of energy or latency that the system saves against the cloud alone, in the sums of the same
    kind; None for the cloud alone, and where the cloud cannot be alone.
    """

    stream: str
    system: str
    frames: int
    upload_rate: float
    accuracy: float
    edge_mj_modelled: float
    link_mj_assumed: float
    cloud_mj_modelled: float
    sum_mj_modelled_and_assumed: float
    cloud_mj_paper: float
    sum_mj_with_cloud_of_paper: float
    edge_ms_measured: float
    link_ms_assumed: float
    cloud_ms_measured: float
    sum_ms_measured_and_assumed: float
    cloud_ms_paper: float
    sum_ms_with_cloud_of_paper: float
    saving_mj: float | None = None
    saving_mj_with_cloud_of_paper: float | None = None
    saving_ms: float | None = None
    saving_ms_with_cloud_of_paper: float | None = None


COLUMNS = tuple(field.name for field in fields(CostRow))
_SAVINGS = {
    "saving_mj": "sum_mj_modelled_and_assumed",
    "saving_mj_with_cloud_of_paper": "sum_mj_with_cloud_of_paper",
    "saving_ms": "sum_ms_measured_and_assumed",
    "saving_ms_with_cloud_of_paper": "sum_ms_with_cloud_of_paper",
}


def measure(model: EdgeModel, cloud: CloudModel, frames: Pixels) -> dict[str, Timing]:
    """Time each step on this machine: "edge" (head, exit, answer), "encoder", "cloud features", "cloud frames"."""
    engine = NumpyEngine(model.program)
    shown = [fit(frame, model.program.input) for frame in frames[: TIMED_FRAMES + WARM_UP]]
    splits = [engine.head(frame) for frame in shown]
    codes = [engine.encode(split) for split in splits]
    _, table = agreed(model.program.features_id, model.rates, cloud.encoders)

    def answer(index: int) -> object:
        logits = engine.exit(engine.head(shown[index])).tolist()
        return make_answer(logits, model.labels, model.temperature)

    timings = {
        "edge": _timed(answer, len(shown)),
        "encoder": _timed(lambda index: encode_spikes(engine.encode(splits[index]), table), len(shown)),
        "cloud features": _timed(lambda index: cloud.features([codes[index]]), len(shown)),
    }
    if cloud.reads_frames:
        read = [fit(frame, cloud.frame) for frame in shown]
        timings["cloud frames"] = _timed(lambda index: cloud.frames([read[index]]), len(shown))
    return timings


def _timed(step: Callable[[int], object], frames: int) -> Timing:
    taken = []
    for index in range(frames):
        started = time.perf_counter()
        step(index)
        taken.append(1000 * (time.perf_counter() - started))
    kept = taken[WARM_UP:] or taken
    p5, median, p95 = np.percentile(kept, (5, 50, 95)).tolist()
    return Timing(median, p5, p95, len(kept))


def stream_rows(stream: str, features: Observed, frames: Observed | None, timings: dict[str, Timing]) -> list[CostRow]:
    """The rows of one stream; `frames`: the same stream with images sent, None for a cloud without a teacher."""
    up = features.edge.scores["entropy"][0] > features.edge.thresholds["entropy"][0]
    rows = [
        _with_edge(stream, EDGE, features, np.zeros_like(up), timings),
        _with_edge(stream, TOGETHER, features, up, timings),
    ]
    if frames is None:
        return rows
    alone = _cloud_alone(stream, frames, timings["cloud frames"])
    return [*(_with_savings(row, alone) for row in rows), alone]


def _with_edge(stream: str, system: str, observed: Observed, up: Flags, timings: dict[str, Timing]) -> CostRow:
    """The edge answers every frame; `up` (N,): what it also sends."""
    edge, cloud, rate = observed.edge, observed.cloud, float(up.mean())
    return _row(
        *(stream, system, up, np.where(up, observed.standing_right, observed.edge_right)),
        edge=(
            float((edge.mj + up * cloud.upload_mj).mean()),
            timings["edge"].median + rate * timings["encoder"].median,
        ),
        link=(float((up * cloud.link_mj).mean()), float((up * _exchange_ms(cloud)).mean())),
        cloud=(rate * cloud.mj, rate * timings["cloud features"].median),
    )


def _cloud_alone(stream: str, observed: Observed, answer: Timing) -> CostRow:
    cloud = observed.cloud
    return _row(
        *(stream, CLOUD, np.ones_like(observed.cloud_right), observed.cloud_right),
        edge=(0.0, 0.0),
        link=(float(cloud.link_mj.mean()), float(_exchange_ms(cloud).mean())),
        cloud=(cloud.mj, answer.median),
    )


def _exchange_ms(cloud: CloudSide) -> Numbers:
    return np.array([link_ms(size, cloud.bytes_down) for size in cloud.bytes_up])


Pair = tuple[float, float]  # millijoule, milliseconds


def _row(stream: str, system: str, up: Flags, right: Flags, *, edge: Pair, link: Pair, cloud: Pair) -> CostRow:
    rate = float(up.mean())
    paper = rate * CONSTANTS["cloud energy"].value, rate * CONSTANTS["cloud latency"].value
    return CostRow(
        stream=stream,
        system=system,
        frames=len(up),
        upload_rate=rate,
        accuracy=float(right.mean()),
        edge_mj_modelled=edge[0],
        link_mj_assumed=link[0],
        cloud_mj_modelled=cloud[0],
        sum_mj_modelled_and_assumed=edge[0] + link[0] + cloud[0],
        cloud_mj_paper=paper[0],
        sum_mj_with_cloud_of_paper=edge[0] + link[0] + paper[0],
        edge_ms_measured=edge[1],
        link_ms_assumed=link[1],
        cloud_ms_measured=cloud[1],
        sum_ms_measured_and_assumed=edge[1] + link[1] + cloud[1],
        cloud_ms_paper=paper[1],
        sum_ms_with_cloud_of_paper=edge[1] + link[1] + paper[1],
    )


def _with_savings(row: CostRow, alone: CostRow) -> CostRow:
    return replace(row, **{name: 1 - getattr(row, of) / getattr(alone, of) for name, of in _SAVINGS.items()})
