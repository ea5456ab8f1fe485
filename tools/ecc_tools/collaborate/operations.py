"""Modelled energy of both sides: the edge's by the spikes that came, the cloud's by its layers alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ecc_tools.energy import CONSTANTS, energy_mj
from ecc_tools.evaluation.counting import Operations


def sections_mj(operations: Operations) -> dict[str, float]:
    """Millijoule per frame of each section of an integer program: "head", "encoder", "exit".

    A layer that spikes enter accumulates: `SOP = firing rate of its input * T * MACs`. The first one sees pixels and
    multiplies: its MACs, once for a still frame. Pools and the neurons themselves are left out, as in the papers.
    """
    found: dict[str, float] = {}
    for layer in operations.layers:
        section = layer.place.partition(".")[0]
        if layer.spiking and layer.sops is not None:
            cost = energy_mj(layer.sops, CONSTANTS["ac"].value)
        else:
            cost = energy_mj(layer.passes * layer.macs, CONSTANTS["mac"].value)
        found[section] = found.get(section, 0.0) + cost
    return found


def dense_macs(run: Callable[[], object]) -> int:
    """Multiply-accumulates of all convolutions and matrix products (attention's, too) that torch makes in `run`."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused attention would not count
        run()
    return cast(int, counter.get_total_flops()) // 2
