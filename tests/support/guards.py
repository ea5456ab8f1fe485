"""Edge models in memory, without torch, whose guard rows a test writes down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecc_device.engines import NumpyEngine
from ecc_device.evidence import Known
from ecc_model import bits
from ecc_model.modelfile import EdgeModel, GuardSet, Manifest
from ecc_model.program import Program
from support.programs import small_program

PROGRAM = small_program()  # split point (2, 4, 4, 4): rows of 128 bits, three classes


def row(*on: int) -> NDArray[np.uint8]:
    """A packed row with these bits set."""
    spikes = np.zeros(PROGRAM.split_shape, np.bool_)
    spikes.reshape(-1)[list(on)] = True
    return np.frombuffer(bits.pack(spikes), np.uint8)


def edge_model(guard: GuardSet, *, threshold: float = 0.5, program: Program = PROGRAM) -> EdgeModel:
    """A model that was never written to a file."""
    spec = program.input
    manifest = Manifest(
        format=1,
        kind="edge",
        labels=[f"class {index}" for index in range(program.classes)],
        temperature=1.0,
        threshold=threshold,
        encoders=[],
        frame=[spec.steps, spec.channels, spec.height, spec.width],
        network={},
    )
    return EdgeModel(Path("vgg9.pt"), "", manifest, program, guard)


def guarded(
    replayed: Sequence[tuple[int, NDArray[np.uint8]]], judging: Sequence[tuple[int, NDArray[np.uint8]]] = ()
) -> Known:
    """Known rows: (label, packed row) each."""
    both = [*replayed, *judging]
    guard = GuardSet(
        np.stack([packed for _, packed in both]),
        np.array([label for label, _ in both], np.int32),
        (np.arange(len(both)) >= len(replayed)).astype(np.uint8),
    )
    model = edge_model(guard)
    return Known(model, NumpyEngine(model.program))
