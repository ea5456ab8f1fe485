"""Which model is active: the factory's file, or what the device has learnt since; all kept in the state folder."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ecc_device.store import Store, Version
from ecc_model.errors import DeviceError, ModelError, StoreError
from ecc_model.modelfile import EdgeModel, read_edge

ROW_IDS = "row_ids"  # among a candidate's figures until it is decided on: the rows that it learnt


def open_active(path: Path, store: Store, folder: Path, time_s: float) -> tuple[EdgeModel, int]:
    """The model to run, and its version number.

    That is the store's active version if it descends from the factory file at `path`, else the factory file itself,
    which becomes a version. A version found on trial died before it was confirmed: it is turned down.
    """
    factory = read_edge(path)
    discard_trial(store, folder, "the device stopped before the model was confirmed")
    active = store.active_version()
    if active is not None and _root(store, active).sha256 == factory.sha256:
        return load_version(active, folder), active.no
    return factory, install(store, folder, factory, None, {"reason": "factory model"}, time_s)


def install(
    store: Store, folder: Path, model: EdgeModel, parent: int | None, figures: dict[str, object], time_s: float
) -> int:
    """Copy a model into the state folder and make it active at once (a factory model needs no trial)."""
    no = add_model(store, folder, model, parent, figures, time_s)
    store.begin_trial(no)
    store.confirm(no)
    return no


def add_model(
    store: Store, folder: Path, model: EdgeModel, parent: int | None, figures: dict[str, object], time_s: float
) -> int:
    """Copy a model file into the state folder, durably, and record it as a candidate. `StoreError`: no room for it."""
    models = folder / "models"
    name = f"{model.sha256[:16]}.pt"
    partial = models / (name + ".partial")
    try:
        models.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(model.path, partial)
        _sync(partial)
        partial.replace(models / name)
        _sync(models)  # or a power cut could forget the new name, which the database will know
    except OSError as exc:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise StoreError(f"{models}: no model can be kept there ({exc.strerror}); free some space") from exc
    features = bytes.fromhex(model.program.features_id)
    return store.add_version(
        file=name, sha256=model.sha256, features_id=features, parent=parent, figures=figures, time_s=time_s
    )


def turn_down(store: Store, folder: Path, no: int, figures: Mapping[str, object]) -> None:
    """Reject a candidate or trial, and remove its file: no way leads back to it."""
    store.reject(no, {name: value for name, value in figures.items() if name != ROW_IDS})
    file = next(version.file for version in store.versions() if version.no == no)
    (folder / "models" / file).unlink(missing_ok=True)


def discard_trial(store: Store, folder: Path, reason: str) -> None:
    """Turn down a model that is on trial and was never confirmed, if there is one; its rows may be learnt again."""
    trial = store.trial_version()
    if trial is not None:
        figures = {name: value for name, value in trial.figures.items() if name != "last_row"}
        turn_down(store, folder, trial.no, figures | {"reason": reason})


def load_version(version: Version, folder: Path) -> EdgeModel:
    """Read a version's file and check that it is the one that was recorded; `ModelError` if it is not."""
    path = folder / "models" / version.file
    try:
        model = read_edge(path)
    except ModelError as exc:
        raise ModelError(f"{path}: damaged or gone since it was kept; go back with: ecc-device rollback") from exc
    if model.sha256 != version.sha256:
        raise ModelError(f"{model.path}: altered since it was learnt; go back with: ecc-device rollback")
    return model


def rollback(store: Store, folder: Path) -> tuple[EdgeModel, int]:
    """Return to the model before the active one; a candidate in its shadow run is dropped, too.

    `DeviceError` when there is neither, or the earlier model reads other features; `ModelError` when its file is not
    usable any more.
    """
    active = store.active_version()
    earlier = [version for version in store.versions() if version.state == "previous"]
    if active is not None and earlier and earlier[-1].features_id != active.features_id:
        raise DeviceError(f"model {earlier[-1].no} came from another factory file; start the device with that --model")
    candidates = [version for version in store.versions() if version.state == "candidate"]
    target = earlier[-1] if earlier else active if candidates else None
    if target is None:
        raise DeviceError("there is no earlier model to go back to")
    model = load_version(target, folder)  # before anything changes
    for candidate in candidates:
        turn_down(store, folder, candidate.no, candidate.figures | {"reason": "rolled back during its shadow run"})
    return model, (store.rollback() if earlier else target).no


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _root(store: Store, version: Version) -> Version:
    by_no = {v.no: v for v in store.versions()}
    while version.parent is not None:
        version = by_no[version.parent]
    return version
