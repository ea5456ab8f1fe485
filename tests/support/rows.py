"""Rows in a store as if they had gone up and been answered."""

from __future__ import annotations

import numpy as np

from ecc_device.store import Store
from ecc_model.modelfile import labels_id
from ecc_model.program import Program
from support.models import DIGITS, class_rows

UPLOADS = [6, 7, 8, 9] * 30 + [0, 1, 2, 3, 4, 5] * 4  # enough for an update that the gate accepts


def fill_answered(store: Store, program: Program, labels: list[int] = UPLOADS) -> None:
    """Rows of `class_rows` with the cloud's right answers."""
    features = bytes.fromhex(program.features_id)
    store.put_labels(labels_id(DIGITS), DIGITS)
    for bits, label in zip(class_rows(program, labels, seed=3), labels, strict=True):
        logits = np.zeros(len(DIGITS), "<f4")
        logits[label] = 6.0
        row = store.add(0.0, features, bits, "0")
        assert store.answer(row, logits.tobytes(), labels_id(DIGITS), 1.0) == "stored"
