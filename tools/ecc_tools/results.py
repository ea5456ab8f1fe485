"""docs/results.md from the tables in docs/results/*.json; run by `make results`.

One file is one table: what was run on which machine, and a row for each figure with its seed and its number of frames.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from ecc_model.errors import EccError

DOCS = Path("docs")
FOLDER, PAGE = "results", "results.md"
SCHEMA = 1
NEEDED = ("seed", "n")  # in every table: a figure without them cannot be checked
HEAD = """# Results

Written by `make results` from the tables in `docs/results/`; change those, not this page.
"""
NOTHING = """No figures are recorded here yet; `ecc-tools evaluate` measures a model on your machine.
"""

Cell = str | int | float | None


class ResultsError(EccError):
    """A table that breaks its contract."""


class Column(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A column: the key of its cells in the rows, and its title."""

    key: str
    title: str


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of docs/results. Tables stand in the order of `order`, then of their files' names."""

    schema: int
    order: int
    title: str
    about: str  # one paragraph
    machine: str
    commands: list[str]
    columns: list[Column]
    rows: list[dict[str, Cell]]  # a cell for each column; null: there is none
    notes: list[str]


def render(folder: Path) -> str:
    """The whole page for the tables in `folder`. `ResultsError`."""
    tables = sorted(((read_table(path), path.name) for path in folder.glob("*.json")), key=lambda t: (t[0].order, t[1]))
    parts = [line for table, _ in tables for line in _section(table)]
    return "\n".join([HEAD, *(parts or [NOTHING])])


def read_table(path: Path) -> Table:
    """One checked table. `ResultsError`."""
    try:
        table = msgspec.json.decode(path.read_bytes(), type=Table)
    except (OSError, msgspec.MsgspecError) as exc:
        raise ResultsError(f"{path}: no table of results ({exc}); see ecc_tools.results.Table") from exc
    if table.schema != SCHEMA:
        raise ResultsError(f"{path}: a table of schema {table.schema}, this version reads {SCHEMA}; write it anew")
    keys = [column.key for column in table.columns]
    missing = [key for key in NEEDED if key not in keys]
    if missing:
        raise ResultsError(f"{path}: no column '{missing[0]}'; say it of every figure")
    for number, row in enumerate(table.rows):
        if set(row) != set(keys):
            odd = sorted(set(row) ^ set(keys))[0]
            problem = "a cell without a column" if odd in row else "no cell, not even null,"
            raise ResultsError(f"{path}: row {number} has {problem} for '{odd}'; give every row a cell for each column")
    return table


def _section(table: Table) -> Iterator[str]:
    yield f"## {table.title}\n"
    yield f"{table.about}\n"
    columns = [[row[column.key] for row in table.rows] for column in table.columns]
    numbers = [all(not isinstance(cell, str) for cell in cells) for cells in columns]
    yield _line([column.title for column in table.columns])
    yield _line(["---:" if number else "---" for number in numbers])
    for cells in zip(*map(_texts, columns), strict=True):
        yield _line(cells)
    yield f"\nMachine: {table.machine}\n"
    yield "\n".join(["```sh", *table.commands, "```\n"])
    if table.notes:
        yield "\n".join(f"- {note}" for note in table.notes) + "\n"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _texts(cells: list[Cell]) -> list[str]:
    """A column's cells as text; its floats with as many decimals as the longest of them has."""
    written = [repr(cell) for cell in cells if isinstance(cell, float)]
    places = max((len(text.partition(".")[2]) for text in written if "e" not in text), default=0)
    return [_text(cell, places) for cell in cells]


def _text(cell: Cell, places: int) -> str:
    if cell is None:
        return "–"
    return f"{cell:.{places}f}" if isinstance(cell, float) and "e" not in repr(cell) else str(cell)


def main() -> None:
    """Write the page of the repository in the working directory."""
    try:
        page = render(DOCS / FOLDER)
    except ResultsError as exc:
        sys.exit(f"error: {exc}")
    (DOCS / PAGE).write_text(page, encoding="utf-8")
    print(f"wrote {DOCS / PAGE}", file=sys.stderr)


if __name__ == "__main__":
    main()
