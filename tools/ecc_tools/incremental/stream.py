"""The honest protocol: the learner sees only what the filter sent up, in the stream's order, with the cloud's answers.

One pass; an update after so many frames; the gate decides. Frames that no model learns from judge it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecc_model.modelfile import EdgeModel
from ecc_tools.collaboration import curve, uploads_needed
from ecc_tools.incremental.errors import IncrementalError
from ecc_tools.incremental.scenes import Scene, answer, judge
from ecc_tools.incremental.scores import percent
from ecc_tools.incremental.updating import learn_answers, learn_truth
from ecc_tools.report_record import fewer
from ecc_tools.training import Progress


@dataclass(frozen=True, eq=False)
class Streams:
    """Frames of all classes in segments that pass one after the other, and others to judge with.

    names: all classes, in the order in which a teacher that knows the truth would add them.
    """

    segments: list[Scene]
    held: Scene
    names: tuple[str, ...]


def make_streams(scene: Scene, names: tuple[str, ...], frames: int, updates: int, seed: int) -> Streams:
    """Shuffle a scene into segments of `frames` frames; the rest judges. `IncrementalError`: nothing would be left."""
    order, used = np.random.default_rng(seed).permutation(len(scene)), frames * updates
    if used >= len(scene):
        raise IncrementalError(
            f"{updates} updates of {frames} frames leave none of {len(scene)} to judge with; ask for fewer of --frames"
        )
    segments = [scene.at(order[start : start + frames]) for start in range(0, used, frames)]
    return Streams(segments, scene.at(order[used:]), names)


def run_stream(
    base: EdgeModel, streams: Streams, learner: str, folder: Path, seed: int, told: Progress
) -> dict[str, Any]:
    """One learner on one stream; `folder`, new, keeps the candidates. All figures are of the frames that judge.

    `after` each update, and of its `candidate` also where the gate turned it down. Beside it the same learner is taught
    every frame of the same segments by the truth, and never turned down: `bound`.
    """
    model = bound = base
    waiting = streams.held.at(np.zeros(0, np.int64))
    before = state(base, streams.held, base, None)
    updates = []
    for number, segment in enumerate(streams.segments, 1):
        passed, sent = _pass(model, segment)
        decided = learn_answers(model, _join(waiting, sent), learner, seed, folder / f"stream-{number}")
        model, waiting = decided.model, decided.waiting
        told((number - 0.5) / len(streams.segments))
        bound = learn_truth(bound, segment, streams.names, learner, seed, folder / f"bound-{number}")
        after, best = (state(one, streams.held, base, before) for one in (model, bound))
        candidate = None if decided.candidate is None else state(decided.candidate, streams.held, base, before)
        updates.append(
            {
                "stream": passed,
                "update": decided.record,
                "after": after,
                "candidate": candidate,
                "bound": best,
                "ratio": ratio(after, best),
            }
        )
        told(number / len(streams.segments))
    return {"before": before, "updates": updates}


def state(model: EdgeModel, held: Scene, base: EdgeModel, before: dict[str, Any] | None) -> dict[str, Any]:
    """What a model is worth on the frames that judge, in percent and points; `before` is the base model's state."""
    answers = judge(answer(model, held), held)
    line, old = curve(answers, model.threshold), np.isin(held.truth, base.labels)
    together = float(line.accuracy[line.operating])
    needed = uploads_needed(line, together if before is None else before["collaborative_accuracy"] / 100.0)
    found = {
        "accuracy": percent(answers.edge_right),
        "old_accuracy": percent(answers.edge_right[old]),
        "new_accuracy": percent(answers.edge_right[~old]),
        "upload_rate": 100.0 * line.operating / len(held),
        "collaborative_accuracy": 100.0 * together,
        "uploads_needed": needed,
        "judged": len(held),
    }
    if before is not None:
        found |= {
            "gain": found["accuracy"] - before["accuracy"],
            "old_lost": before["old_accuracy"] - found["old_accuracy"],
            "fewer_uploads": fewer(before["uploads_needed"], needed),
        }
    return found


def ratio(after: dict[str, Any], bound: dict[str, Any]) -> float | None:
    """The share of the bound's gain; None where the truth gains nothing."""
    return after["gain"] / bound["gain"] if bound["gain"] > 0 else None


def _pass(model: EdgeModel, segment: Scene) -> tuple[dict[str, Any], Scene]:
    """What happened while the segment passed, and the frames of it that went up."""
    own = answer(model, segment)
    answers = judge(own, segment)
    up = answers.entropy > model.threshold
    cloud = np.array([a.label for a in segment.cloud])[up] == segment.truth[up]
    passed = {
        "frames": len(segment),
        "uploads": int(up.sum()),
        "upload_rate": percent(up),
        "accuracy": percent(answers.edge_right),
        "collaborative_accuracy": percent(np.where(up, answers.sent_right, answers.edge_right)),
        "cloud_accuracy_of_uploads": percent(cloud),
    }
    return passed, segment.at(up)


def _join(first: Scene, second: Scene) -> Scene:
    both = [np.concatenate([getattr(part, name) for part in (first, second)]) for name in ("rows", "truth", "logits")]
    return Scene(both[0], both[1], second.labels, both[2])
