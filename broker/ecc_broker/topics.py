"""The topic table: every topic, what travels on it and how.

Topics are `ecc/1/<site>/<device>/<name>`; 1 is the version of the wire. The table below is the one place that says
which message a topic carries; the links, the tests and docs/wire.md read it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ecc_broker import messages
from ecc_broker.messages import WireMessage
from ecc_model.errors import LinkError, WireError

PREFIX = "ecc/1"
CLOUD = "cloud"  # stands where a device's name stands, so no device may have it
SHARE = "$share/ecc/"  # workers of one site share the load where the broker knows MQTT 5

_NAME = re.compile(r"[a-z0-9-]{1,16}")
_MAX_TOPIC_BYTES = 65_535  # of MQTT


@dataclass(frozen=True, slots=True)
class Topic:
    """One row of the table. `expiry_s`: seconds after which an MQTT 5 broker drops an undelivered message."""

    name: str
    message: type[WireMessage]
    direction: str
    qos: int
    retain: bool
    expiry_s: int | None

    @property
    def max_bytes(self) -> int:
        """Largest payload on this topic."""
        return self.message.max_bytes


TOPICS: tuple[Topic, ...] = (
    #     name        message                   direction             qos  retain  expiry_s
    Topic("features", messages.FeaturesRequest, "device -> worker", 1, False, 60),
    Topic("frame", messages.FrameRequest, "device -> worker", 1, False, 60),
    Topic("reply", messages.Reply, "worker -> device", 1, False, 60),
    Topic("status", messages.Status, "device -> site", 1, True, None),
    Topic("command", messages.Command, "operator -> device", 1, False, 60),
    Topic("event", messages.Event, "device -> site", 1, False, 3600),
    Topic("labels", messages.Labels, "worker -> devices", 1, True, None),
)
BY_NAME = {row.name: row for row in TOPICS}
MAX_PAYLOAD_BYTES = max(row.max_bytes for row in TOPICS)


class Place(NamedTuple):
    """What a topic says. `device` is "cloud" on `labels`."""

    site: str
    device: str
    name: str


def check_name(kind: str, name: str) -> str:
    """`name` itself if it may stand in a topic, `LinkError` otherwise. `kind` is "site" or "device"."""
    if _NAME.fullmatch(name) is None:
        raise LinkError(f"{kind} name {name[:40]!r} cannot be used; take 1 to 16 characters of a-z, 0-9 and -")
    if kind == "device" and name == CLOUD:
        raise LinkError(f"device name {CLOUD!r} is the workers' own; take another one")
    return name


def topic(name: str, site: str, device: str | None = None) -> str:
    """The topic `name` (a row of `TOPICS`) of one device, or of the site's workers (`labels`: no device)."""
    if (name == "labels") != (device is None):
        raise LinkError(f"topic {name!r} {'takes no' if device is not None else 'needs a'} device name")
    place = CLOUD if device is None else check_name("device", device)
    return f"{PREFIX}/{check_name('site', site)}/{place}/{BY_NAME[name].name}"


def reply_topic(request_topic: str) -> str:
    """Where the answer to a request on `request_topic` goes; `WireError` if it is no request's topic."""
    site, device, name = parse(request_topic)
    if name not in ("features", "frame"):
        raise WireError(f"no request travels on {request_topic!r}")
    return topic("reply", site, device)


def parse(text: str) -> Place:
    """Site, device and name of a topic that was received; `WireError` if it is none of the table's."""
    parts = text.split("/")
    if len(parts) != 5 or "/".join(parts[:2]) != PREFIX or parts[4] not in BY_NAME:
        raise WireError(f"topic {text[:80]!r} is none of {PREFIX}/<site>/<device>/<{'|'.join(BY_NAME)}>")
    site, device, name = parts[2:]
    try:
        check_name("site", site)
        if name != "labels":
            check_name("device", device)
    except LinkError as exc:
        raise WireError(f"topic {text[:80]!r}: {exc}") from exc
    if name == "labels" and device != CLOUD:
        raise WireError(f"topic {text[:80]!r}: labels come from {CLOUD!r} alone")
    return Place(site, device, name)


def site_filter(name: str, site: str) -> str:
    """A filter for the topic `name` of every device of a site."""
    return f"{PREFIX}/{check_name('site', site)}/+/{BY_NAME[name].name}"


def worker_filter(name: str, site: str) -> str:
    """`site_filter`, shared among the site's workers; links drop the `$share/ecc/` where the broker cannot share."""
    return SHARE + site_filter(name, site)


def claim_topic(client_id: str) -> str:
    """Where the links of `client_id` notice each other (takeover.py)."""
    return f"{PREFIX}/clients/{client_id}"


def split_share(filter_: str) -> tuple[str | None, str]:
    """Group and plain filter of `$share/<group>/<filter>`; the group of any other filter is None."""
    if not filter_.startswith("$share/"):
        return None, filter_
    _, group, plain = filter_.split("/", 2)
    return group, plain


def check_topic(text: str) -> None:
    """`LinkError` unless a message may be published on `text`."""
    if not 1 <= len(text.encode()) <= _MAX_TOPIC_BYTES or any(mark in text for mark in "+#\0"):
        raise LinkError(f"cannot publish on topic {text[:80]!r}; it must not be empty nor hold +, # or NUL")


def check_filter(filter_: str) -> None:
    """`LinkError` unless `filter_` may be subscribed to."""
    levels = filter_.split("/")
    shared = levels[0] == "$share"
    plain = levels[2:] if shared else levels
    valid = (
        1 <= len(filter_.encode()) <= _MAX_TOPIC_BYTES
        and "\0" not in filter_
        and (not shared or (len(levels) >= 3 and levels[1] not in ("", "+", "#") and plain != [""]))
        and all(level in ("+", "#") or not set(level) & {"+", "#"} for level in plain)
        and "#" not in plain[:-1]
    )
    if not valid:
        raise LinkError(f"cannot subscribe to {filter_[:80]!r}; + and # stand alone between slashes, # at the end")


def matches(filter_: str, text: str) -> bool:
    """Whether a message on topic `text` belongs to `filter_` (a share group does not count)."""
    wanted, levels = split_share(filter_)[1].split("/"), text.split("/")
    if text.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(levels) or level not in ("+", levels[index]):
            return False
    return len(wanted) == len(levels)
