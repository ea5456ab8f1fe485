"""The device's memory: rows of split-point spikes, the cloud's answers to them, and the models learnt from them.

Two rules: a row acknowledged is a row kept, and a row dropped is a row counted with its reason. What "kept" means
when a process is killed or the power fails stands in `ecc_device.database`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from ecc_device.database import Database, add_count, open_database
from ecc_device.eviction import EVICTION_ORDER, make_room, meta_value
from ecc_device.schema import ROW_OVERHEAD_BYTES
from ecc_device.statefolder import FolderLock, database_path
from ecc_device.versions import Version, VersionTable
from ecc_model.errors import RowRefused, StoreError

__all__ = ["AnswerOutcome", "Row", "Store", "StoreSummary", "Version"]

DEFAULT_MAX_BYTES = 64 * 2**20

AnswerOutcome = Literal["stored", "duplicate", "unknown"]

_COLUMNS = "id, time_s, features_id, bits, edge_label, state, logits, labels_id, answered_s, sent, version_no"


@dataclass(frozen=True, slots=True)
class Row:
    """One ambiguous frame, as spikes at the split point."""

    id: int
    time_s: float  # when the frame was taken
    features_id: bytes  # 32 bytes: which head and encoder made the bits
    bits: bytes  # packed spikes
    edge_label: str  # what the edge took it for
    state: str  # waiting | labelled | learnt
    logits: bytes | None  # the cloud's answer, float32 little endian
    labels_id: bytes | None  # which names the logits belong to
    answered_s: float | None
    sent: int  # times it went up
    version_no: int | None  # the model that learnt it, else the latest candidate that was made from it


@dataclass(frozen=True, slots=True)
class StoreSummary:
    """What the store holds and what it had to let go."""

    rows: dict[str, int]  # by state; every state is there
    bytes_used: int
    max_bytes: int
    oldest_s: float | None  # stamp of the oldest row
    drops: dict[str, int]  # by reason
    counts: dict[str, int]  # by name


class Store(VersionTable):
    """The database of one state folder, for any thread of the process that owns the folder.

    `quarantined` is where a damaged database was moved to when this store opened, or None.
    Every method raises `StoreError` when the database cannot do it (`StoreFull` when the disk is full), except
    `drop` and `count`, which keep in memory what cannot be written yet.
    """

    def __init__(self, database: Database, lock: FolderLock | None, quarantined: Path | None, max_bytes: int) -> None:
        super().__init__(database)
        self.quarantined = quarantined
        self._lock = lock
        self._max_bytes = max_bytes

    @classmethod
    def open(cls, folder: Path, max_bytes: int = DEFAULT_MAX_BYTES, *, read_only: bool = False) -> Store:
        """Open the store in `folder`, making both where they are missing.

        `max_bytes` bounds the rows (see `ecc_device.schema` for a row's size); rows above it go at once. With
        `read_only` another process may own the folder, nothing is made, and `max_bytes` is the owner's.
        Raises `StoreLocked` (naming the owner's process id) and `StoreError`.
        """
        if read_only:
            database = Database(database_path(folder, writing=False), read_only=True)
            try:
                database.check()
                with database.read() as db:
                    return cls(database, None, None, meta_value(db, "max_bytes"))
            except StoreError:
                database.close()
                raise
        lock = FolderLock(folder)
        try:
            database, quarantined = open_database(database_path(folder, writing=True))
            store = cls(database, lock, quarantined, max_bytes)
            try:
                with database.write() as db:
                    db.execute("UPDATE meta SET value = ? WHERE key = 'max_bytes'", (max_bytes,))
                    make_room(db, 0, max_bytes)
            except StoreError:
                database.close()
                raise
        except StoreError:
            lock.release()
            raise
        return store

    def close(self) -> None:
        """Write what waits, close the database, give the folder back; closing twice is fine."""
        self._database.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, time_s: float, features_id: bytes, bits: bytes, edge_label: str) -> int:
        """Store a waiting row and return its id; committed when this returns, and older rows may have gone for it.

        `features_id` has 32 bytes. Raises `StoreFull` (the caller counts: `drop("disk-full")`), and `RowRefused`,
        counted already as `buffer-too-small`, for a row larger than the whole buffer.
        """
        size = len(bits) + ROW_OVERHEAD_BYTES
        if size > self._max_bytes:
            self.drop("buffer-too-small")
            raise RowRefused(f"a row of {size} bytes does not fit a buffer of {self._max_bytes}; enlarge the buffer")
        with self._database.write() as db:
            make_room(db, size, self._max_bytes)
            cursor = db.execute(
                "INSERT INTO rows (time_s, features_id, bits, edge_label) VALUES (?, ?, ?, ?)",
                (time_s, features_id, bits, edge_label),
            )
            return int(cursor.lastrowid or 0)

    def answer(self, row_id: int, logits: bytes, labels_id: bytes, time_s: float) -> AnswerOutcome:
        """Store the cloud's answer to a waiting row: once, whatever arrives twice.

        An answer to an answered row is a "duplicate", one to a row that is gone or never was is "unknown"; they
        change no row. All three are counted in the same transaction (`answered`, `answers-duplicate`,
        `answers-unknown`).
        """
        with self._database.write() as db:
            cursor = db.execute(
                "UPDATE rows SET state = 'labelled', logits = ?, labels_id = ?, answered_s = ?"
                " WHERE id = ? AND state = 'waiting'",
                (logits, labels_id, time_s, row_id),
            )
            if cursor.rowcount == 1:
                add_count(db, "counters", "answered", 1)
                make_room(db, 0, self._max_bytes)
                return "stored"
            exists = db.execute("SELECT 1 FROM rows WHERE id = ?", (row_id,)).fetchone() is not None
            outcome: AnswerOutcome = "duplicate" if exists else "unknown"
            add_count(db, "counters", f"answers-{outcome}", 1)
            return outcome

    def mark_sent(self, row_id: int) -> None:
        """Count one more time that the row went up."""
        with self._database.write() as db:
            db.execute("UPDATE rows SET sent = sent + 1 WHERE id = ?", (row_id,))

    def waiting(self, limit: int, features_id: bytes) -> list[Row]:
        """The oldest rows without an answer that these features made, at most `limit`, oldest first."""
        return self._rows(
            "state = 'waiting' AND features_id = ? ORDER BY id LIMIT ?",
            (features_id, limit),
        )

    def labelled(self, features_id: bytes) -> list[Row]:
        """Every answered row that these features made, learnt or not, oldest first."""
        return self._rows("state IN ('labelled', 'learnt') AND features_id = ? ORDER BY id", (features_id,))

    def row(self, row_id: int) -> Row | None:
        """One row, None when it is gone or never was."""
        return next(iter(self._rows("id = ?", (row_id,))), None)

    def put_labels(self, labels_id: bytes, names: Sequence[str]) -> None:
        """Remember what the logits under `labels_id` are called; the first names stay."""
        with self._database.write() as db:
            db.execute("INSERT OR IGNORE INTO labels VALUES (?, ?)", (labels_id, json.dumps(list(names))))

    def labels(self, labels_id: bytes) -> tuple[str, ...] | None:
        """The names of the logits under `labels_id`, None when nobody told."""
        with self._database.read() as db:
            found = db.execute("SELECT names FROM labels WHERE labels_id = ?", (labels_id,)).fetchone()
        if found is None:
            return None
        try:
            return tuple(str(name) for name in json.loads(found[0]))
        except ValueError as exc:
            raise StoreError(f"{self._database.path}: label names are not readable; the disk may be failing") from exc

    def drop(self, reason: str, n: int = 1) -> None:
        """Count frames that never became rows, e.g. for a full disk."""
        self._database.tally("drops", reason, n)

    def drops(self) -> dict[str, int]:
        """Everything dropped so far, by reason."""
        return self._database.counts("drops")

    def count(self, name: str, n: int = 1) -> None:
        """Add `n` to a counter that outlives the process."""
        self._database.tally("counters", name, n)

    def counts(self) -> dict[str, int]:
        """Every counter, by name."""
        return self._database.counts("counters")

    def summary(self) -> StoreSummary:
        """What the store holds, by cheap queries only."""
        with self._database.read() as db:
            rows = dict.fromkeys(EVICTION_ORDER, 0)
            rows.update(db.execute("SELECT state, count(*) FROM rows GROUP BY state"))
            oldest = db.execute("SELECT time_s FROM rows ORDER BY id LIMIT 1").fetchone()
            return StoreSummary(
                rows=rows,
                bytes_used=meta_value(db, "bytes"),
                max_bytes=self._max_bytes,
                oldest_s=None if oldest is None else float(oldest[0]),
                drops=self.drops(),
                counts=self.counts(),
            )

    def _rows(self, condition: str, values: tuple[object, ...]) -> list[Row]:
        with self._database.read() as db:
            return [Row(*found) for found in db.execute(f"SELECT {_COLUMNS} FROM rows WHERE {condition}", values)]
