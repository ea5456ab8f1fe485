"""Which model is active: the factory's file, or what the device has learnt since; all kept in the state folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ecc_device.store import Store, Version
from ecc_model.errors import DeviceError, ModelError
from ecc_model.modelfile import EdgeModel, read_edge


def open_active(path: Path, store: Store, folder: Path, time_s: float) -> tuple[EdgeModel, int]:
    """The model to run, and its version number.

    That is the store's active version if it descends from the factory file at `path`, else the factory file itself,
    which becomes a version. A version found on trial died before it was confirmed: it is turned down.
    """
    factory = read_edge(path)
    trial = store.trial_version()
    if trial is not None:
        figures = {name: value for name, value in trial.figures.items() if name != "last_row"}  # may be tried again
        store.reject(trial.no, figures | {"reason": "the device stopped before the model was confirmed"})
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
    """Copy a model file into the state folder, durably, and record it as a candidate."""
    models = folder / "models"
    models.mkdir(parents=True, exist_ok=True)
    name = f"{model.sha256[:16]}.pt"
    partial = models / (name + ".partial")
    shutil.copyfile(model.path, partial)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(models / name)
    features = bytes.fromhex(model.program.features_id)
    return store.add_version(
        file=name, sha256=model.sha256, features_id=features, parent=parent, figures=figures, time_s=time_s
    )


def load_version(version: Version, folder: Path) -> EdgeModel:
    """Read a version's file and check that it is the one that was recorded."""
    model = read_edge(folder / "models" / version.file)
    if model.sha256 != version.sha256:
        raise ModelError(f"{model.path}: altered since it was learnt; go back with: ecc-device rollback")
    return model


def rollback(store: Store, folder: Path) -> tuple[EdgeModel, int]:
    """Return to the model before the active one; `DeviceError` when there is none, or it reads other features."""
    active = store.active_version()
    earlier = [version for version in store.versions() if version.state == "previous"]
    if active is not None and earlier and earlier[-1].features_id != active.features_id:
        raise DeviceError(f"model {earlier[-1].no} came from another factory file; start the device with that --model")
    version = store.rollback()
    return load_version(version, folder), version.no


def _root(store: Store, version: Version) -> Version:
    by_no = {v.no: v for v in store.versions()}
    while version.parent is not None:
        version = by_no[version.parent]
    return version
