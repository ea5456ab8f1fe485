"""The device's models: which one is active, which one is on trial, where it came from.

    candidate -> trial -> active <-> previous     (rollback and another factory file go back to a `previous`)
        |          |         |
        v          v         v
     rejected   rejected  rolled-back

A candidate that the gate accepted stays one during its shadow run; a trial is the moment of the swap. Each arrow is one
transaction, so a device that dies anywhere starts again with one active model: the old one until `confirm` has
returned, the new one after.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ecc_device.database import Database
from ecc_model.errors import DeviceError, StoreError

_COLUMNS = "no, file, sha256, features_id, parent, state, created_s, figures"


@dataclass(frozen=True, slots=True)
class Version:
    """One model of this device."""

    no: int  # 1 is the factory's
    file: str  # path of the model file, as the caller gave it
    sha256: str  # of that file, 64 hex digits
    features_id: bytes  # 32 bytes
    parent: int | None  # the version it was learnt from
    state: str  # see the drawing above
    created_s: float
    figures: dict[str, object]  # what the gate measured


class VersionTable:
    """The versions half of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_version(
        self,
        *,
        file: str,
        sha256: str,
        features_id: bytes,
        parent: int | None,
        figures: Mapping[str, object],
        time_s: float,
        row_ids: Iterable[int] = (),
    ) -> int:
        """Record a candidate and return its number. row_ids: of the rows that it was made from."""
        with self._database.write() as db:
            cursor = db.execute(
                "INSERT INTO versions (file, sha256, features_id, parent, created_s, figures)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (file, sha256, features_id, parent, time_s, _to_json(figures)),
            )
            no = int(cursor.lastrowid or 0)
            db.executemany("UPDATE rows SET version_no = ? WHERE id = ?", ((no, row_id) for row_id in row_ids))
            return no

    def unlearnt_rows(self, no: int) -> set[int]:
        """Ids of the rows that version `no`, and none after it, was made from, and that are not learnt."""
        with self._database.read() as db:
            found = db.execute("SELECT id FROM rows WHERE state = 'labelled' AND version_no = ?", (no,))
            return {row_id for (row_id,) in found}

    def begin_trial(self, no: int) -> None:
        """Put candidate `no` on trial; the active version stays active. Raises `DeviceError` on a second trial."""
        with self._database.write() as db:
            other = db.execute("SELECT no FROM versions WHERE state = 'trial'").fetchone()
            if other is not None:
                raise DeviceError(f"model {other[0]} is still on trial; confirm or reject it first")
            _require_state(db, no, "candidate")
            _set_state(db, no, "trial")

    def note(self, no: int, figures: Mapping[str, object]) -> None:
        """Replace what is known of a candidate."""
        with self._database.write() as db:
            _require_state(db, no, "candidate")
            _set_figures(db, no, figures)

    def confirm(self, no: int, learnt_row_ids: Iterable[int] = (), figures: Mapping[str, object] | None = None) -> None:
        """Make trial `no` the active version, the active one a previous one, and its rows learnt: all or nothing.

        Ids of rows that are gone or never answered are passed over. figures: replace the candidate's, where given.
        `DeviceError` when `no` was learnt from a version that is not active any more.
        """
        with self._database.write() as db:
            _require_state(db, no, "trial")
            parent = db.execute("SELECT parent FROM versions WHERE no = ?", (no,)).fetchone()[0]
            if parent is not None:
                _require_state(db, parent, "active")
            db.execute("UPDATE versions SET state = 'previous' WHERE state = 'active'")
            _set_state(db, no, "active")
            if figures is not None:
                _set_figures(db, no, figures)
            db.executemany(
                "UPDATE rows SET state = 'learnt', version_no = ? WHERE id = ? AND state != 'waiting'",
                ((no, row_id) for row_id in learnt_row_ids),
            )

    def reject(self, no: int, figures: Mapping[str, object]) -> None:
        """Turn a candidate or a trial down, with the figures that say why."""
        with self._database.write() as db:
            _require_state(db, no, "candidate", "trial")
            _set_figures(db, no, figures)
            _set_state(db, no, "rejected")

    def rollback(self, no: int) -> None:
        """Make previous version `no` active again; the one in use is rolled back for good."""
        self._reactivate(no, "rolled-back")

    def resume(self, no: int) -> None:
        """Make previous version `no` active again; the one in use becomes a previous one."""
        self._reactivate(no, "previous")

    def _reactivate(self, no: int, aside: str) -> None:
        with self._database.write() as db:
            _require_state(db, no, "previous")
            db.execute("UPDATE versions SET state = ? WHERE state = 'active'", (aside,))
            _set_state(db, no, "active")

    def active_version(self) -> Version | None:
        """The version in use, None before the first was confirmed."""
        return self._in_state("active")

    def trial_version(self) -> Version | None:
        """The version on trial; found right after opening, the process died before it decided."""
        return self._in_state("trial")

    def versions(self) -> list[Version]:
        """Every version, oldest first."""
        with self._database.read() as db:
            return [_version(row) for row in db.execute(f"SELECT {_COLUMNS} FROM versions ORDER BY no")]

    def _in_state(self, state: str) -> Version | None:
        with self._database.read() as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM versions WHERE state = ?", (state,)).fetchone()
        return None if row is None else _version(row)


def _require_state(db: sqlite3.Connection, no: int, *allowed: str) -> None:
    row = db.execute("SELECT state FROM versions WHERE no = ?", (no,)).fetchone()
    if row is None:
        raise DeviceError(f"there is no model {no}; `ecc-device status` lists them")
    if row[0] not in allowed:
        raise DeviceError(f"model {no} is {row[0]}, not {' or '.join(allowed)}; `ecc-device status` lists them")


def _set_state(db: sqlite3.Connection, no: int, state: str) -> None:
    db.execute("UPDATE versions SET state = ? WHERE no = ?", (state, no))


def _set_figures(db: sqlite3.Connection, no: int, figures: Mapping[str, object]) -> None:
    db.execute("UPDATE versions SET figures = ? WHERE no = ?", (_to_json(figures), no))


def _to_json(figures: Mapping[str, object]) -> str:
    return json.dumps(dict(figures), sort_keys=True)


def _version(row: tuple[int, str, str, bytes, int | None, str, float, str]) -> Version:
    no, file, sha256, features_id, parent, state, created_s, figures = row
    try:
        parsed = json.loads(figures)
    except ValueError as exc:
        raise StoreError(f"model {no}: its figures in the store are not readable; the disk may be failing") from exc
    return Version(no, file, sha256, features_id, parent, state, created_s, parsed)
