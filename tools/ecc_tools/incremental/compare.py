"""Comparisons of learners over seeds: what is there already is not measured again."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecc_cloud.model import CloudModel
from ecc_device.learning.recipes import LEARNERS
from ecc_model.modelfile import EdgeModel, read_edge
from ecc_tools.assembling import CLOUD_FILE
from ecc_tools.augmentation import Augmentation
from ecc_tools.bench.timing import machine
from ecc_tools.collaborate.observe import SENDS, check_pair
from ecc_tools.data.parts import DataSet, Part
from ecc_tools.data.tasks import parse_tasks
from ecc_tools.incremental.base import open_base
from ecc_tools.incremental.drift import make_weather, run_drift
from ecc_tools.incremental.errors import IncrementalError
from ecc_tools.incremental.protocol import check_base, run_protocol, seen_beyond
from ecc_tools.incremental.records import Record, Records
from ecc_tools.incremental.scenes import Flags, Names, Scene, ask, see
from ecc_tools.incremental.scores import over_seeds
from ecc_tools.incremental.stream import make_streams, run_stream
from ecc_tools.incremental.whole import WHOLE, Shown, run_whole
from ecc_tools.runs import file_sha256
from ecc_tools.stages import Stage

AUGMENTATIONS = {"digits": "digits"}  # data -> how `lwf-full` sees its frames; all others as below
AUGMENTATION = "crop-flip"


@dataclass(frozen=True)
class Asked:
    """What is compared, on which frames, and where the results go."""

    data: DataSet
    part: str  # "test" to report, "validation" to choose
    learners: tuple[str, ...]
    seeds: int
    out: Path

    def __post_init__(self) -> None:
        """`IncrementalError` for a learner that there is not."""
        known = (*LEARNERS, WHOLE)
        unknown = [name for name in self.learners if name not in known]
        if unknown or not self.learners:
            raise IncrementalError(f"no learner is called '{(unknown or [''])[0]}'; known are {', '.join(known)}")

    def judged(self) -> Part:
        """The part that judges."""
        return self.data.test() if self.part == "test" else self.data.training()[1]

    def truth(self, part: Part) -> Names:
        """The names of a part's classes, frame by frame."""
        return np.array(self.data.names)[part.labels]


def compare_protocol(models: Path, asked: Asked, split: str, stage: Stage) -> Record:
    """Every learner on the tasks of `split`, with every seed. Errors: `open_base`, `check_base`, `Records`."""
    data = asked.data
    base = open_base(models, data, asked.out, stage("base model"))
    tasks = [[data.names[label] for label in task] for task in parse_tasks(split, len(data.names))]
    check_base(base, tasks, split)
    records = Records(asked.out, {"protocol": split, "model": base.sha256, "data": data.name, "part": asked.part})
    missing = _missing(records, asked)
    if missing:
        learn, judge = (_shown(asked, part) for part in (data.training()[0], asked.judged()))
        learn = learn.of([name for task in tasks[1:] for name in task])
        rows = see(base, learn.frames, learn.truth, stage("frames to learn"))
        test = see(base, judge.frames, judge.truth, stage("frames to judge with"))
        augmentation = Augmentation(AUGMENTATIONS.get(data.name, AUGMENTATION))
    for key in missing:
        learner, seed = key["learner"], key["seed"]
        told = stage(f"{learner}, seed {seed}")
        if learner == WHOLE:
            found = run_whole(base, tasks, learn, judge, augmentation, seed, told)
        else:
            with tempfile.TemporaryDirectory() as folder:
                found = run_protocol(base, tasks, rows, test, learner, seed, Path(folder), told)
        records.add(key, {"n": len(test), **found})
    return _summary(records, asked, ("learner",)) | {"seen_beyond_base": seen_beyond(base, tasks[0])}


