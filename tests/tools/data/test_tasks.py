"""Class-incremental splits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecc_tools.data.errors import BadTasks
from ecc_tools.data.tasks import parse_tasks

SPLITS = [
    ("B6-Inc2", 10, [6, 2, 2]),
    ("B0-Inc20", 100, [20] * 5),
    ("B50-Inc10", 100, [50, 10, 10, 10, 10, 10]),
    ("B10-Inc1", 10, [10]),
    ("B0-Inc1", 3, [1, 1, 1]),
]


@pytest.mark.parametrize(("text", "classes", "sizes"), SPLITS)
def test_tasks_follow_each_other_in_natural_order(text, classes, sizes):
    tasks = parse_tasks(text, classes)
    assert [len(task) for task in tasks] == sizes
    assert [label for task in tasks for label in task] == list(range(classes))


BAD = [
    ("", 10, "no class-incremental split"),
    ("b6-inc2", 10, "no class-incremental split"),
    ("B6-Inc2 ", 10, "no class-incremental split"),
    ("B6-\nInc2", 10, "no class-incremental split"),
    ("B6-Inc-2", 10, "no class-incremental split"),
    ("B٦-Inc2", 10, "no class-incremental split"),
    ("B6-Inc0", 10, "tasks without classes"),
    ("B6-Inc3", 10, "10 classes cannot be split so"),
    ("B12-Inc2", 10, "10 classes cannot be split so"),
    ("B0-Inc999999", 10, "10 classes cannot be split so"),
]


@pytest.mark.parametrize(("text", "classes", "reason"), BAD)
def test_what_divides_nothing_is_told(text, classes, reason):
    with pytest.raises(BadTasks) as caught:
        parse_tasks(text, classes)
    assert str(caught.value) == (
        f"{text!r}: {reason}; write for example B6-Inc2: six classes first, two more each task"
    )


@given(st.one_of(st.text(), st.from_regex(r"B\d{1,7}-Inc\d{1,7}", fullmatch=True)), st.integers(1, 400))
def test_any_text_is_a_split_or_told(text, classes):
    try:
        tasks = parse_tasks(text, classes)
    except BadTasks:
        return
    assert [label for task in tasks for label in task] == list(range(classes))
    assert all(tasks)
