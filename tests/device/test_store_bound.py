"""The buffer's bound against a model of it in plain Python, through random histories."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ecc_device.eviction import EVICTION_ORDER
from ecc_device.schema import ROW_OVERHEAD_BYTES
from ecc_device.store import Store
from ecc_model.errors import RowRefused

FEATURES = bytes(range(32))
MAX_BYTES = 400

steps = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 400)),
    st.tuples(st.just("add"), st.sampled_from((3, 4, 5, 104))),  # sums that fit exactly, or just not
    st.tuples(st.just("answer"), st.integers(1, 30), st.sampled_from((0, 1, 40, 300))),
    st.tuples(st.just("confirm"), st.sets(st.integers(1, 30), max_size=8)),
    st.tuples(st.just("reopen")),
)


@dataclass
class Expected:
    """What must be in the store: id -> [state, size], in id order."""

    rows: dict[int, list[object]] = field(default_factory=dict)
    drops: Counter[str] = field(default_factory=Counter)

    def used(self) -> int:
        return sum(int(str(size)) for _, size in self.rows.values())

    def make_room(self, needed: int) -> None:
        for state in EVICTION_ORDER:
            for row_id in sorted(self.rows):
                if self.used() + needed <= MAX_BYTES:
                    return
                if self.rows[row_id][0] == state:
                    del self.rows[row_id]
                    self.drops[f"evicted-{state}"] += 1


def apply(store: Store, expected: Expected, step: tuple[object, ...]) -> int:
    """Do one step on both; the number of ids that the store acknowledged."""
    match step:
        case ("add", int(length)):
            size = length + ROW_OVERHEAD_BYTES
            try:
                row_id = store.add(1.0, FEATURES, bytes(length), "a")
            except RowRefused:
                assert size > MAX_BYTES
                expected.drops["buffer-too-small"] += 1
                return 0
            expected.make_room(size)
            expected.rows[row_id] = ["waiting", size]
            return 1
        case ("answer", int(row_id), int(length)):
            row = expected.rows.get(row_id)
            outcome = store.answer(row_id, bytes(length), b"abcd", 2.0)
            if row is None or row[0] != "waiting":
                assert outcome == ("unknown" if row is None else "duplicate")
                return 0
            assert outcome == "stored"
            expected.rows[row_id] = ["labelled", int(str(row[1])) + length]
            expected.make_room(0)
        case ("confirm", set(ids)):
            no = store.add_version(file="a", sha256="", features_id=FEATURES, parent=None, figures={}, time_s=0.0)
            store.begin_trial(no)
            store.confirm(no, sorted(ids))
            for row_id in ids & expected.rows.keys():
                if expected.rows[row_id][0] == "labelled":
                    expected.rows[row_id][0] = "learnt"
    return 0


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=40))
def test_every_acknowledged_row_is_there_or_counted_and_the_bound_holds(history: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        expected = Expected()
        acknowledged = 0
        store = Store.open(Path(folder), MAX_BYTES)
        try:
            for step in history:
                if step == ("reopen",):
                    store.close()
                    store = Store.open(Path(folder), MAX_BYTES)
                acknowledged += apply(store, expected, step)
                summary = store.summary()
                assert summary.bytes_used == expected.used() <= MAX_BYTES
                assert summary.drops == dict(expected.drops)
            there = {row.id: row.state for row in store.waiting(100, FEATURES) + store.labelled(FEATURES)}
            assert there == {row_id: state for row_id, (state, _) in expected.rows.items()}
            assert acknowledged == len(there) + expected.drops.total() - expected.drops["buffer-too-small"]
        finally:
            store.close()
