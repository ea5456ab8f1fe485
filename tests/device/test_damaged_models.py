"""Ten thousand damaged model files whose hashes are right: refused in one line, or run; the process lives."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ecc_device.engines import make_engine
from ecc_model.errors import DeviceError, ModelError
from ecc_model.frames import fit
from ecc_model.modelfile import read_edge

if TYPE_CHECKING:
    from support.models import TinyModels

COUNT = 10_000
RECORDS = ("program.safetensors", "guard.safetensors", "manifest.json")


def extras(path: Path) -> dict[str, bytes]:
    """What a model file holds for devices, by name."""
    with zipfile.ZipFile(path) as archive:
        return {Path(name).name: archive.read(name) for name in archive.namelist() if "/extra/" in name}


def damaged(rng: np.random.Generator, data: bytes) -> bytes:
    """Other bits, a piece cut off, a piece twice, or a piece of zeros; mostly near the start, where headers are."""
    changed = bytearray(data)
    reach = len(data) if rng.random() < 0.3 else min(len(data), 1500)
    first, length = int(rng.integers(reach)), int(rng.integers(1, 64))
    match rng.integers(4):
        case 0:
            for place in rng.integers(reach, size=rng.integers(1, 4)):
                changed[place] ^= 1 << int(rng.integers(8))
        case 1:
            del changed[first : first + length]
        case 2:
            changed[first:first] = changed[first : first + length]
        case _:
            changed[first : first + length] = bytes(len(changed[first : first + length]))
    return bytes(changed)


def write(path: Path, records: dict[str, bytes], true: dict[str, bytes]) -> None:
    """A model file of these records; its manifest vouches for all of them."""
    manifest = records["manifest.json"]
    for name, data in records.items():
        manifest = manifest.replace(_digest(true[name]), _digest(data))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model/data.pkl", b"")
        for name, data in (records | {"manifest.json": manifest}).items():
            archive.writestr(f"model/extra/{name}", data)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_damaged_model_files_are_refused_or_run(models: TinyModels, tmp_path: Path) -> None:
    rng, true, path = np.random.default_rng(0), extras(models.edge), tmp_path / "damaged.pt"
    refused: list[str] = []
    for _ in range(COUNT):
        victim = str(rng.choice(RECORDS, p=(0.6, 0.1, 0.3)))
        write(path, true | {victim: damaged(rng, true[victim])}, true)
        try:
            program = read_edge(path).program
            engine = make_engine(None, program)
        except (ModelError, DeviceError) as error:
            refused.append(str(error))
            continue
        split = engine.head(fit(np.full((16, 16, 1), 100, np.uint8), program.input))
        engine.encode(split)
        assert engine.exit(split).shape == (program.classes,)
    assert 0.5 * COUNT < len(refused) < COUNT
    told = (f"{path}: ", "this program is too large for the event engine; ")
    assert [text for text in refused if "\n" in text or not text.startswith(told)] == []


def test_an_undamaged_copy_is_read(models: TinyModels, tmp_path: Path) -> None:
    true = extras(models.edge)
    write(tmp_path / "copy.pt", true, true)
    assert read_edge(tmp_path / "copy.pt").program.features_id == models.program.features_id
