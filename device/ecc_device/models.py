"""Which model is active: the factory's file, or what the device has learnt since; all kept in the state folder."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from ecc_device.store import Store, Version
from ecc_model.errors import DeviceError, ModelError, StoreError
from ecc_model.modelfile import EdgeModel, read_edge

ROW_IDS = "row_ids"  # among a candidate's figures until it is decided on: the rows that it learnt
_log = logging.getLogger("ecc_device")


def open_active(path: Path, store: Store, folder: Path, time_s: float) -> tuple[EdgeModel, int]:
    """The model to run, and its version number.

    That is the store's active version if it descends from the factory file at `path`; else the newest confirmed one
    that does, so that a robot which ran with another file for a while answers again with what it has learnt; else the
    factory file itself, which becomes a version. A change of factory is logged. A version found on trial died before
    it was confirmed: it is turned down.
    """
    factory = read_edge(path)
    discard_trial(store, folder, "the device stopped before the model was confirmed")
    active = store.active_version()
    if active is None:
        return factory, install(store, folder, factory, None, {"reason": "factory model"}, time_s)
    if _factories(store)[active.no] == factory.sha256:
        return load_version(active, folder), active.no
    model, no = _change_factory(factory, store, folder, time_s)
    _log.warning(
        "%s: another factory model; model %d answers now, model %d again with the --model it came from",
        *(path, no, active.no),
    )
    return model, no


def _change_factory(factory: EdgeModel, store: Store, folder: Path, time_s: float) -> tuple[EdgeModel, int]:
    """Put the active version aside, for the newest one of this factory file that was active before, or the file."""
    earlier = _earlier(store, factory.sha256)
    if earlier:
        no = earlier[-1].no
        store.resume(no)
    else:
        no = install(store, folder, factory, None, {"reason": "factory model"}, time_s)
    for version in store.versions():
        if version.state == "candidate":
            _discard(store, folder, version, "the device was started with another factory model during its shadow run")
    return (load_version(earlier[-1], folder) if earlier else factory), no


def install(
    store: Store, folder: Path, model: EdgeModel, parent: int | None, figures: dict[str, object], time_s: float
) -> int:
    """Copy a model into the state folder and make it active at once (a factory model needs no trial)."""
    no = add_model(store, folder, model, parent, figures, time_s)
    store.begin_trial(no)
    store.confirm(no)
    return no


def add_model(
    store: Store,
    folder: Path,
    model: EdgeModel,
    parent: int | None,
    figures: dict[str, object],
    time_s: float,
    row_ids: Iterable[int] = (),
) -> int:
    """Copy a model file into the state folder, durably, and record it as a candidate. `StoreError`: no room for it.

    row_ids: of the rows that it was made from.
    """
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
        file=name,
        sha256=model.sha256,
        features_id=features,
        parent=parent,
        figures=figures,
        time_s=time_s,
        row_ids=row_ids,
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
        _discard(store, folder, trial, reason)


def _discard(store: Store, folder: Path, version: Version, reason: str) -> None:
    figures = {name: value for name, value in version.figures.items() if name != "last_row"}
    turn_down(store, folder, version.no, figures | {"reason": reason})


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


def earlier_model(store: Store, folder: Path) -> tuple[EdgeModel, int]:
    """What `rollback` would return to, or raises; nothing changes."""
    target = _target(store)
    return load_version(target, folder), target.no


def rollback(store: Store, folder: Path) -> tuple[EdgeModel, int]:
    """Return to the model before the active one; a candidate in its shadow run is dropped, too.

    `DeviceError` when there is neither, or the earlier model came from another factory file; `ModelError` when its file
    is not usable any more.
    """
    target = _target(store)
    model = load_version(target, folder)  # before anything changes
    for version in store.versions():
        if version.state == "candidate":
            turn_down(store, folder, version.no, version.figures | {"reason": "rolled back during its shadow run"})
    if target.state == "previous":
        store.rollback(target.no)
    return model, target.no


def _target(store: Store) -> Version:
    versions, active = store.versions(), store.active_version()
    earlier = [] if active is None else _earlier(store, _factories(store)[active.no])
    if earlier:
        return earlier[-1]
    if active is not None and any(version.state == "candidate" for version in versions):
        return active
    others = [version.no for version in versions if version.state == "previous"]
    if others:
        raise DeviceError(f"model {others[-1]} came from another factory file; start the device with that --model")
    raise DeviceError("there is no earlier model to go back to")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _earlier(store: Store, factory_sha256: str) -> list[Version]:
    """Versions that were confirmed and active before, and descend from this factory file; oldest first."""
    factories = _factories(store)
    return [v for v in store.versions() if v.state == "previous" and factories[v.no] == factory_sha256]


def _factories(store: Store) -> dict[int, str]:
    """Number of each version -> SHA-256 of the factory file that it descends from."""
    found: dict[int, str] = {}
    for version in store.versions():
        found[version.no] = version.sha256 if version.parent is None else found[version.parent]
    return found
