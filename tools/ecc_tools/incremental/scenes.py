"""Labelled frames as a device's fixed front shows them to its exit: computed once, whatever the exit learns later."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ecc_cloud.model import CloudModel
from ecc_device.engines import make_engine
from ecc_device.learning.lesson import Logits, Packed, exit_logits
from ecc_device.results import Answer, choose, make_answer
from ecc_model import bits
from ecc_model.frames import Pixels, fit
from ecc_model.modelfile import EdgeModel
from ecc_tools.batched import CHUNK
from ecc_tools.collaboration import Answers
from ecc_tools.training import Progress

Names = NDArray[np.str_]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scene:
    """rows: uint8 (N, bytes), packed spikes at the cut; truth: (N,) names of the true classes.

    logits: (N, M), what the cloud that knows `labels` answers, calibrated; None where nobody asked it.
    """

    rows: Packed
    truth: Names
    labels: tuple[str, ...] = ()
    logits: Logits | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def at(self, chosen: Flags | NDArray[np.int64]) -> Scene:
        """Only the chosen frames, in that order."""
        logits = None if self.logits is None else self.logits[chosen]
        return replace(self, rows=self.rows[chosen], truth=self.truth[chosen], logits=logits)

    @cached_property
    def cloud(self) -> list[Answer]:
        """The cloud's answers; empty where nobody asked it."""
        return [] if self.logits is None else [make_answer(row, self.labels, 1.0) for row in self.logits.tolist()]


def see(model: EdgeModel, frames: Pixels, truth: Names, told: Progress) -> Scene:
    """What the model's head makes of frames (N, H, W, C), by the engine that a device runs."""
    engine = make_engine(None, model.program)
    packed = np.zeros((len(frames), len(bits.pack(np.zeros(model.program.split_shape, np.bool_)))), np.uint8)
    for index, frame in enumerate(frames):
        packed[index] = np.frombuffer(bits.pack(engine.head(frame)), np.uint8)
        told((index + 1) / len(frames))
    return Scene(packed, truth)


def ask(model: EdgeModel, cloud: CloudModel, scene: Scene, frames: Pixels, send: str, told: Progress) -> Scene:
    """The scene with the cloud's answers: to the codes of its spikes (`features`), or to its frames (`frames`)."""
    engine, found = make_engine(None, model.program), []
    for start in range(0, len(scene), CHUNK):
        part = slice(start, start + CHUNK)
        if send == "features":
            shape = model.program.split_shape
            found.append(cloud.features([engine.encode(bits.unpack(row.tobytes(), shape)) for row in scene.rows[part]]))
        else:
            found.append(cloud.frames([fit(fit(f, model.program.input), cloud.frame) for f in frames[part]]))
        told(min(1.0, (start + CHUNK) / len(scene)))
    none = np.zeros((0, len(cloud.labels)), np.float32)
    return replace(scene, labels=cloud.labels, logits=np.concatenate([none, *found]))


def answer(model: EdgeModel, scene: Scene) -> list[Answer]:
    """The model's own answers."""
    logits = exit_logits(model.program, scene.rows)
    return [make_answer(row, model.labels, model.temperature) for row in logits.tolist()]


def judge(own: list[Answer], scene: Scene) -> Answers:
    """A model's answers beside the truth; what stands if a frame goes up is its own where nobody asked the cloud."""
    theirs = scene.cloud or own
    standing = [c if choose(e, c)[0] == "cloud" else e for e, c in zip(own, theirs, strict=True)]
    return Answers(
        np.array([answer.entropy for answer in own]), _right(own, scene.truth), _right(standing, scene.truth)
    )


def right(model: EdgeModel, scene: Scene) -> Flags:
    """Whether the model names each frame's true class."""
    named = np.array(model.labels)[exit_logits(model.program, scene.rows).argmax(axis=1)]
    return np.asarray(named == scene.truth)


def _right(answers: list[Answer], truth: Names) -> Flags:
    return np.asarray(np.array([answer.label for answer in answers], np.str_) == truth)
