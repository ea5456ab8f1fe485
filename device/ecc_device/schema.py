"""The tables of the device's database, and the one check that a file holds them.

A row's size is what the buffer's bound counts: its spikes, its logits, and `ROW_OVERHEAD_BYTES` for the rest of
it. Triggers keep the sum in `meta.bytes`, so that no code path can forget to.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ecc_model.errors import StoreError

SCHEMA_VERSION = 1
APPLICATION_ID = 0x45434353  # "ECCS": tells our file from another program's
ROW_OVERHEAD_BYTES = 96  # stamps, ids, label and index entries of one row, measured on full databases

_TABLES = (
    f"""CREATE TABLE rows (
        id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused: a late answer finds its own row or none
        time_s REAL NOT NULL,
        features_id BLOB NOT NULL CHECK (length(features_id) = 32),
        bits BLOB NOT NULL,                    -- packed split-point spikes
        edge_label TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'labelled', 'learnt')),
        logits BLOB,                           -- float32, little endian
        labels_id BLOB,
        answered_s REAL,
        sent INTEGER NOT NULL DEFAULT 0,       -- times it went up
        version_no INTEGER,                    -- the model that learnt it, else the latest made from it
        size INTEGER GENERATED ALWAYS AS (length(bits) + ifnull(length(logits), 0) + {ROW_OVERHEAD_BYTES}) VIRTUAL
    )""",
    "CREATE INDEX rows_by_state ON rows (state)",  # an index ends in the id: oldest first costs nothing
    "CREATE TABLE labels (labels_id BLOB PRIMARY KEY, names TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE drops (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE counters (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE versions (
        no INTEGER PRIMARY KEY,
        file TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        features_id BLOB NOT NULL CHECK (length(features_id) = 32),
        parent INTEGER,
        state TEXT NOT NULL DEFAULT 'candidate'
            CHECK (state IN ('candidate', 'trial', 'active', 'previous', 'rejected', 'rolled-back')),
        created_s REAL NOT NULL,
        figures TEXT NOT NULL
    )""",
    "CREATE UNIQUE INDEX one_of_each ON versions (state) WHERE state IN ('trial', 'active')",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
    "INSERT INTO meta VALUES ('bytes', 0), ('max_bytes', 0)",
    """CREATE TRIGGER row_added AFTER INSERT ON rows BEGIN
        UPDATE meta SET value = value + new.size WHERE key = 'bytes';
    END""",
    """CREATE TRIGGER row_grown AFTER UPDATE OF bits, logits ON rows BEGIN
        UPDATE meta SET value = value + new.size - old.size WHERE key = 'bytes';
    END""",
    """CREATE TRIGGER row_gone AFTER DELETE ON rows BEGIN
        UPDATE meta SET value = value - old.size WHERE key = 'bytes';
    END""",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)


def check_schema(db: sqlite3.Connection, path: Path) -> bool:
    """Whether the database holds our tables; False when it is still empty.

    Raises `StoreError` when a newer version or another program wrote it.
    """
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    owner = int(db.execute("PRAGMA application_id").fetchone()[0])
    if owner == 0 and db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        return False
    if owner != APPLICATION_ID:
        raise StoreError(f"{path}: the database of another program; choose another state folder")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: written in schema {version}, this version of ecc-snn reads schema {SCHEMA_VERSION}; "
            "update ecc-snn, or choose another state folder"
        )
    return True


def create_schema(db: sqlite3.Connection, *, first_row_id: int = 1) -> None:
    """Make the tables; must run inside a transaction. Row ids start at `first_row_id`."""
    for statement in _TABLES:
        db.execute(statement)
    if first_row_id > 1:
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('rows', ?)", (first_row_id - 1,))