def compare_stream(models: Path, asked: Asked, frames: int, updates: int, stage: Stage) -> Record:
    """Every learner on streams of all classes, with every seed. Errors: as above, and those of `check_pair`."""
    base = open_base(models, asked.data, asked.out, stage("base model"))
    path = (models if models.is_dir() else models.parent) / CLOUD_FILE
    cloud = _cloud(base, path, asked)
    records = Records(asked.out, _settings(base, path, asked) | {"stream": frames, "updates": updates})
    missing = _missing(records, asked)
    if missing:
        judge = _shown(asked, asked.judged())
        scene = see(base, judge.frames, judge.truth, stage("frames"))
        scene = ask(base, cloud, scene, judge.frames, "features", stage("cloud"))
        scene = scene.at(_foreign(base, scene))
    for key in missing:
        streams = make_streams(scene, asked.data.names, frames, updates, key["seed"])
        told = stage(f"{key['learner']}, seed {key['seed']}")
        with tempfile.TemporaryDirectory() as folder:
            records.add(key, run_stream(base, streams, key["learner"], Path(folder), key["seed"], told))
    return _summary(records, asked, ("learner",))


def compare_drift(
    edge: Path, path: Path, asked: Asked, kinds: Sequence[str], strengths: Sequence[int], frames: int, stage: Stage
) -> Record:
    """Every learner under every corruption, sent as features and as images. Errors: as above."""
    base = read_edge(edge)
    cloud = _cloud(base, path, asked)
    sends = [send for send in SENDS if send == "features" or cloud.reads_frames]
    records = Records(asked.out, _settings(base, path, asked) | {"drift": frames})
    known = _shown(asked, asked.judged()).of(base.labels)
    keys = ("kind", "strength", "send", "learner")
    for seed in range(asked.seeds):
        for kind, strength in ((kind, strength) for kind in kinds for strength in strengths):
            cases = [(kind, strength, send, learner) for send in sends for learner in asked.learners]
            wanted: list[Record] = [dict(zip(keys, case, strict=True)) | {"seed": seed} for case in cases]
            wanted = [key for key in wanted if records.find(**key) is None]
            if not wanted:
                continue
            told = stage(f"{kind}, strength {strength}, seed {seed}")
            weather = make_weather(base, known.frames, known.truth, kind, strength, frames, seed, told)
            for key in wanted:
                with tempfile.TemporaryDirectory() as folder:
                    found = run_drift(base, cloud, weather, key["send"], key["learner"], seed, Path(folder))
                records.add(key, {"n": frames, **found})
    return _summary(records, asked, keys)


def _missing(records: Records, asked: Asked) -> list[Record]:
    keys = [{"learner": learner, "seed": seed} for seed in range(asked.seeds) for learner in asked.learners]
    return [key for key in keys if records.find(**key) is None]


def _summary(records: Records, asked: Asked, keys: tuple[str, ...]) -> Record:
    """What the folder holds of the learners and seeds that were asked for, seeds together: a row for each of `keys`."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for row in records.rows:
        if row["learner"] in asked.learners and row["seed"] < asked.seeds:
            groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    rows = []
    for case, found in groups.items():
        figures = [{k: v for k, v in row.items() if k not in (*keys, "settings", "seed", "n")} for row in found]
        own = dict(zip(keys, case, strict=True)) | {"seeds": [row["seed"] for row in found]}
        rows.append(own | ({"n": found[0]["n"]} if "n" in found[0] else {}) | over_seeds(figures))
    return {"settings": records.settings, "rows": rows, "machine": machine()}


def _shown(asked: Asked, part: Part) -> Shown:
    return Shown(part.frames, asked.truth(part))


def _cloud(base: EdgeModel, path: Path, asked: Asked) -> CloudModel:
    if WHOLE in asked.learners:
        raise IncrementalError(f"{WHOLE} changes what the cloud reads; compare it on a protocol, by --split")
    cloud = CloudModel(path)
    check_pair(base, cloud, "features")
    return cloud


def _settings(base: EdgeModel, cloud: Path, asked: Asked) -> Record:
    return {"model": base.sha256, "cloud": file_sha256(cloud), "data": asked.data.name, "part": asked.part}


def _foreign(base: EdgeModel, scene: Scene) -> Flags:
    """Frames that are not in the model's guard set, whose rows come from the validation part."""
    guard = {row.tobytes() for row in base.guard.bits}
    return np.array([row.tobytes() not in guard for row in scene.rows], np.bool_)
