"""Both answers to every frame, and what each would cost: asked once, for all filters and thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecc_broker.codec import LOGIT_BYTES, encode_pixels, encode_spikes
from ecc_cloud.model import CloudModel, Logits
from ecc_device.engines import NumpyEngine
from ecc_device.evidence import Evidence, Known
from ecc_device.filters import FILTERS, Filter, filter_threshold, make_filter
from ecc_device.results import Answer, choose, make_answer
from ecc_model.bits import Spikes
from ecc_model.errors import IncompatibleFeatures, SourceError
from ecc_model.frames import Pixels, fit
from ecc_model.modelfile import EdgeModel
from ecc_model.rates import agreed, plain_id
from ecc_tools.batched import CHUNK, BatchedProgram, in_chunks
from ecc_tools.collaborate.operations import dense_macs, sections_mj
from ecc_tools.energy import CONSTANTS, energy_mj, link_mj
from ecc_tools.evaluation.counting import Tally

RANDOM_SEEDS = 10  # of the random filter; its figures are their mean
SENDS = ("features", "frames")
Flags = NDArray[np.bool_]
Numbers = NDArray[np.float64]
Progress = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class EdgeSide:
    """What the edge says to N frames.

    codes: (N, T, C', H', W'), what would travel; scores: filter -> (S, N) for S seeds (1 for a filter that draws
    nothing); thresholds: filter -> its own threshold for each of them; mj: of head and exit, and encoder_mj: of the
    encoder, means per frame, modelled.
    """

    answers: list[Answer]
    codes: Spikes
    scores: dict[str, Numbers]
    thresholds: dict[str, list[float]]
    mj: float
    encoder_mj: float

    def right(self, truth: Sequence[str]) -> Flags:
        """Whether each answer is the true label."""
        return _right(self.answers, truth)


@dataclass(frozen=True, eq=False)
class CloudSide:
    """What the cloud says to N frames if every one of them goes up, and what that costs.

    standing: the answer that stands then (`ecc_device.results.choose`); bytes_up: of each frame as the wire's codec
    packs it, without the message around it, (N,); bytes_down: of one answer's logits; upload_mj: what the edge spends
    on encoding one, modelled; link_mj: what its radio spends, (N,), assumed; mj: of one answer, modelled.
    """

    answers: list[Answer]
    standing: list[Answer]
    bytes_up: Numbers
    bytes_down: int
    upload_mj: float
    link_mj: Numbers
    mj: float


@dataclass(frozen=True, eq=False)
class Observed:
    """Both sides on the same frames. Flags (N,): edge alone, cloud alone, and what stands if the frame goes up."""

    edge: EdgeSide
    cloud: CloudSide
    edge_right: Flags
    cloud_right: Flags
    standing_right: Flags


def compare_answers(edge: EdgeSide, cloud: CloudSide, truth: Sequence[str]) -> Observed:
    """Both sides beside the true labels."""
    return Observed(edge, cloud, edge.right(truth), _right(cloud.answers, truth), _right(cloud.standing, truth))


def check_pair(model: EdgeModel, cloud: CloudModel, send: str, encoder: int = 0) -> None:
    """`IncompatibleFeatures`: the cloud cannot read the edge's spikes; `SourceError`: it cannot be sent that way."""
    if send not in SENDS:
        raise SourceError(f"nothing is sent as '{send:.40}'; choose one of: {', '.join(SENDS)}")
    if send == "frames" and not cloud.reads_frames:
        raise SourceError(f"{cloud.path}: this cloud has no teacher for frames; send features")
    prefix = plain_id(model.program.features_ids[encoder])
    if send == "features" and prefix not in cloud.encoders:
        raise IncompatibleFeatures(prefix.hex(), [known.hex() for known in cloud.encoders])


def ask_edge(model: EdgeModel, frames: Pixels, told: Progress) -> EdgeSide:
    """The edge's answers, and every filter's score. `FrameError`: frames that the network cannot take."""
    known = Known(model, NumpyEngine(model.program))
    filters = {name: _seeded(name, known) for name in FILTERS}
    scores: dict[str, list[list[float]]] = {name: [[] for _ in made] for name, made in filters.items()}
    program, tally = BatchedProgram(model.program), Tally()
    answers: list[Answer] = []
    codes = []
    for chunk in in_chunks(frames):
        outputs = program.run(chunk, tally.watch)
        for split, logits in zip(outputs.split, outputs.logits.tolist(), strict=True):
            answer = make_answer(logits, model.labels, model.temperature)
            seen = Evidence(len(answers), logits, model.temperature, answer.probabilities, split)
            for name, made in filters.items():
                for row, filter_ in zip(scores[name], made, strict=True):
                    row.append(filter_.score(seen))
            answers.append(answer)
        codes.append(outputs.code)
        told(len(answers) / len(frames))
    modelled = sections_mj(tally.operations(len(frames)))
    return EdgeSide(
        answers,
        np.concatenate(codes),
        {name: np.array(rows) for name, rows in scores.items()},
        {name: [filter_threshold(filter_, known) for filter_ in made] for name, made in filters.items()},
        modelled["head"] + modelled["exit"],
        modelled["encoder"],
    )


def ask_cloud(
    model: EdgeModel, cloud: CloudModel, edge: EdgeSide, frames: Pixels, send: str, told: Progress
) -> CloudSide:
    """The cloud's answers to the edge's codes, or to the frames as the edge's size has them. Errors: `check_pair`."""
    check_pair(model, cloud, send)
    if send == "features":
        _, table = agreed(model.program.features_id, model.rates, cloud.encoders)
        sizes = [len(encode_spikes(code, table)) for code in edge.codes]

        def run(rows: slice) -> Logits:
            return cloud.features(list(edge.codes[rows]))
    else:
        shown = [fit(frame, model.program.input) for frame in frames]
        sizes = [len(encode_pixels(frame)) for frame in shown]

        def run(rows: slice) -> Logits:
            return cloud.frames([fit(frame, cloud.frame) for frame in shown[rows]])

    answers: list[Answer] = []
    for start in range(0, len(frames), CHUNK):
        answers += [make_answer(row, cloud.labels, 1.0) for row in run(slice(start, start + CHUNK)).tolist()]
        told(len(answers) / len(frames))
    bytes_down = LOGIT_BYTES * len(cloud.labels)
    return CloudSide(
        answers,
        [
            theirs if choose(own, theirs)[0] == "cloud" else own
            for own, theirs in zip(edge.answers, answers, strict=True)
        ],
        np.array(sizes, np.float64),
        bytes_down,
        edge.encoder_mj if send == "features" else 0.0,
        np.array([link_mj(size, bytes_down) for size in sizes]),
        energy_mj(dense_macs(lambda: run(slice(1))), CONSTANTS["mac"].value),
    )


def _seeded(name: str, known: Known) -> list[Filter]:
    return [make_filter(name, known, seed) for seed in range(RANDOM_SEEDS if name == "random" else 1)]


def _right(answers: Sequence[Answer], truth: Sequence[str]) -> Flags:
    return np.array([answer.label == label for answer, label in zip(answers, truth, strict=True)], np.bool_)
