"""docs/wire.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from ecc_broker.codec import BARE_ZSTD, CHECKED, MAX_PIXELS, MAX_SPIKES, RATES, RAW, ZSTD
from ecc_broker.topics import TOPICS
from ecc_model.rates import GROUPS, LINEAR, NEIGHBOURS

PAGE = (Path(__file__).parents[2] / "docs" / "wire.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table behind `heading`, without its head."""
    lines = PAGE.partition(heading)[2].splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("|---"))
    table = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def test_topic_table() -> None:
    assert rows("## 1. Topics") == [
        [
            row.name,
            row.message.__name__,
            row.direction,
            str(row.qos),
            "yes" if row.retain else "no",
            str(row.max_bytes),
            "never" if row.expiry_s is None else str(row.expiry_s),
        ]
        for row in TOPICS
    ]


def test_fields_in_their_order_with_their_defaults() -> None:
    documented: dict[str, list[str]] = {}
    message = ""
    for name, field, _, _ in rows("## 2. Messages"):
        message = name or message
        documented.setdefault(message, []).append(field)
    assert documented == {
        row.message.__name__: [
            field.name if field.required else f"{field.name} = {msgspec.json.encode(field.default).decode()}"
            for field in msgspec.structs.fields(row.message)
        ]
        for row in TOPICS
    }


def test_limits_of_the_codecs() -> None:
    assert f"At most {MAX_SPIKES} spikes and {MAX_PIXELS} pixel bytes." in PAGE


def test_codec_bytes() -> None:
    assert [(byte, kinds) for byte, kinds, _ in rows("## 3. Codec bytes")] == [
        (str(RAW), "spikes, pixels"),
        (str(ZSTD), "spikes, pixels"),
        (str(BARE_ZSTD), "spikes"),
        (str(RATES), "spikes"),
        (f"{CHECKED} + any of these", "spikes"),
    ]


def test_kinds_of_rate_tables() -> None:
    kinds = [kind for kind, _ in rows("### Rate tables")]
    assert kinds == [*GROUPS, "either + names of neighbours", LINEAR]
    named = re.findall(r"`(\w+)` \(", PAGE.partition("Neighbours are named in this order:")[2].partition("\n")[0])
    assert named == list(NEIGHBOURS)
