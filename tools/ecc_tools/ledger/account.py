"""What a frame costs up to each split point: as the papers count it, and everything.

The papers count the convolutions between the first one and the cut; not the first, the shortcuts, the encoder, what
the edge computes behind the cut, or the radio. `SOP = firing rate of the layer's input * T * MACs`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ecc_broker.codec import LOGIT_BYTES
from ecc_tools.energy import CONSTANTS, energy_mj, link_mj
from ecc_tools.ledger.anatomy import Anatomy, Cut, Layer
from ecc_tools.ledger.published import Code, dense_codes, spike_codes
from ecc_tools.ledger.rates import Rates

Technology = Literal["mac", "ac", "rolls"]
"""A dense network on 45 nm; spikes on 45 nm; spikes on ROLLS, where layers that see no spikes cost MACs at 45 nm."""

ENCODER_KERNEL = 9  # 3 x 3


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Millijoule of one frame that goes up, by part. All modelled, but for the radio, which is assumed."""

    convolutions: float  # the papers' total
    stem: float
    shortcuts: float
    encoder: float
    exit: float  # everything that the edge computes behind the cut
    radio: float  # the body of the upload, and the logits that come back

    @property
    def modelled(self) -> float:
        """Everything but the radio."""
        return math.fsum((self.convolutions, self.stem, self.shortcuts, self.encoder, self.exit))

    @property
    def modelled_and_assumed(self) -> float:
        """Everything."""
        return self.modelled + self.radio


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One split point. Operations are the papers': of the convolutions up to the cut."""

    cut: Cut
    code: Code
    bytes: int
    dense_bytes: int  # a dense network's, a byte for a value
    macs: int  # of one pass
    rate: float  # mean of the layers' inputs, weighted by MACs
    cut_rate: float
    sops: float
    spent: dict[Technology, Spent]


def account(anatomy: Anatomy, rates: Rates, codes: tuple[Code, ...] | None = None) -> list[Entry]:
    """The ledger: an entry for each cut, with the given `codes` or those of `spike_codes`."""
    spikes = spike_codes(anatomy) if codes is None else codes
    dense = dense_codes(anatomy)
    return [
        _entry(anatomy, rates, number, cut, spikes[number - 1], dense[number - 1])
        for number, cut in enumerate(anatomy.cuts, 1)
    ]


def _entry(anatomy: Anatomy, rates: Rates, number: int, cut: Cut, code: Code, dense: Code) -> Entry:
    counted = [layer for layer in anatomy.layers if layer.part == "convolution" and layer.cuts_before < number]
    macs = sum(layer.macs for layer in counted)
    per_step = math.fsum(rates.layers[layer.name] * layer.macs for layer in counted)
    steps, answer = anatomy.spec.steps, LOGIT_BYTES * anatomy.spec.classes
    size, dense_size = code.bytes(cut), dense.bytes(cut)
    encoding = rates.cuts[cut.name] * steps * _encoder_macs(cut, code)

    def spiking(technology: Technology) -> Spent:
        def cost(layer: Layer) -> float:
            if layer.spiking:
                return _mj(technology, rates.layers[layer.name] * layer.passes * layer.macs)
            return _mj("mac", layer.passes * layer.macs)

        return _spent(anatomy, number, cost, encoder=_mj(technology, encoding), radio=link_mj(size, answer))

    return Entry(
        cut=cut,
        code=code,
        bytes=size,
        dense_bytes=dense_size,
        macs=macs,
        rate=per_step / macs,
        cut_rate=rates.cuts[cut.name],
        sops=per_step * steps,
        spent={
            "mac": _spent(
                anatomy,
                number,
                lambda layer: _mj("mac", layer.macs),
                encoder=_mj("mac", _encoder_macs(cut, dense)),
                radio=link_mj(dense_size, answer),
            ),
            "ac": spiking("ac"),
            "rolls": spiking("rolls"),
        },
    )


def _spent(anatomy: Anatomy, number: int, cost: Callable[[Layer], float], *, encoder: float, radio: float) -> Spent:
    before = [layer for layer in anatomy.layers if layer.cuts_before < number]

    def total(layers: Iterable[Layer]) -> float:
        return math.fsum(map(cost, layers))

    return Spent(
        convolutions=total(layer for layer in before if layer.part == "convolution"),
        stem=total(layer for layer in before if layer.part == "stem"),
        shortcuts=total(layer for layer in before if layer.part == "shortcut"),
        encoder=encoder,
        exit=total(layer for layer in anatomy.layers if layer.cuts_before >= number),
        radio=radio,
    )


def _encoder_macs(cut: Cut, code: Code) -> int:
    return cut.channels * ENCODER_KERNEL * math.prod(code.shape(cut))


def _mj(technology: Technology, operations: float) -> float:
    return energy_mj(operations, CONSTANTS[technology].value)
