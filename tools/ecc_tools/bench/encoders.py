"""Which of a model's encoders a bench is about."""

from __future__ import annotations

from typing import Annotated

import typer

from ecc_device.device import check_encoder
from ecc_model.modelfile import EdgeModel

EncoderOption = Annotated[str | None, typer.Option(help="Of a model with several encoders: which one; else the first.")]


def encoder_index(model: EdgeModel, name: str | None) -> int:
    """The encoder's place in the program. `DeviceError`: the model has none of this name."""
    check_encoder(name, model)
    return 0 if name is None else model.encoders.index(name)
