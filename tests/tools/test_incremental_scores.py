"""Average and last accuracy, forgetting, spread over seeds; what is kept between runs; tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ecc_tools.incremental.errors import IncrementalError
from ecc_tools.incremental.protocol import summarize
from ecc_tools.incremental.records import ROWS, Records
from ecc_tools.incremental.scores import by_class, forgetting, over_seeds, percent
from ecc_tools.incremental.tables import drift_table, print_table, protocol_table, write_table
from ecc_tools.results import read_table

SETTINGS = {"protocol": "B50-Inc10", "data": "cifar-100", "part": "test", "model": "ab"}


def test_a_class_forgets_from_its_best_earlier_accuracy_and_the_last_task_forgets_nothing() -> None:
    tasks = [{"a": 90.0}, {"a": 95.0, "b": 80.0}, {"a": 70.0, "b": 85.0, "c": 99.0}]
    assert forgetting(tasks) == {"a": 25.0, "b": -5.0}


def test_the_average_counts_the_base_and_the_last_is_that_of_all_classes() -> None:
    found = summarize([(90.0, {"a": 90.0}), (60.0, {"a": 50.0, "b": 70.0})])
    assert (found["average"], found["last"], found["forgetting"]) == (75.0, 60.0, 40.0)
    assert found["forgetting_by_class"] == {"a": 40.0}


def test_accuracy_by_class_leaves_out_classes_without_frames() -> None:
    right = np.array([True, False, True])
    assert by_class(right, np.array(["a", "a", "b"]), ("a", "b", "c")) == {"a": 50.0, "b": 100.0}
    assert percent(right[:0]) == 0.0


def test_seeds_become_mean_and_range_and_what_is_no_number_stays() -> None:
    one, other = {"x": 1.0, "y": [2, None], "z": "no", "v": {"w": 1}}, {"x": 3.0, "y": [4, 5], "z": "yes", "v": None}
    assert over_seeds([one, other]) == {
        "x": {"mean": 2.0, "low": 1.0, "high": 3.0},
        "y": [{"mean": 3.0, "low": 2, "high": 4}, None],
        "z": ["no", "yes"],
        "v": None,
    }


def test_rows_outlive_the_process_and_a_torn_last_line_is_measured_again(tmp_path: Path) -> None:
    records = Records(tmp_path, SETTINGS)
    records.add({"learner": "lwf", "seed": 0}, {"last": 1.5})
    records.add({"learner": "lwf", "seed": 1}, {"last": 2.5})
    with (tmp_path / ROWS).open("a") as stream:
        stream.write('{"settings": {"prot')
    again = Records(tmp_path, SETTINGS)
    assert again.find(learner="lwf", seed=1) == {"settings": SETTINGS, "learner": "lwf", "seed": 1, "last": 2.5}
    assert again.find(learner="lwf", seed=2) is None
    again.add({"learner": "lwf", "seed": 2}, {"last": 3.5})
    assert [json.loads(line)["seed"] for line in (tmp_path / ROWS).read_text().splitlines()] == [0, 1, 2]


def test_rows_of_other_settings_or_of_nobody_are_not_mixed_in(tmp_path: Path) -> None:
    Records(tmp_path, SETTINGS).add({"learner": "lwf", "seed": 0}, {})
    with pytest.raises(IncrementalError, match=r"was begun with part = test, not validation; give another folder"):
        Records(tmp_path, SETTINGS | {"part": "validation"})
    with pytest.raises(IncrementalError, match=r"was begun with stream = None, not 1000; give another folder"):
        Records(tmp_path, {"stream": 1000})
    (tmp_path / ROWS).write_text("hello\n")
    with pytest.raises(IncrementalError, match=r"rows\.jsonl: not what this command writes; give another folder"):
        Records(tmp_path, SETTINGS)


def test_a_table_stands_in_the_form_of_docs_results_with_published_figures_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spread = {"mean": 70.04, "low": 69.0, "high": 71.26}
    row = {"learner": "analytic", "seeds": [0, 1], "n": 9, "average": spread, "last": spread, "forgetting": spread}
    found = {
        "settings": SETTINGS,
        "rows": [row | {"seconds": spread, "mib": None}],
        "machine": {"processor": "P", "python": "3", "numpy": "2"},
        "seen_beyond_base": [],
    }
    write_table(protocol_table(found, "ecc-tools incremental m"), tmp_path / "t.json")
    table = read_table(tmp_path / "t.json")
    assert table.rows[0] == {
        "learner": "analytic",
        "seed": "0, 1",
        "n": 9,
        "average": 70.0,
        "average_range": "69.0 to 71.3",
        "last": 70.0,
        "last_range": "69.0 to 71.3",
        "forgetting": 70.0,
        "seconds": 70.0,
        "mib": None,
        "average_published": None,
        "last_published": None,
    }
    fetril = next(row for row in table.rows if row["learner"] == "FeTrIL")
    assert (fetril["seed"], fetril["n"], fetril["average"], fetril["average_published"]) == (None, None, None, 66.3)
    assert any("FeTrIL (WACV 2023)" in note for note in table.notes)
    print_table(table)
    assert "69.0 to 71.3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seen", "note"),
    [
        ([], None),
        (
            ["frog", "ship"],
            "Not a standard protocol: the base network, its teacher or what it begins with has also seen frog, ship: "
            "not in the first task.",
        ),
        (
            list("abcdef"),
            "Not a standard protocol: the base network, its teacher or what it begins with has also seen a, b, c, d, "
            "e, ...: not in the first task.",
        ),
        (None, "The model file does not tell which classes the base network's teacher or start have seen."),
    ],
)
def test_a_base_that_has_seen_more_than_its_task_is_noted(seen: list[str] | None, note: str | None) -> None:
    machine = {"processor": "P", "python": "3", "numpy": "2"}
    found = {"settings": SETTINGS, "rows": [], "machine": machine, "seen_beyond_base": seen}
    notes = protocol_table(found, "ecc-tools incremental m").notes
    assert [one for one in notes if "seen" in one] == ([] if note is None else [note])


def test_a_table_of_drift_says_what_became_of_the_updates() -> None:
    spread = {"mean": 70.0, "low": 70.0, "high": 70.0}
    state = dict.fromkeys(("accuracy", "upload_rate", "clean_accuracy", "clean_upload_rate"), spread)
    row = {"learner": "analytic", "kind": "noise", "strength": 3, "send": "features", "seeds": [0, 1, 2], "n": 60}
    row |= {"before": state, "after": state, "bound": state, "candidate": None, "won_back": None}
    row |= {"during": {"collaborative_accuracy": spread}, "clean_lost": spread}
    turned = {"accepted": [True, False, False], "reason": ["50% -> 60%", "cannot tell: 3 rows", "too few rows"]}
    kept = {"accepted": [True] * 3, "reason": ["better"] * 3}
    again = {"accepted": [False] * 3, "reason": ["cannot tell: 10 rows"] * 3}
    machine = {"processor": "P", "python": "3", "numpy": "2"}
    rows = [row | {"update": update} for update in (turned, kept, again)]
    table = drift_table({"settings": {"drift": 60, "data": "digits"}, "rows": rows, "machine": machine}, "c")
    assert [one["accepted"] for one in table.rows] == ["1 of 3", "3 of 3", "0 of 3"]
    assert table.notes[1:] == [
        "4 not accepted: cannot tell: 3 rows",
        "1 not accepted: too few rows",
    ]
