"""The buffer's bound in bytes: which rows go when room is needed."""

from __future__ import annotations

import sqlite3

from ecc_device.database import add_count

# What is learnt already goes first, then what nobody answered, then what is worth most.
EVICTION_ORDER = ("learnt", "waiting", "labelled")


def make_room(db: sqlite3.Connection, needed: int, max_bytes: int) -> None:
    """Evict rows until `needed` more bytes fit: states in their order, oldest first, each counted.

    Runs inside the caller's transaction, so rows and counts change together. Reads only the rows that go.
    """
    excess = meta_value(db, "bytes") + needed - max_bytes
    for state in EVICTION_ORDER:
        if excess <= 0:
            return
        victims: list[tuple[int]] = []
        oldest_first = db.execute("SELECT id, size FROM rows WHERE state = ? ORDER BY id", (state,))
        for row_id, size in oldest_first:
            victims.append((row_id,))
            excess -= size
            if excess <= 0:
                break
        oldest_first.close()
        if victims:
            db.executemany("DELETE FROM rows WHERE id = ?", victims)
            add_count(db, "drops", f"evicted-{state}", len(victims))


def meta_value(db: sqlite3.Connection, key: str) -> int:
    """A number of the table `meta`: `bytes` (the rows' sizes in sum) or `max_bytes` (the bound)."""
    return int(db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()[0])
