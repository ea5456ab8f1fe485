"""One update from job to candidate: learn, make integers, recalibrate, judge. Runs in the learner's process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ecc_device.calibration import expected_calibration_error, fit_temperature, fit_threshold
from ecc_device.engines import NumpyEngine
from ecc_device.learning.gate import Exam, decide
from ecc_device.learning.job import Job, Outcome
from ecc_device.learning.lwf import Lessons, learn
from ecc_device.learning.recipes import LEARNERS
from ecc_model import bits
from ecc_model.bits import Spikes
from ecc_model.modelfile import EdgeModel, GuardSet, read_edge
from ecc_model.nets.checkpoint import load_edge, save_edge
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_section
from ecc_model.numerics import normalized_entropy, softmax
from ecc_model.program import Program

REPLAY_PER_NEW_CLASS = 10  # learnt rows of a new class that join the guard set, so that it is not forgotten later
PROBE_ROWS = 4
Logits = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Taught:
    """A candidate in memory: the integer program, the grown guard set, and how it was calibrated."""

    net: Any  # SpikingVgg9 with the learnt exit
    program: Program
    guard: GuardSet
    temperature: float
    threshold: float


def teach(job: Job, arrays: dict[str, NDArray[Any]], progress: Callable[[float], None]) -> Taught:
    """Learn the job's rows. Held-out rows are never learnt from: they calibrate, with the guard's judging half."""
    model = read_edge(job.model)
    net = load_edge(Path(job.model), Lif)
    held = arrays["held"].astype(np.bool_)
    guard, judge = model.guard, model.guard.judge.astype(np.bool_)
    lessons = Lessons(
        unpack_rows(arrays["bits"][~held], model.program),
        np.array(arrays["logits"][~held]),
        unpack_rows(guard.bits[~judge], model.program),
        guard.labels[~judge].astype(np.int64),
    )
    net.exit = learn(net.exit, lessons, LEARNERS[job.learner], job.seed, progress)
    net.config = msgspec.structs.replace(net.config, classes=len(job.labels))
    old = model.program
    program = Program(old.input, old.head, old.encoder, compile_section(net.exit, steps=old.steps))
    guard = grow_guard(guard, arrays, len(model.labels))
    judging = guard.judge.astype(np.bool_)
    logits = exit_logits(program, guard.bits[judging])
    labels = guard.labels[judging].tolist()
    temperature = fit_temperature(logits.tolist(), labels)
    threshold = fit_threshold([normalized_entropy(softmax(row, temperature)) for row in logits.tolist()])
    return Taught(net, program, guard, temperature, threshold)


def grow_guard(guard: GuardSet, arrays: dict[str, NDArray[Any]], old_classes: int) -> GuardSet:
    """The guard set with this update's held-out rows as judges, and some learnt rows of each new class to replay."""
    labels = arrays["logits"].argmax(axis=1).astype(np.int32)
    held = arrays["held"].astype(np.bool_)
    new = labels >= old_classes
    replay = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels[new]):
        replay[np.flatnonzero((labels == label) & ~held)[:REPLAY_PER_NEW_CLASS]] = True
    joining = (held & new) | replay
    return GuardSet(
        np.concatenate([guard.bits, arrays["bits"][joining]]),
        np.concatenate([guard.labels, labels[joining]]),
        np.concatenate([guard.judge, held[joining].astype(np.uint8)]),
    )


def judge(job: Job, arrays: dict[str, NDArray[Any]], taught: Taught) -> tuple[bool, str, dict[str, Any]]:
    """The gate's decision, with calibration error and threshold before and after."""
    model = read_edge(job.model)
    judging = model.guard.judge.astype(np.bool_)
    known, known_labels = model.guard.bits[judging], model.guard.labels[judging].astype(np.int64)
    held = arrays["held"].astype(np.bool_)
    held_labels = arrays["logits"][held].argmax(axis=1)
    before, after = exit_logits(model.program, known), exit_logits(taught.program, known)
    exam = Exam(
        before.argmax(axis=1) == known_labels,
        after.argmax(axis=1) == known_labels,
        known_labels,
        _predict(model.program, arrays["bits"][held]) == held_labels,
        _predict(taught.program, arrays["bits"][held]) == held_labels,
    )
    accepted, reason, figures = decide(exam, list(model.labels))
    figures |= {
        "rows": len(held),
        "new_classes": job.labels[len(model.labels) :],
        "ece_before": round(_ece(before, model.temperature, known_labels), 4),
        "ece_after": round(_ece(after, taught.temperature, known_labels), 4),
        "temperature": [model.temperature, taught.temperature],
        "threshold": [model.threshold, taught.threshold],
    }
    return accepted, reason, figures


def make_candidate(
    folder: Path, job: Job, arrays: dict[str, NDArray[Any]], progress: Callable[[float], None]
) -> Outcome:
    """Teach, judge and write `candidate.pt`."""
    taught = teach(job, arrays, progress)
    accepted, reason, figures = judge(job, arrays, taught)
    model = read_edge(job.model)
    path = folder / "candidate.pt"
    save_edge(
        path,
        taught.net,
        taught.program,
        taught.guard,
        labels=job.labels,
        temperature=taught.temperature,
        threshold=taught.threshold,
        provenance=learnt_provenance(model, job),
        rates=model.rates,
    )
    candidate = read_edge(path)
    probe = exit_logits(candidate.program, probe_rows(candidate.guard))
    return Outcome(accepted=accepted, reason=reason, sha256=candidate.sha256, figures=figures, probe=probe.tolist())


def learnt_provenance(model: EdgeModel, job: Job) -> dict[str, str]:
    """Where a candidate comes from: its parent's provenance, and this update."""
    return model.manifest.provenance | {"parent": model.sha256, "learner": job.learner, "rows": str(len(job.row_ids))}


def probe_rows(guard: GuardSet) -> NDArray[np.uint8]:
    """The first judging rows, for the bit-for-bit check after a swap."""
    return guard.bits[guard.judge.astype(np.bool_)][:PROBE_ROWS]


def exit_logits(program: Program, rows: NDArray[np.uint8]) -> Logits:
    """Logits (R, N) of packed split-point rows uint8 (R, bytes)."""
    engine = NumpyEngine(program)
    logits = [engine.exit(spikes) for spikes in unpack_rows(rows, program)]
    return np.stack(logits) if logits else np.zeros((0, program.classes), np.float32)


def unpack_rows(rows: NDArray[np.uint8], program: Program) -> Spikes:
    """Packed rows uint8 (R, bytes) to spikes (R, T, C, H, W)."""
    spikes = np.zeros((len(rows), *program.split_shape), np.bool_)
    for index, row in enumerate(rows):
        spikes[index] = bits.unpack(row.tobytes(), program.split_shape)
    return spikes


def _predict(program: Program, rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.asarray(exit_logits(program, rows).argmax(axis=1), np.int64)


def _ece(logits: Logits, temperature: float, labels: NDArray[np.int64]) -> float:
    return expected_calibration_error([softmax(row, temperature) for row in logits.tolist()], labels.tolist())
