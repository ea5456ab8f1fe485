"""Files of golden vectors, read and written without torch: what devices and other processors replay."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecc_model.frames import Pixels
from ecc_model.program import Program, from_records, to_records

FOLDER = Path(__file__).parents[1] / "golden" / "program"


@dataclass(frozen=True)
class Golden:
    """A program, a frame, and what they must give: `vectors` holds spikes and membranes of each layer, and logits."""

    program: Program
    frame: Pixels
    features_id: str
    vectors: dict[str, NDArray[np.generic]]

    def code(self, encoder: int) -> NDArray[np.generic]:
        """The spikes that travel from one of the program's encoders."""
        section = f"others.{encoder - 1}" if encoder else "encoder"
        return self.vectors[f"{section}.{len(self.program.encoders[encoder]) - 1}.spikes"]


def save(golden: Golden, path: Path) -> None:
    """Write a golden file."""
    spec, tensors = to_records(golden.program)
    entries = {f"tensor/{name}": tensor for name, tensor in tensors.items()}
    entries |= {f"vector/{name}": vector for name, vector in golden.vectors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        spec=np.array(json.dumps(spec)),
        features_id=np.array(golden.features_id),
        frame=golden.frame,
        **entries,
    )


def load(path: Path) -> Golden:
    """Read a golden file; nothing but numpy and `from_records` is involved."""
    with np.load(path, allow_pickle=False) as stored:
        parts: dict[str, dict[str, NDArray[np.generic]]] = {"tensor": {}, "vector": {}}
        for name in stored.files:
            kind, _, rest = name.partition("/")
            if rest:
                parts[kind][rest] = stored[name]
        program = from_records(json.loads(str(stored["spec"])), parts["tensor"])
        return Golden(program, stored["frame"], str(stored["features_id"]), parts["vector"])
