"""Modelled energy: operations that were counted, times what one of them costs in a published table.

Nothing here is measured. `CONSTANTS` names every number, what kind it is and where it comes from; figures of different
kinds are never added without a name that says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PJ_PER_MJ = 1e9
UJ_PER_MJ = 1e3

Kind = Literal["modelled", "assumed", "paper", "counted"]


@dataclass(frozen=True)
class Constant:
    """One number that a model of costs rests on.

    kind: "modelled": a published cost of one operation; "assumed": chosen here, for a link that nobody measured;
    "paper": ECC-SNN's own; "counted": from a network's layers.
    """

    value: float
    unit: str
    kind: Kind
    source: str


CONSTANTS = {
    "mac": Constant(4.6, "pJ", "modelled", "one multiply-accumulate, 45 nm (SpikeBottleNet, table 3)"),
    "ac": Constant(0.9, "pJ", "modelled", "one accumulate: one spike arrives, 45 nm (SpikeBottleNet, table 3)"),
    "rolls": Constant(0.077, "pJ", "modelled", "one synaptic operation on ROLLS, 77 fJ (SpikeBottleNet, table 3)"),
    "link up": Constant(2.27, "uJ/byte", "assumed", "Wi-Fi, 283 mW per Mbit/s sent (Huang et al., MobiSys 2012)"),
    "link down": Constant(1.10, "uJ/byte", "assumed", "Wi-Fi, 137 mW per Mbit/s received (the same)"),
    "link rate": Constant(20.0, "Mbit/s", "assumed", "a Wi-Fi link of middling quality; nobody's measurement"),
    "link round trip": Constant(10.0, "ms", "assumed", "an empty message and its answer; nobody's measurement"),
    "cloud energy": Constant(15167.0, "mJ", "paper", "the cloud's answer to one frame, in ECC-SNN's public code"),
    "cloud latency": Constant(4.3, "ms", "paper", "the same answer"),
    "ViT-B/16": Constant(17.563067904e9, "MAC", "counted", "the paper's teacher, one frame at 224 x 224, 10 classes"),
}


def energy_mj(operations: float, per_operation_pj: float) -> float:
    """`operations * per_operation_pj`, in millijoule."""
    return operations * per_operation_pj / PJ_PER_MJ


def link_mj(bytes_up: float, bytes_down: float) -> float:
    """What the device's radio spends on these bytes, in millijoule (assumed)."""
    return (bytes_up * CONSTANTS["link up"].value + bytes_down * CONSTANTS["link down"].value) / UJ_PER_MJ


def link_ms(bytes_up: float, bytes_down: float) -> float:
    """One exchange of so many bytes, in milliseconds (assumed)."""
    bits_per_ms = CONSTANTS["link rate"].value * 1000.0
    return CONSTANTS["link round trip"].value + 8.0 * (bytes_up + bytes_down) / bits_per_ms


def paper_cloud_watts() -> float:
    """The power that the paper's two constants of the cloud imply: millijoule per millisecond."""
    return CONSTANTS["cloud energy"].value / CONSTANTS["cloud latency"].value
