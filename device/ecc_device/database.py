"""One SQLite file, one connection, many threads: transactions, typed errors, damaged files set aside.

The file is in WAL mode with `synchronous = NORMAL`:

- a killed process (SIGKILL, out of memory) loses nothing that was committed;
- a power cut cannot damage the database, but may take the transactions since the last sync of the log with it.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from ecc_device.schema import check_schema, create_schema
from ecc_model.errors import StoreError, StoreFull, StoreLocked

_BUSY_S = 5.0
_LOG_LIMIT_BYTES = 8 * 2**20  # what a checkpoint leaves of the log at most
_PERMANENT_FILES = ("", "-wal")

_DAMAGED = "the database is damaged; restart the device: the file is set aside and a new one started"
# What SQLite says (Python 3.10 has no error codes) -> our error, and what it means for the reader.
_MEANINGS: tuple[tuple[str, type[StoreError], str], ...] = (
    ("disk is full", StoreFull, "the disk is full; free some space, rows are stored again once there is room"),
    ("disk I/O error", StoreError, "the disk cannot be read or written (I/O error); check it, and its free space"),
    ("malformed", StoreError, _DAMAGED),
    ("not a database", StoreError, _DAMAGED),
    ("readonly database", StoreError, "the database is open for reading only; stop the device to change it"),
    ("database is locked", StoreLocked, "another program is writing the database; close that program"),
    ("unable to open", StoreError, "the database cannot be opened; check the folder's owner and permissions"),
)


class Database:
    """The connection, its lock and its transactions."""

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path = path
        self._read_only = read_only
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._unwritten: dict[tuple[str, str], int] = {}

    @contextlib.contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """The connection, for statements that change nothing. Raises `StoreError`."""
        with self._lock, self._errors_typed():
            yield self._connected()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed when the block ends, undone when it raises. Raises `StoreError`."""
        with self._lock:
            with self._errors_typed():
                db = self._connected()
                db.execute("BEGIN IMMEDIATE")
                try:
                    for (table, name), n in self._unwritten.items():
                        add_count(db, table, name, n)
                    yield db
                    db.execute("COMMIT")
                except BaseException:
                    self._undo(db)
                    raise
            self._unwritten.clear()

    def tally(self, table: str, name: str, n: int) -> None:
        """Add `n` to a count. Never raises: what cannot be written now goes with the next transaction."""
        with self._lock:
            key = (table, name)
            self._unwritten[key] = self._unwritten.get(key, 0) + n
            with contextlib.suppress(StoreError), self.write():
                pass

    def counts(self, table: str) -> dict[str, int]:
        """Every count of `drops` or `counters`, those that wait for room included, by name."""
        with self.read() as db:
            counts: dict[str, int] = dict(db.execute(f"SELECT * FROM {table} ORDER BY 1"))
            for (of, name), n in self._unwritten.items():
                if of == table:
                    counts[name] = counts.get(name, 0) + n
            return counts

    def close(self) -> None:
        """Write what waits and close the connection; closing twice is fine."""
        with self._lock:
            if self._unwritten and not self._closed:
                with contextlib.suppress(StoreError), self.write():
                    pass
            self._closed = True
            self._disconnect()

    def create(self, first_row_id: int) -> None:
        """Check the tables, or make them in an empty file. Raises `StoreError`."""
        with self.write() as db:
            if not check_schema(db, self.path):
                create_schema(db, first_row_id=first_row_id)

    def check(self) -> None:
        """Check that tables are there, without making any. Raises `StoreError`."""
        with self.read() as db:
            if not check_schema(db, self.path):
                raise StoreError(f"{self.path}: holds nothing yet; start the device first")

    def _undo(self, db: sqlite3.Connection) -> None:
        if db.in_transaction:  # on a full disk SQLite may have rolled back by itself
            try:
                db.execute("ROLLBACK")
            except sqlite3.Error:
                self._disconnect()  # closing rolls back too; the first error is the one to tell

    def _connected(self) -> sqlite3.Connection:
        if self._closed:
            raise StoreError(f"{self.path}: already closed; open the store again")
        if self._connection is None:
            self._connection = _connect(self.path, read_only=self._read_only)
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextlib.contextmanager
    def _errors_typed(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as exc:
            said = str(exc)
            if "I/O error" in said:
                self._disconnect()  # the next call opens the file afresh: a failed descriptor may fail for good
            for words, kind, meaning in _MEANINGS:
                if words in said:
                    raise kind(f"{self.path}: {meaning}") from exc
            raise StoreError(f"{self.path}: not accepted by the database ({said}); this is a bug, report it") from exc


def add_count(db: sqlite3.Connection, table: str, name: str, n: int) -> None:
    """Add `n` to the count `name` of the table `drops` or `counters`, inside the caller's transaction."""
    key = "reason" if table == "drops" else "name"
    db.execute(
        f"INSERT INTO {table} VALUES (?, ?) ON CONFLICT ({key}) DO UPDATE SET count = count + excluded.count", (name, n)
    )


def open_database(path: Path) -> tuple[Database, Path | None]:
    """Open `path` for writing, made when missing; also where a damaged file was moved to, or None.

    After damage row ids go on from the present second instead of 1: answers to rows of the lost file may still
    arrive and must not find a new row under their id. Raises `StoreError`.
    """
    quarantined = None
    if path.exists() and _is_damaged(path):
        quarantined = _set_aside(path)
    database = Database(path, read_only=False)
    try:
        database.create(first_row_id=1 if quarantined is None else max(1, int(time.time())))
    except StoreError:
        database.close()
        raise
    return database, quarantined


def _connect(path: Path, *, read_only: bool) -> sqlite3.Connection:
    mode = "ro" if read_only else "rwc"
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_BUSY_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        if not read_only:
            if db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise StoreError(f"{path}: this file system has no shared memory for SQLite; use a local disk")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT_BYTES}")
    except (sqlite3.Error, StoreError):
        db.close()
        raise
    return db


def _is_damaged(path: Path) -> bool:
    """Whether SQLite's own check finds the file broken; other troubles are left for the real opening to tell."""
    if path.stat().st_size == 0:
        return _log_of(path).exists() and _log_of(path).stat().st_size > 0  # SQLite would delete the log
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S)) as db:
            return bool(db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok")
    except sqlite3.DatabaseError as exc:
        return "malformed" in str(exc) or "not a database" in str(exc)


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _set_aside(path: Path) -> Path:
    """Rename the database and its log, so that both can still be looked into with `sqlite3 .recover`."""
    stamp = int(time.time())
    while (target := path.with_name(f"{path.name}.corrupt-{stamp}")).exists():
        stamp += 1
    try:
        for suffix in _PERMANENT_FILES:
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(target.with_name(target.name + suffix))
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
    except OSError as exc:
        raise StoreError(f"{path}: damaged, and cannot be moved aside ({exc.strerror}); move it yourself") from exc
    return target
