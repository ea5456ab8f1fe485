"""The topic table, names and filters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecc_broker import messages
from ecc_broker.messages import WireMessage
from ecc_broker.topics import (
    MAX_PAYLOAD_BYTES,
    TOPICS,
    Place,
    check_name,
    matches,
    parse,
    reply_topic,
    site_filter,
    split_share,
    topic,
    worker_filter,
)
from ecc_model.errors import LinkError, WireError


def test_each_message_has_one_row_and_a_cap() -> None:
    kinds = [row.message for row in TOPICS]
    ours = [kind for kind in WireMessage.__subclasses__() if kind.__module__ == messages.__name__]
    assert sorted(kind.__name__ for kind in kinds) == sorted(kind.__name__ for kind in ours)
    assert len({row.name for row in TOPICS}) == len(TOPICS)
    assert max(row.max_bytes for row in TOPICS) == MAX_PAYLOAD_BYTES == messages.FrameRequest.max_bytes


@pytest.mark.parametrize("row", TOPICS, ids=lambda row: row.name)
def test_only_what_describes_a_state_is_retained(row: object) -> None:
    assert row.retain == (row.name in ("status", "labels"))  # type: ignore[attr-defined]
    assert (row.expiry_s is None) == row.retain  # type: ignore[attr-defined]


def test_topics_of_a_device_and_of_the_workers() -> None:
    assert topic("features", "lab", "robot-1") == "ecc/1/lab/robot-1/features"
    assert topic("labels", "lab") == "ecc/1/lab/cloud/labels"
    assert reply_topic("ecc/1/lab/robot-1/features") == "ecc/1/lab/robot-1/reply"
    assert reply_topic("ecc/1/lab/robot-1/frame") == "ecc/1/lab/robot-1/reply"
    assert site_filter("status", "lab") == "ecc/1/lab/+/status"
    assert worker_filter("features", "lab") == "$share/ecc/ecc/1/lab/+/features"


def test_topic_with_the_wrong_number_of_names() -> None:
    with pytest.raises(LinkError, match="topic 'labels' takes no device name"):
        topic("labels", "lab", "robot-1")
    with pytest.raises(LinkError, match="topic 'reply' needs a device name"):
        topic("reply", "lab")


@pytest.mark.parametrize("row", TOPICS, ids=lambda row: row.name)
def test_every_topic_is_read_back(row: object) -> None:
    name = row.name  # type: ignore[attr-defined]
    device = None if name == "labels" else "robot-1"
    assert parse(topic(name, "lab", device)) == Place("lab", device or "cloud", name)


@pytest.mark.parametrize(
    "name", ["", "a" * 17, "Robot", "a/b", "+", "#", "a+", "a\0", "a b", "ä", "a\n", "a.b", "$share", "robot_1"]
)
def test_names_that_could_change_a_topic_are_refused(name: str) -> None:
    for kind in ("site", "device"):
        with pytest.raises(LinkError, match=f"{kind} name .* cannot be used; take 1 to 16 characters of a-z, 0-9"):
            check_name(kind, name)


def test_device_may_not_be_called_cloud() -> None:
    assert check_name("site", "cloud") == "cloud"
    with pytest.raises(LinkError, match="device name 'cloud' is the workers' own; take another one"):
        check_name("device", "cloud")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ecc",
        "ecc/1/lab/robot-1",
        "ecc/1/lab/robot-1/reply/x",
        "ecc/2/lab/robot-1/reply",
        "xxx/1/lab/robot-1/reply",
        "ecc/1/lab/robot-1/replies",
        "ecc/1//robot-1/reply",
        "ecc/1/lab/+/reply",
        "ecc/1/lab/Robot/reply",
        "ecc/1/lab/cloud/reply",
        "ecc/1/lab/robot-1/labels",
        "ecc/1/clients/robot-1",
    ],
)
def test_topics_of_no_meaning_are_wire_errors(text: str) -> None:
    with pytest.raises(WireError, match="topic"):
        parse(text)


@given(st.text(max_size=40))
def test_any_text_is_a_topic_or_wire_error(text: str) -> None:
    with pytest.raises(WireError):
        parse("ecc/1/lab/" + text)


@pytest.mark.parametrize("text", ["ecc/1/lab/robot-1/reply", "ecc/1/lab/cloud/labels", "nonsense"])
def test_no_reply_to_what_is_no_request(text: str) -> None:
    with pytest.raises(WireError):
        reply_topic(text)


@pytest.mark.parametrize(
    ("filter_", "text", "matched"),
    [
        ("a/b", "a/b", True),
        ("a/b", "a/B", False),
        ("a/b", "a/b/c", False),
        ("a/b/c", "a/b", False),
        ("a/+", "a/b", True),
        ("a/+", "a/", True),
        ("a/+", "a", False),
        ("+/b", "a/b", True),
        ("+", "a/b", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "ab", False),
        ("#", "a/b", True),
        ("#", "$SYS/uptime", False),
        ("+/uptime", "$SYS/uptime", False),
        ("$SYS/#", "$SYS/uptime", True),
        ("$share/ecc/a/+", "a/b", True),
        ("$share/ecc/a/+", "b/b", False),
    ],
)
def test_filters_match_as_mqtt_has_it(filter_: str, text: str, matched: bool) -> None:
    assert matches(filter_, text) is matched


def test_share_group_is_split_off() -> None:
    assert split_share("$share/ecc/a/+/b") == ("ecc", "a/+/b")
    assert split_share("a/+/b") == (None, "a/+/b")
