"""A cloud that lets tests wait."""

from __future__ import annotations

import threading
from pathlib import Path

from ecc_snn.testing import TableCloud
from support.edges import PATIENCE_S


class HeldCloud(TableCloud):
    """Answers every row with `label`, but nothing until it may."""

    def __init__(self, model: Path, label: str) -> None:
        super().__init__(model, otherwise=label)
        self.may_answer = threading.Event()

    def answer(self, topic: str, payload: bytes) -> tuple[float, str, bytes] | None:
        """See `TableCloud.answer`."""
        assert self.may_answer.wait(PATIENCE_S)
        return super().answer(topic, payload)
