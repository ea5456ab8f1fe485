"""A folder of files as a recording: by name, or with a sub-folder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecc_model.errors import SourceError


class ClassFolder:
    """The files of a folder with some suffixes, by name; with sub-folders, one class after the other.

    what: what the files are called in errors. `SourceError` for a folder without such files, and for one that mixes
    files and classes.
    """

    def __init__(self, folder: Path, suffixes: Sequence[str], what: str) -> None:
        try:
            classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
            loose = list_files(folder, suffixes)
            self.paths = loose or [file for path in classes for file in list_files(path, suffixes)]
            labelled = [path.name for path in classes if list_files(path, suffixes)]
        except OSError as exc:
            raise SourceError(f"{folder}: cannot be listed ({exc.strerror}); check its permissions") from exc
        if not self.paths:
            raise SourceError(f"{folder}: holds no {what}; put {', '.join(suffixes)} files there")
        if loose and labelled:
            raise SourceError(
                f"{folder}: holds {what} ({loose[0].name}) beside class folders ({labelled[0]}); "
                f"keep either {what}, or one folder for each class"
            )
        self.labels: tuple[str, ...] | None = tuple(labelled) or None

    def label(self, path: Path) -> str | None:
        """The class of one of the files."""
        return None if self.labels is None else path.parent.name


def list_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of a folder with one of the suffixes, by name; hidden ones are passed over. `OSError`: cannot be listed."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    )


def holds(folder: Path, suffixes: Sequence[str]) -> bool:
    """Whether a folder or one of its sub-folders has files with one of the suffixes; False if it cannot be read."""
    try:
        places = [folder, *(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))]
        return any(list_files(place, suffixes) for place in places)
    except OSError:
        return False
