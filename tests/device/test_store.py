"""Rows, answers, counts and labels of one store."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ecc_device.statefolder import database_path
from ecc_device.store import Row, Store
from ecc_model.errors import RowRefused, StoreError

FEATURES = bytes(range(32))
OTHER_FEATURES = bytes(32)
LOGITS = bytes(40)
LABELS = b"abcd"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "state") as opened:
        yield opened


def add(store: Store, bits: bytes = b"x" * 4, features_id: bytes = FEATURES) -> int:
    return store.add(1.5, features_id, bits, "seven")


def test_an_added_row_comes_back_as_it_was(store: Store) -> None:
    row_id = store.add(12.25, FEATURES, b"\x01\x02", "seven")
    assert store.row(row_id) == Row(
        id=row_id,
        time_s=12.25,
        features_id=FEATURES,
        bits=b"\x01\x02",
        edge_label="seven",
        state="waiting",
        logits=None,
        labels_id=None,
        answered_s=None,
        sent=0,
        version_no=None,
    )
    assert store.row(row_id + 1) is None


def test_an_answer_is_stored_once(store: Store) -> None:
    row_id = add(store)
    assert store.answer(row_id, LOGITS, LABELS, 3.0) == "stored"
    assert store.answer(row_id, bytes(8), b"zzzz", 4.0) == "duplicate"
    row = store.row(row_id)
    assert row is not None
    assert (row.state, row.logits, row.labels_id, row.answered_s) == ("labelled", LOGITS, LABELS, 3.0)
    assert store.counts() == {"answered": 1, "answers-duplicate": 1}


def test_an_answer_to_no_row_is_only_counted(store: Store) -> None:
    assert store.answer(1, LOGITS, LABELS, 3.0) == "unknown"
    assert store.answer(2**62, LOGITS, LABELS, 3.0) == "unknown"
    assert store.counts() == {"answers-unknown": 2}
    assert store.summary().rows == {"learnt": 0, "waiting": 0, "labelled": 0}


def test_ids_are_never_used_again(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        first = [add(store) for _ in range(3)]
    with contextlib.closing(sqlite3.connect(database_path(tmp_path, writing=True))) as database, database:
        database.execute("DELETE FROM rows")
    with Store.open(tmp_path) as store:
        assert add(store) == max(first) + 1


def test_waiting_gives_the_oldest_rows_of_its_features(store: Store) -> None:
    ids = [add(store) for _ in range(4)]
    add(store, features_id=OTHER_FEATURES)
    store.answer(ids[0], LOGITS, LABELS, 2.0)
    assert [row.id for row in store.waiting(2, FEATURES)] == ids[1:3]
    assert [row.id for row in store.waiting(10, FEATURES)] == ids[1:]


def test_labelled_gives_answered_rows_learnt_or_not(store: Store) -> None:
    ids = [add(store) for _ in range(3)]
    other = add(store, features_id=OTHER_FEATURES)
    for row_id in (ids[2], ids[0], other):
        store.answer(row_id, LOGITS, LABELS, 2.0)
    no = store.add_version(file="a", sha256="", features_id=FEATURES, parent=None, figures={}, time_s=0.0)
    store.begin_trial(no)
    store.confirm(no, [ids[0]])
    assert [(row.id, row.state, row.version_no) for row in store.labelled(FEATURES)] == [
        (ids[0], "learnt", no),
        (ids[2], "labelled", None),
    ]


def test_sending_is_counted_by_row(store: Store) -> None:
    first, second = add(store), add(store)
    store.mark_sent(second)
    store.mark_sent(second)
    assert [row.sent for row in store.waiting(2, FEATURES)] == [0, 2]
    assert first < second


def test_counts_outlive_the_store(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.count("late")
        store.count("late", 4)
        store.drop("window-full", 2)
    with Store.open(tmp_path) as store:
        assert store.counts() == {"late": 5}
        assert store.drops() == {"window-full": 2}


def test_the_first_names_of_labels_stay(store: Store) -> None:
    store.put_labels(LABELS, ["nul", "één", "two"])
    store.put_labels(LABELS, ["other"])
    assert store.labels(LABELS) == ("nul", "één", "two")
    assert store.labels(b"none") is None


def test_summary_tells_what_is_there(store: Store) -> None:
    assert store.summary().oldest_s is None
    first = store.add(5.0, FEATURES, b"x" * 10, "a")
    store.add(6.0, FEATURES, b"x" * 20, "a")
    store.answer(first, LOGITS, LABELS, 7.0)
    store.count("late")
    summary = store.summary()
    assert summary.rows == {"learnt": 0, "waiting": 1, "labelled": 1}
    assert summary.bytes_used == (10 + 40 + 96) + (20 + 96)
    assert summary.max_bytes == 64 * 2**20
    assert summary.oldest_s == 5.0
    assert (summary.drops, summary.counts) == ({}, {"answered": 1, "late": 1})


@pytest.mark.parametrize(
    ("learnt", "answered", "evicted"),
    [((2,), (1, 2), 2), ((), (0, 2), 1), ((), (0, 1, 2), 0)],
    ids=["learnt first", "then waiting", "then labelled"],
)
def test_eviction_takes_the_least_valuable_row(
    tmp_path: Path, learnt: tuple[int, ...], answered: tuple[int, ...], evicted: int
) -> None:
    row_bytes = 4 + 40 + 96
    with Store.open(tmp_path, max_bytes=3 * row_bytes) as store:
        ids = [add(store) for _ in range(3)]
        for k in answered:
            store.answer(ids[k], LOGITS, LABELS, 2.0)
        no = store.add_version(file="a", sha256="", features_id=FEATURES, parent=None, figures={}, time_s=0.0)
        store.begin_trial(no)
        store.confirm(no, [ids[k] for k in learnt])
        before = store.row(ids[evicted])
        assert before is not None
        newest = add(store, bits=bytes(44))
        assert [k for k in range(3) if store.row(ids[k]) is None] == [evicted]
        assert store.row(newest) is not None
        assert store.drops() == {f"evicted-{before.state}": 1}


def test_the_bound_is_exact_to_the_byte(tmp_path: Path) -> None:
    with Store.open(tmp_path, max_bytes=300) as store:
        ids = [add(store) for _ in range(3)]  # 100 bytes each
        assert store.drops() == {}
        ids.append(add(store))
        assert [row.id for row in store.waiting(10, FEATURES)] == ids[1:]
        ids.append(add(store, bits=b"x" * 5))
        assert [row.id for row in store.waiting(10, FEATURES)] == ids[3:]
        assert store.drops() == {"evicted-waiting": 3}


def test_a_row_larger_than_the_buffer_is_refused_and_counted(tmp_path: Path) -> None:
    with Store.open(tmp_path, max_bytes=200) as store:
        kept = add(store)
        with pytest.raises(RowRefused, match=r"^a row of 201 bytes does not fit a buffer of 200; enlarge the buffer$"):
            add(store, bits=bytes(105))
        assert store.row(kept) is not None
        assert store.drops() == {"buffer-too-small": 1}


def test_a_smaller_bound_takes_effect_at_the_next_start(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        ids = [add(store) for _ in range(10)]
    with Store.open(tmp_path, max_bytes=300) as store:
        assert [row.id for row in store.waiting(10, FEATURES)] == ids[-3:]
        assert store.drops() == {"evicted-waiting": 7}


def test_a_row_that_is_no_row_is_refused_with_one_line(store: Store) -> None:
    with pytest.raises(StoreError, match=r"not accepted by the database \(CHECK constraint failed"):
        store.add(0.0, b"short", b"x", "a")
    with pytest.raises(StoreError, match=r"NOT NULL constraint failed: rows.time_s"):
        store.add(float("nan"), FEATURES, b"x", "a")
    assert store.summary().rows["waiting"] == 0
    assert add(store) > 0


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="already closed; open the store again"):
        add(store)


def test_threads_share_one_store(store: Store) -> None:
    ids: list[int] = []

    def run(number: int) -> None:
        for _ in range(50):
            row_id = add(store, bits=bytes([number]))
            store.answer(row_id, LOGITS, LABELS, 2.0)
            store.count("late")
            ids.append(row_id)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ids) == list(range(1, 201))
    assert store.counts() == {"answered": 200, "late": 200}
    assert store.summary().rows == {"learnt": 0, "waiting": 0, "labelled": 200}


def test_a_reader_sees_what_the_owner_wrote_and_changes_nothing(store: Store, tmp_path: Path) -> None:
    add(store)
    store.count("late")
    with Store.open(tmp_path / "state", read_only=True) as reader:
        assert reader.summary() == store.summary()
        add(store)
        assert reader.summary().rows["waiting"] == 2
        with pytest.raises(StoreError, match="open for reading only; stop the device to change it"):
            add(reader)
        assert reader.drops() == {}


def test_a_reader_of_nothing_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"state: no store here; check the folder, or start the device first$"):
        Store.open(tmp_path / "state", read_only=True)
    assert not (tmp_path / "state").exists()
    (tmp_path / "store.sqlite").touch()
    with pytest.raises(StoreError, match=r"store\.sqlite: holds nothing yet; start the device first$"):
        Store.open(tmp_path, read_only=True)


def test_a_newer_schema_is_named_and_left_alone(tmp_path: Path) -> None:
    Store.open(tmp_path).close()
    db = sqlite3.connect(tmp_path / "store.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    for read_only in (False, True):
        with pytest.raises(StoreError, match=r"written in schema 99, this version of ecc-snn reads schema 1; update"):
            Store.open(tmp_path, read_only=read_only)
    assert not list(tmp_path.glob("*.corrupt-*"))


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "store.sqlite")
    db.execute("CREATE TABLE rows (id)")
    db.close()
    with pytest.raises(StoreError, match=r"the database of another program; choose another state folder$"):
        Store.open(tmp_path)


def test_a_flood_of_unknown_answers_leaves_memory_flat(store: Store) -> None:
    process = psutil.Process(os.getpid())

    def flood(first: int, n: int) -> None:
        for row_id in range(first, first + n):
            store.answer(row_id, LOGITS, LABELS, 1.0)

    flood(1, 20_000)
    before = process.memory_info().rss
    flood(20_001, 200_000)
    assert process.memory_info().rss - before < 2 * 2**20
    assert store.counts() == {"answers-unknown": 220_000}
