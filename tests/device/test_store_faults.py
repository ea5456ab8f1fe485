"""The store under kill signals, full and failing disks, damaged files and rivals, with real processes.

Three invariants after every case: nothing acknowledged is lost, each id changes once, the error is one clear line.
"""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ecc_device.store import Store
from ecc_model.errors import StoreError, StoreLocked

CHILD = Path(__file__).with_name("store_child.py")
FEATURES = bytes(range(32))
NOBODY = 65534


def run_child(program: str, folder: Path, *, inject: str, log: str = os.devnull) -> subprocess.CompletedProcess[str]:
    """Run a program of the child; `inject` is strace's expression, `log` gets every system call."""
    strace = ["strace", "-f", "-qq", "-o", log, "-e", f"inject={inject}"]
    command = [*strace, sys.executable, str(CHILD), program, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def strace() -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: system calls cannot be made to fail")
    if subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here: system calls cannot be made to fail")


def check_nothing_lost(folder: Path, said: str) -> None:
    """The database is whole, and each acknowledged row is in the last state that was acknowledged, or later."""
    last = {int(line.split()[1]): line.split()[0] for line in said.splitlines() if line[0] in "wl"}
    confirmed = "confirmed" in said
    with Store.open(folder) as store:
        assert store.quarantined is None
        for row_id, state in last.items():
            row = store.row(row_id)
            found = "gone" if row is None else row.state
            allowed = {
                "waiting": {"waiting", "labelled"},
                "labelled": {"learnt"} if confirmed else {"labelled", "learnt"},
            }[state]
            assert found in allowed, f"row {row_id} was acknowledged as {state} and is {found}"
        rows = store.summary().rows
        # An id is given out in the transaction that stores its row: none is missing.
        db = sqlite3.connect(folder / "store.sqlite")
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        given = db.execute("SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'rows'").fetchone()[0]
        db.close()
        assert sum(rows.values()) == given >= len(last)
        trial, active = store.trial_version(), store.active_version()
        if confirmed:
            assert (trial, active is not None and active.no) == (None, 1)
            assert rows["labelled"] == 0
        elif active is None:
            assert rows["learnt"] == 0
            assert trial is not None or "trial" not in said


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    ("syscall", "singles", "stride"), [("pwrite64", 8, 13), ("fdatasync", 8, 1), ("unlink", 4, 1), ("ftruncate", 4, 1)]
)
def test_a_kill_at_any_system_call_loses_nothing(tmp_path: Path, syscall: str, singles: int, stride: int) -> None:
    """Every one of the first calls, then each `stride`-th, until the child gets through."""
    nth, kills = 1, 0
    while True:
        folder = tmp_path / str(nth)
        done = run_child("work", folder, inject=f"{syscall}:signal=SIGKILL:when={nth}")
        check_nothing_lost(folder, done.stdout)
        if done.returncode == 0:
            assert "confirmed" in done.stdout
            break
        assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done.stderr
        kills += 1
        nth += 1 if nth < singles else stride
    assert kills > 0


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize(("syscall", "stride"), [("pwrite64", 31), ("fdatasync", 1), ("ftruncate", 1)])
def test_an_error_at_any_system_call_is_told_and_loses_nothing(
    tmp_path: Path, syscall: str, stride: int, error: str
) -> None:
    """The child stops at its first error; SQLite itself gets over some (a checkpoint can be done later)."""
    told = 0
    for nth in range(1, 9 if stride == 1 else 320, stride):
        folder = tmp_path / str(nth)
        done = run_child("work", folder, inject=f"{syscall}:error={error}:when={nth}")
        assert done.stderr == ""
        if done.returncode != 0:
            assert done.returncode == 1
            last = done.stdout.splitlines()[-1]
            assert last.startswith(f"error {folder}")
            assert "the disk is full; free some space" in last or "the disk cannot be read or written" in last
            told += 1
        check_nothing_lost(folder, done.stdout)
    assert told > 0


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize(
    ("error", "reason", "sentence"),
    [
        ("ENOSPC", "disk-full", "the disk is full; free some space, rows are stored again once there is room"),
        ("EIO", "disk-error", "the disk cannot be read or written (I/O error); check it, and its free space"),
    ],
)
def test_a_failing_disk_costs_counted_frames_only(tmp_path: Path, error: str, reason: str, sentence: str) -> None:
    done = run_child("stream", tmp_path, inject=f"pwrite64:error={error}:when=150..190")
    check_stream(tmp_path, done, reason, sentence)


