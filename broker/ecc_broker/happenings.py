"""What can happen on one connection to a broker, and how it ends."""

from __future__ import annotations

from dataclasses import dataclass

from ecc_broker.link import Message
from ecc_model.errors import LinkError


@dataclass(frozen=True, slots=True)
class Opened:
    """The broker accepted the connection; its own limits, None where it told none (MQTT 3.1.1 never does)."""

    max_packet_bytes: int | None
    receive_maximum: int | None


@dataclass(frozen=True, slots=True)
class Subscribed:
    """The broker answered a subscription. `refused`: a filter it did not take."""

    mid: int
    refused: bool


@dataclass(frozen=True, slots=True)
class Sent:
    """The broker acknowledged a message (QoS 1) or it left (QoS 0). `refusal`: the broker's reason, "" if none."""

    mid: int
    refusal: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message whose topic is not UTF-8."""


Happening = Opened | Subscribed | Sent | Unreadable | Message


class Lost(LinkError):
    """A connection could not be made or broke off."""


class TakenOver(Lost):
    """Another client has our id: it is time to keep away."""


class WrongVersion(Lost):
    """The broker does not know this version of MQTT: it said so, or (amqtt) could not even read the CONNECT."""
