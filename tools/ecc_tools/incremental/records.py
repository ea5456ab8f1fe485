"""What a comparison has measured so far: a line of JSON for each learner and seed; it goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ecc_tools.incremental.errors import IncrementalError

ROWS = "rows.jsonl"
Record = dict[str, Any]


class Records:
    """`rows.jsonl` in a folder. Every line says under which settings it was measured."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """`IncrementalError`: the folder cannot be written into, or holds rows of other settings."""
        self.path, self.settings = folder / ROWS, dict(settings)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            whole, _, torn = text.rpartition("\n")
            if torn:  # it was stopped while it wrote this line
                self.path.write_text(f"{whole}\n" if whole else "", encoding="utf-8")
        except OSError as exc:
            raise IncrementalError(f"{folder}: {exc.strerror}; give another folder with --out") from exc
        try:
            self.rows: list[Record] = [json.loads(line) for line in whole.splitlines()]
            for row in self.rows:
                self._check(row["settings"])
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise IncrementalError(f"{self.path}: not what this command writes; give another folder: --out") from exc

    def find(self, **key: Any) -> Record | None:
        """The row with these values."""
        return next((row for row in self.rows if all(row[name] == value for name, value in key.items())), None)

    def add(self, key: Mapping[str, Any], found: Mapping[str, Any]) -> Record:
        """Append a row, durably."""
        row = {"settings": self.settings, **key, **found}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.rows.append(row)
        return row

    def _check(self, settings: Mapping[str, Any]) -> None:
        for name, value in self.settings.items():
            if settings.get(name) != value:
                there = settings.get(name)
                raise IncrementalError(
                    f"{self.path} was begun with {name} = {there}, not {value}; give another folder with --out"
                )
