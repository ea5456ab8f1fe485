"""Edge and cloud together on labelled frames, for every threshold at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ecc_device.engines import NumpyEngine
from ecc_device.results import choose, make_answer
from ecc_model.frames import Pixels
from ecc_model.nets.checkpoint import load_cloud
from ecc_model.nets.neuron import Lif
from ecc_model.program import Program
from ecc_tools.demo_data import Curve, LearnerRow

Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Answers:
    """One model's answers to N frames, and which of them stand if every frame had gone up."""

    entropy: NDArray[np.float64]
    edge_right: NDArray[np.bool_]
    sent_right: NDArray[np.bool_]  # the answer that stands once the cloud has answered


class Frames:
    """Labelled frames with the cloud's answers to them, asked through the encoder once for all models.

    names: the labels' names; labels: (N,), indices into `names`.
    """

    def __init__(self, program: Program, cloud: Path, frames: Pixels, labels: Labels, names: tuple[str, ...]) -> None:
        engine = NumpyEngine(program)
        self.splits = [engine.head(frame) for frame in frames]
        self.truth = [names[label] for label in labels]
        codes = torch.from_numpy(np.stack([engine.encode(split) for split in self.splits])).transpose(0, 1).float()
        net, manifest = load_cloud(cloud, Lif)
        with torch.inference_mode():
            logits = (net.features(codes) / manifest.temperature).tolist()
        self.cloud = [make_answer(row, tuple(manifest.labels), 1.0) for row in logits]

    def ask(self, program: Program, labels: tuple[str, ...], temperature: float) -> Answers:
        """What a model with this program, these labels and this temperature answers."""
        engine = NumpyEngine(program)
        edge = [make_answer(engine.exit(split).tolist(), labels, temperature) for split in self.splits]
        pairs = list(zip(edge, self.cloud, self.truth, strict=True))
        return Answers(
            np.array([answer.entropy for answer in edge]),
            np.array([answer.label == truth for answer, _, truth in pairs]),
            np.array([(c if choose(e, c)[0] == "cloud" else e).label == truth for e, c, truth in pairs]),
        )


def curve(answers: Answers, threshold: float) -> Curve:
    """Collaborative accuracy with the k most ambiguous frames sent up, k from 0 to N."""
    order = np.argsort(-answers.entropy, kind="stable")
    gained = answers.sent_right[order].astype(np.int64) - answers.edge_right[order]
    right = answers.edge_right.sum() + np.concatenate([[0], np.cumsum(gained)])
    return Curve(right / len(order), int((answers.entropy > threshold).sum()))


def uploads_needed(curve: Curve, accuracy: float) -> int | None:
    """The fewest uploads that reach `accuracy`; None when no number does."""
    reached = np.flatnonzero(curve.accuracy >= accuracy - 1e-9)
    return int(reached[0]) if len(reached) else None


def learner_row(
    name: str,
    answers: Answers,
    known: NDArray[np.bool_],
    factory: Answers,
    threshold: float,
    rate_not_recalibrated: float,
    target: float,
) -> LearnerRow:
    """One line of the learners' table: a model's answers at its threshold, beside the factory model's."""
    line = curve(answers, threshold)
    lost = int(factory.edge_right[known].sum()) - int(answers.edge_right[known].sum())
    return LearnerRow(
        name,
        100.0 * float(answers.edge_right.mean()),
        100.0 * lost / int(known.sum()),
        100.0 * float((answers.entropy > threshold).mean()),
        100.0 * rate_not_recalibrated,
        100.0 * float(line.accuracy[line.operating]),
        uploads_needed(line, target),
    )
