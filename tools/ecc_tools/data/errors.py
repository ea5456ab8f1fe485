"""What can be wrong with a data set on disk, or on its way there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ecc_model.errors import EccError


class DataError(EccError):
    """A data set that cannot be used."""


class UnknownSet(DataError):
    """A name that is neither a set's nor a folder's."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no data set is called {name!r}; known are {', '.join(known)}, and any folder of images")


class DataNotFound(DataError):
    """A file of a set that is not there."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: not there; fetch the set with 'ecc-tools data fetch', or name its folder with --root or ECC_DATA"
        )


class DataUnreadable(DataError):
    """A file or folder that the system does not let us read or write."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"{path}: {error.strerror or error}; check the path, its permissions, and the space on its disk"
        )


class ChecksumWrong(DataError):
    """A file that differs from the official one."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path}: its checksum is not the official one; delete it and fetch the set again")


class DataCorrupt(DataError):
    """A file whose content is not what its format says."""

    def __init__(self, path: Path, reason: str, remedy: str = "fetch the set again") -> None:
        super().__init__(f"{path}: {reason}; {remedy}")
        self.path, self.reason = path, reason


class BadImages(DataError):
    """A folder of images that does not make a data set."""

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        super().__init__(f"{path}: {reason}; {remedy}")


class BadTasks(DataError):
    """A class-incremental split that does not fit the classes."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"{text[:40]!r}: {reason}; write for example B6-Inc2: six classes first, two more each task")


class DownloadFailed(DataError):
    """A set that did not come, or not whole."""

    def __init__(self, url: str, reason: str, remedy: str) -> None:
        super().__init__(f"{url}: {reason}; {remedy}")


def unreadable(path: Path, error: OSError) -> DataError:
    """The error of this house for one of the system's about `path`."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return DataNotFound(path)
    return DataUnreadable(path, error)
