"""The device's state folder: one process owns it, and says so in a lock file."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from ecc_model.errors import StoreError, StoreLocked

LOCK_NAME = "lock"
DATABASE_NAME = "store.sqlite"

_NOT_A_FOLDER = "a file, where the state folder should be; choose another state folder"
_MEANINGS = {
    errno.EROFS: "on a read-only file system; choose a state folder that can be written",
    errno.EEXIST: _NOT_A_FOLDER,
    errno.ENOTDIR: _NOT_A_FOLDER,
    errno.ENOSPC: "the disk is full; free some space and start again",
    errno.EIO: "the disk cannot be read or written (I/O error); check the disk",
}


def default_state(device: str) -> Path:
    """The state folder where none is given: `$ECC_STATE`, else one for each device in the user's home."""
    given = os.environ.get("ECC_STATE")
    return Path(given) if given else Path.home() / ".local" / "state" / "ecc-snn" / device


class FolderLock:
    """The right to write in a state folder; the kernel takes it back when the process ends, however it ends.

    The file holds the owner's process id as text. A program started by the owner (`subprocess`) does not inherit
    the lock; a bare `fork` would.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock, making the folder where it is missing. Raises `StoreLocked`, `StoreError`."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as exc:
            raise StoreError(_why_not(folder, exc)) from exc
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as exc:
            owner = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise StoreLocked(
                f"{folder}: in use by process {owner}; stop that process, or choose another state folder"
            ) from exc
        except OSError as exc:
            os.close(self._fd)
            raise StoreError(_why_not(folder, exc)) from exc

    def release(self) -> None:
        """Give the folder back; the lock file stays, it means nothing without its lock."""
        os.close(self._fd)


def database_path(folder: Path, *, writing: bool) -> Path:
    """The database's path in `folder`. Raises `StoreError` when something there can never be a database."""
    path = folder / DATABASE_NAME
    if os.path.isdir(path):
        raise StoreError(f"{path}: a folder stands where the database should be; remove it")
    if os.path.exists(path):
        if not os.access(path, os.R_OK | (os.W_OK if writing else 0)):
            raise StoreError(_not_ours(path))
    elif not writing:
        raise StoreError(f"{folder}: no store here; check the folder, or start the device first")
    return path


def _why_not(folder: Path, exc: OSError) -> str:
    """The sentence for a folder that cannot be made or written."""
    if exc.errno in (errno.EACCES, errno.EPERM):
        return _not_ours(folder)
    other = f"cannot be used as state folder ({exc.strerror}); choose another one"
    return f"{folder}: {_MEANINGS.get(exc.errno or 0, other)}"


def _not_ours(path: Path) -> str:
    """Permission was denied: because it belongs to somebody else, or although it does not."""
    holder = next(place for place in (path, *path.absolute().parents) if os.path.exists(place))
    owner = holder.stat().st_uid
    if owner != os.geteuid():
        return f"{holder}: belongs to user {owner}, this is user {os.geteuid()}; start as that user, or chown it"
    return f"{holder}: write-protected; make it writable with: chmod -R u+rwX {holder}"
