"""What the fault tests run in a process of its own: `python store_child.py PROGRAM FOLDER [USER]`.

Every line on stdout is something that the store has acknowledged; it leaves by one `write`, unbuffered.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ecc_device.store import Store
from ecc_model.errors import EccError, StoreError, StoreFull

FEATURES = bytes(range(32))
LABELS = b"abcd"
ROWS = 20


def say(*words: object) -> None:
    os.write(1, (" ".join(str(word) for word in words) + "\n").encode())


def work(store: Store) -> None:
    """Add, answer and learn `ROWS` rows, with one model."""
    no = store.add_version(file="vgg9.pt", sha256="0" * 64, features_id=FEATURES, parent=None, figures={}, time_s=0.0)
    store.begin_trial(no)
    say("trial", no)
    ids = []
    for k in range(ROWS):
        row_id = store.add(float(k), FEATURES, bytes([k]) * 32, "3")
        say("waiting", row_id)
        ids.append(row_id)
        if k % 2:
            store.answer(row_id, bytes([k]) * 40, LABELS, float(k))
            say("labelled", row_id)
    store.confirm(no, ids)
    say("confirmed", no)


def stream(store: Store) -> None:
    """Add 200 rows as a device does: whatever the disk says, go on and count."""
    for k in range(200):
        try:
            row_id = store.add(float(k), FEATURES, bytes([k]) * 2048, "3")
        except StoreFull as exc:
            store.drop("disk-full")
            say("lost", k, exc)
        except StoreError as exc:
            store.drop("disk-error")
            say("lost", k, exc)
        else:
            say("waiting", row_id, k)
        if k == 150:  # somebody makes room on the disk
            for ballast in Path(sys.argv[2]).glob("ballast"):
                ballast.unlink()


def hold(store: Store) -> None:
    """Own the folder until stdin ends."""
    say("holding")
    sys.stdin.read()


def main() -> int:
    program, folder = sys.argv[1], Path(sys.argv[2])
    if len(sys.argv) > 3:
        os.setuid(int(sys.argv[3]))
    try:
        with Store.open(folder) as store:
            {"work": work, "stream": stream, "hold": hold, "open": lambda _: say("opened")}[program](store)
    except EccError as exc:
        say("error", exc)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
