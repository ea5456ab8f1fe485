"""docs/results.md: tables in JSON, a page in Markdown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ecc_tools.results import DOCS, FOLDER, PAGE, ResultsError, main, read_table, render
from support.imports import ROOT


def table(**changes: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "order": 1,
        "title": "CIFAR-10, VGG-9",
        "about": "Alone and with a teacher.",
        "machine": "two cores",
        "commands": ["ecc-tools train --seed 0", "ecc-tools evaluate run"],
        "columns": [
            {"key": "row", "title": "row"},
            {"key": "seed", "title": "seed"},
            {"key": "n", "title": "n"},
            {"key": "ours", "title": "ours, %"},
            {"key": "paper", "title": "paper, %"},
        ],
        "rows": [
            {"row": "alone", "seed": 0, "n": 10000, "ours": 88.5, "paper": 86.75},
            {"row": "CE | KL", "seed": 0, "n": 10000, "ours": 90.57, "paper": None},
        ],
        "notes": ["Both at width 0.25."],
    } | changes


def write(folder: Path, name: str = "a.json", **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(table(**changes)))
    return path


def test_the_page_is_what_the_tables_say() -> None:
    written = (ROOT / DOCS / PAGE).read_text(encoding="utf-8")
    assert written == render(ROOT / DOCS / FOLDER), "docs/results.md is not up to date; write it anew: make results"


def test_a_table_is_written_with_its_commands_machine_and_notes(tmp_path: Path) -> None:
    write(tmp_path)
    assert render(tmp_path).partition("## ")[2] == (
        "CIFAR-10, VGG-9\n\n"
        "Alone and with a teacher.\n\n"
        "| row | seed | n | ours, % | paper, % |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| alone | 0 | 10000 | 88.50 | 86.75 |\n"
        "| CE \\| KL | 0 | 10000 | 90.57 | – |\n\n"
        "Machine: two cores\n\n"
        "```sh\necc-tools train --seed 0\necc-tools evaluate run\n```\n\n"
        "- Both at width 0.25.\n"
    )


def test_tables_stand_in_their_order(tmp_path: Path) -> None:
    write(tmp_path, "a.json", order=2, title="second")
    write(tmp_path, "c.json", order=1, title="first of c")
    write(tmp_path, "b.json", order=1, title="first of b")
    titles = [line for line in render(tmp_path).splitlines() if line.startswith("## ")]
    assert titles == ["## first of b", "## first of c", "## second"]


def test_very_small_numbers_keep_their_exponent(tmp_path: Path) -> None:
    rows = [{"row": "p", "seed": 0, "n": 1, "ours": 1e-07, "paper": 0.25}]
    write(tmp_path, rows=rows)
    assert "| p | 0 | 1 | 1e-07 | 0.25 |" in render(tmp_path)


def test_without_tables_the_page_says_so(tmp_path: Path) -> None:
    assert "No figures are recorded here yet" in render(tmp_path / "results")


ROW = {"row": "alone", "seed": 0, "n": 1, "ours": 1.0, "paper": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 2}, "a table of schema 2, this version reads 1; write it anew"),
        ({"columns": [{"key": "n", "title": "n"}]}, "no column 'seed'; say it of every figure"),
        (
            {"rows": [ROW, {**ROW, "colour": "red"}]},
            "row 1 has a cell without a column for 'colour'; give every row a cell for each column",
        ),
        (
            {"rows": [{key: ROW[key] for key in ("row", "seed", "n", "ours")}]},
            "row 0 has no cell, not even null, for 'paper'; give every row a cell for each column",
        ),
        (
            {"commands": "make"},
            "no table of results (Expected `array`, got `str` - at `$.commands`); see ecc_tools.results.Table",
        ),
        (
            {"colour": "red"},
            "no table of results (Object contains unknown field `colour`); see ecc_tools.results.Table",
        ),
    ],
)
def test_a_table_that_breaks_its_contract_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ResultsError) as caught:
        read_table(path)
    assert str(caught.value) == f"{path}: {message}"


def test_the_command_writes_the_page_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    DOCS.mkdir()
    write(DOCS / FOLDER)
    main()
    assert (DOCS / PAGE).read_text(encoding="utf-8") == render(DOCS / FOLDER)
    write(DOCS / FOLDER, schema=2)
    with pytest.raises(SystemExit, match=r"^error: docs/results/a.json: a table of schema 2"):
        main()
