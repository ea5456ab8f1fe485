"""The same classes under another light: before, while frames pass, and after one update from what went up.

Beside it the same learner is told the truth of the same rows, and never turned down: what could be won back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecc_cloud.model import CloudModel
from ecc_model.frames import Pixels
from ecc_model.modelfile import EdgeModel
from ecc_tools.incremental.corruptions import corrupt
from ecc_tools.incremental.errors import IncrementalError
from ecc_tools.incremental.scenes import Flags, Names, Scene, answer, ask, judge, see
from ecc_tools.incremental.scores import percent
from ecc_tools.incremental.updating import learn_answers, learn_truth
from ecc_tools.training import Progress


@dataclass(frozen=True, eq=False)
class Weather:
    """Frames that pass, and others that judge, both changed alike; and those that judge as they were."""

    passing: Scene
    frames: Pixels  # of the passing ones, for a cloud that is sent images
    changed: Scene
    clean: Scene


def make_weather(
    model: EdgeModel, frames: Pixels, truth: Names, kind: str, strength: int, count: int, seed: int, told: Progress
) -> Weather:
    """`count` frames to pass and as many to judge, without a frame in both. `IncrementalError`: there are too few."""
    if 2 * count > len(frames):
        raise IncrementalError(
            f"{len(frames)} frames of known classes, {2 * count} are needed; ask for fewer: --frames"
        )
    order = np.random.default_rng(seed).permutation(len(frames))
    passing, judging = order[:count], order[count : 2 * count]
    shown = [corrupt(frames[rows], kind, strength, 2 * seed + part) for part, rows in enumerate((passing, judging))]

    def third(number: int) -> Progress:
        return lambda share: told((number + share) / 3)

    return Weather(
        see(model, shown[0], truth[passing], third(0)),
        shown[0],
        see(model, shown[1], truth[judging], third(1)),
        see(model, frames[judging], truth[judging], third(2)),
    )


def run_drift(
    model: EdgeModel, cloud: CloudModel, weather: Weather, send: str, learner: str, seed: int, folder: Path
) -> dict[str, Any]:
    """One learner, one way to send, one update; `folder`, new, keeps the candidates.

    `after` it, and of its `candidate` also where the gate turned it down.
    """
    up = judge(answer(model, weather.passing), weather.passing).entropy > model.threshold
    sent = ask(model, cloud, weather.passing.at(up), weather.frames[up], send, lambda share: None)
    before = _state(model, weather)
    decided = learn_answers(model, sent, learner, seed, folder / "cloud")
    after = _state(decided.model, weather)
    bound = _state(learn_truth(model, sent, model.labels, learner, seed, folder / "truth"), weather)
    return {
        "during": _passing(model, weather.passing, sent, up),
        "update": decided.record,
        "before": before,
        "after": after,
        "candidate": None if decided.candidate is None else _state(decided.candidate, weather),
        "bound": bound,
        "won_back": won_back(before, after, bound),
        "clean_lost": before["clean_accuracy"] - after["clean_accuracy"],
    }


def won_back(before: dict[str, float], after: dict[str, float], bound: dict[str, float]) -> float | None:
    """Share of what the truth wins back; None where that is nothing."""
    most = bound["accuracy"] - before["accuracy"]
    return (after["accuracy"] - before["accuracy"]) / most if most > 0 else None


def _passing(model: EdgeModel, scene: Scene, sent: Scene, up: Flags) -> dict[str, Any]:
    """Of the frames that passed: `sent` are those that went up, with the cloud's answers."""
    own = judge(answer(model, scene), scene)
    theirs = judge(answer(model, sent), sent)
    standing = own.edge_right.copy()
    standing[up] = theirs.sent_right
    cloud = np.array([told.label for told in sent.cloud], np.str_) == sent.truth
    return {
        "accuracy": percent(own.edge_right),
        "collaborative_accuracy": percent(standing),
        "cloud_accuracy_of_uploads": percent(cloud),
        "upload_rate": percent(up),
    }


def _state(model: EdgeModel, weather: Weather) -> dict[str, float]:
    """On the frames that judge: as they became, and as they were."""
    changed, clean = (judge(answer(model, scene), scene) for scene in (weather.changed, weather.clean))
    return {
        "accuracy": percent(changed.edge_right),
        "upload_rate": percent(changed.entropy > model.threshold),
        "clean_accuracy": percent(clean.edge_right),
        "clean_upload_rate": percent(clean.entropy > model.threshold),
    }
