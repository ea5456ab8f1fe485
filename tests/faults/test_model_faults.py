"""Damaged and foreign model files at the command line: case 39 of the catalogue.

What `ecc_model.modelfile` finds wrong is tested in tests/model; here it is one line for a person, and exit code 1.
"""

from __future__ import annotations

import json
import random
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ecc_cloud import cli as cloud_cli
from ecc_device import cli as device_cli
from support.models import TinyModels
from support.processes import run

LENGTHS = 30
FLIPS = 100
Start = Callable[[Path], tuple[object, str]]


@pytest.fixture
def start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], recording: Callable[..., Path], tmp_path: Path
) -> Start:
    """Runs `ecc-device start` with a model in this process; its exit code and what it said."""
    source = recording(1, 1000.0, stays=False)

    def start(model: Path) -> tuple[object, str]:
        arguments = ["start", "--model", str(model), "--source", str(source), "--state", str(tmp_path / "state")]
        monkeypatch.setattr(sys, "argv", ["ecc-device", *arguments])
        with pytest.raises(SystemExit) as caught:
            device_cli.main()
        return caught.value.code, capsys.readouterr().err

    return start


def check_one_line(code: object, err: str, path: Path) -> None:
    assert code == 1
    assert err.startswith(f"error: {path}: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")


def test_a_model_cut_anywhere_is_one_line(models: TinyModels, tmp_path: Path, start: Start) -> None:
    data = models.edge.read_bytes()
    path = tmp_path / "cut.pt"
    for k in range(LENGTHS):
        path.write_bytes(data[: k * len(data) // LENGTHS])
        code, err = start(path)
        check_one_line(code, err, path)
        assert "not a usable model file" in err
    assert not (tmp_path / "state").exists()


def test_a_flipped_byte_is_one_line_or_changes_nothing(models: TinyModels, tmp_path: Path, start: Start) -> None:
    data = models.edge.read_bytes()
    with zipfile.ZipFile(models.edge) as archive:  # the records that a device reads, and the directory
        first = min(info.header_offset for info in archive.infolist() if "/extra/" in info.filename)
    chance = random.Random(39)
    path = tmp_path / "flipped.pt"
    refused = 0
    for _ in range(FLIPS):
        at = chance.randrange(first, len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ chance.randrange(1, 256)]) + data[at + 1 :])
        code, err = start(path)
        if code != 0:
            check_one_line(code, err, path)
            refused += 1
    assert FLIPS > refused > FLIPS // 2


def with_manifest(source: Path, target: Path, change: Callable[[dict[str, object]], object]) -> Path:
    """A copy of a model file with another manifest."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            blob = old.read(name)
            if name.endswith("extra/manifest.json"):
                manifest = json.loads(blob)
                change(manifest)
                blob = json.dumps(manifest).encode()
            new.writestr(name, blob)
    return target


def spoil_hashes(node: object) -> None:
    """Every 64 hex digits in a manifest become others."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in list(items):
        if isinstance(value, str) and len(value) == 64:
            node[key] = "0" * 64  # type: ignore[index]
        spoil_hashes(value)


def foreign(models: TinyModels, folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no edge model of this version, and the words that say why."""
    plain, text = folder / "plain.pt", folder / "text.pt"
    torch.save({"weight": torch.zeros(2)}, plain)
    text.write_text("not a model")
    return {
        "future": (with_manifest(models.edge, folder / "future.pt", lambda m: m.update(format=999)), "format 999"),
        "hash": (with_manifest(models.edge, folder / "hash.pt", spoil_hashes), "another hash than the manifest says"),
        "plain": (plain, "a PyTorch checkpoint without an integer program"),
        "kind": (models.cloud, "a model of kind 'cloud' where one of kind 'edge' is needed"),
        "text": (text, "not a usable model file"),
        "none": (folder / "none.pt", "no such model file"),
    }


def test_a_foreign_file_is_named_and_the_folder_stays_free(models: TinyModels, tmp_path: Path, start: Start) -> None:
    for path, words in foreign(models, tmp_path).values():
        code, err = start(path)
        check_one_line(code, err, path)
        assert words in err
    assert start(models.edge)[0] == 0


def test_the_installed_command_says_the_same(
    models: TinyModels, tmp_path: Path, recording: Callable[..., Path]
) -> None:
    source = recording(1, 1000.0, stays=False)
    state = tmp_path / "state"
    for path, words in foreign(models, tmp_path).values():
        done = run("ecc-device", "start", "--model", path, "--source", source, "--state", state)
        check_one_line(done.returncode, done.stderr, path)
        assert words in done.stderr
        assert done.stdout == ""


def test_a_damaged_cloud_model_is_one_line(
    models: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = models.cloud.read_bytes()
    chance = random.Random(40)
    path = tmp_path / "cloud.pt"
    future = with_manifest(models.cloud, tmp_path / "future.pt", lambda m: m.update(format=999))
    damaged = [data[: k * len(data) // LENGTHS] for k in range(LENGTHS)] + [future.read_bytes()]
    for _ in range(FLIPS):
        at = data.index(b"PK\x01\x02") + chance.randrange(2000)  # the directory: every byte counts
        damaged.append(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
    monkeypatch.setattr(cloud_cli, "_serve", lambda *_: None)  # what is read after all ends at once
    monkeypatch.setattr(sys, "argv", ["ecc-cloud", "start", "--model", str(path), "--broker", "mqtt://127.0.0.1:1"])
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(SystemExit) as caught:
            cloud_cli.main()
        err = capsys.readouterr().err
        if caught.value.code != 0:
            check_one_line(caught.value.code, err, path)
            refused += 1
    assert refused > LENGTHS