@pytest.mark.usefixtures("strace")
def test_after_an_io_error_the_file_is_opened_afresh(tmp_path: Path) -> None:
    """A descriptor of a disk that went away stays bad when the disk is back."""
    log = tmp_path / "calls"
    run_child("stream", tmp_path / "state", inject="pwrite64:error=EIO:when=150", log=str(log))
    before, after = log.read_text().split("EIO", maxsplit=1)
    opening = f'"{tmp_path}/state/store.sqlite", O_RDWR'
    assert opening in before
    assert opening in after


def test_a_really_full_disk_costs_counted_frames_only(small_disk: Callable[[str], list[str]], tmp_path: Path) -> None:
    """A file system of 4 MiB with ballast, which somebody removes after frame 150."""
    python = f"{sys.executable} {CHILD} stream $D/state"
    keep = f"cp -r $D/state {tmp_path}/kept"
    fill = "mkdir $D/state && head -c 3500000 /dev/zero > $D/state/ballast"
    done = subprocess.run(
        small_disk(f"{fill} && {python}; code=$?; {keep}; exit $code"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    sentence = "the disk is full; free some space, rows are stored again once there is room"
    check_stream(tmp_path / "kept", done, "disk-full", sentence)


def check_stream(folder: Path, done: subprocess.CompletedProcess[str], reason: str, sentence: str) -> None:
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    stored = [(int(words[1]), int(words[2])) for words in lines if words[0] == "waiting"]
    lost = [(int(words[1]), words[2]) for words in lines if words[0] == "lost"]
    assert len(stored) + len(lost) == 200
    assert lost
    assert all(text.endswith(f"store.sqlite: {sentence}") for _, text in lost)
    assert stored[-1][1] == 199 > lost[-1][0] > lost[0][0] > stored[0][1]  # before the trouble, and after it
    with Store.open(folder) as store:
        assert [row.id for row in store.waiting(1000, FEATURES)] == [row_id for row_id, _ in stored]
        assert store.drops() == {reason: len(lost)}


def fill(folder: Path) -> list[int]:
    with Store.open(folder) as store:
        return [store.add(float(k), FEATURES, bytes([k % 256]) * 64, "a") for k in range(500)]


def zero_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(100))


def flip_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(12 * 4096)
        page = file.read(4096)
        file.seek(12 * 4096)
        file.write(bytes(byte ^ 0xFF for byte in page))


def cut(pages: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, pages * 4096)


@pytest.mark.parametrize(
    "damage",
    [zero_header, flip_page, cut(1), cut(2), cut(9), lambda path: path.write_text("not a database at all\n" * 50)],
    ids=["header", "page", "cut to 1", "cut to 2", "cut to 9", "text"],
)
def test_a_damaged_database_is_set_aside_and_a_new_one_started(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    old_ids = fill(tmp_path)
    path = tmp_path / "store.sqlite"
    damage(path)
    remains = path.read_bytes()
    with pytest.raises(StoreError, match=r"store\.sqlite: the database is damaged; restart the device"):
        read_all(tmp_path)
    with Store.open(tmp_path) as store:
        assert store.quarantined is not None
        assert store.quarantined.name.startswith("store.sqlite.corrupt-")
        assert store.quarantined.read_bytes() == remains
        assert store.summary().rows["waiting"] == 0
        new_id = store.add(0.0, FEATURES, b"x", "a")
        assert new_id > max(old_ids)  # a late answer to a lost row must not find this one
        first = store.quarantined
    zero_header(path)
    with Store.open(tmp_path) as store:
        assert store.quarantined not in (None, first)
    with Store.open(tmp_path) as store:
        assert store.quarantined is None


def read_all(folder: Path) -> None:
    with Store.open(folder, read_only=True) as reader:
        reader.waiting(1000, FEATURES)
        reader.summary()


def test_a_log_without_its_database_is_set_aside_too(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.touch()
    (tmp_path / "store.sqlite-wal").write_bytes(b"x" * 5000)
    with Store.open(tmp_path) as store:
        assert store.quarantined is not None
        assert store.quarantined.with_name(store.quarantined.name + "-wal").read_bytes() == b"x" * 5000


def test_damage_met_while_running_is_told_in_one_line(tmp_path: Path) -> None:
    fill(tmp_path)
    with Store.open(tmp_path) as store:
        for page in range(1, 12):
            with (tmp_path / "store.sqlite").open("r+b") as file:
                file.seek(page * 4096)
                file.write(b"\xff" * 4096)
        with pytest.raises(StoreError, match=r"store\.sqlite: the database is damaged; restart the device: ") as caught:
            store.waiting(1000, FEATURES)
        assert "\n" not in str(caught.value)


def test_a_second_process_is_told_who_owns_the_folder(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, str(CHILD), "hold", str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "holding\n"
        expected = f"{tmp_path}: in use by process {owner.pid}; stop that process, or choose another state folder"
        with pytest.raises(StoreLocked) as caught:
            Store.open(tmp_path)
        assert str(caught.value) == expected
        Store.open(tmp_path, read_only=True).close()
    finally:
        owner.kill()
        owner.communicate(timeout=60)
    Store.open(tmp_path).close()  # the kernel released the lock with its owner


def test_a_store_that_cannot_open_gives_its_lock_back(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").mkdir()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"store\.sqlite: a folder stands where the database should be; remove it"):
            Store.open(tmp_path)
    (tmp_path / "store.sqlite").rmdir()
    Store.open(tmp_path).close()


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    place = tmp_path / "state"
    place.write_text("")
    sentence = "a file, where the state folder should be; choose another state folder"
    for folder in (place, place / "deeper"):
        with pytest.raises(StoreError) as caught:
            Store.open(folder)
        assert str(caught.value) == f"{folder}: {sentence}"


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that other users can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def open_as(user: int, folder: Path) -> str:
    command = [sys.executable, str(CHILD), "open", str(folder), str(user)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    return done.stdout.strip()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand files to another user")


@as_root
def test_a_folder_of_another_user_is_named(shared_folder: Path) -> None:
    advice = f"belongs to user 0, this is user {NOBODY}; start as that user, or chown it"
    assert open_as(NOBODY, shared_folder) == f"error {shared_folder}: {advice}"
    assert open_as(NOBODY, shared_folder / "a" / "b") == f"error {shared_folder}: {advice}"


@as_root
def test_a_database_of_another_user_is_named(shared_folder: Path) -> None:
    fill(shared_folder)
    os.chmod(shared_folder, 0o777)
    os.chmod(shared_folder / "lock", 0o666)
    advice = f"belongs to user 0, this is user {NOBODY}; start as that user, or chown it"
    assert open_as(NOBODY, shared_folder) == f"error {shared_folder}/store.sqlite: {advice}"


def test_a_write_protected_folder_is_named(shared_folder: Path) -> None:
    folder = shared_folder / "state"
    folder.mkdir(mode=0o555)
    user = os.geteuid()
    if user == 0:
        user = NOBODY
        os.chown(folder, user, user)
    assert open_as(user, folder) == f"error {folder}: write-protected; make it writable with: chmod -R u+rwX {folder}"


def test_a_read_only_file_system_is_named(small_disk: Callable[[str], list[str]]) -> None:
    shell = f"mount -o remount,ro $D && {sys.executable} {CHILD} open $D/state"
    done = subprocess.run(small_disk(shell), capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("error ")
    assert done.stdout.endswith("/state: on a read-only file system; choose a state folder that can be written\n")
