"""What a device asks its workers: the messages about one row, and which of them is sent first."""

from __future__ import annotations

from dataclasses import dataclass

from ecc_broker import codec, messages
from ecc_broker.messages import Labels, Leading
from ecc_device.engines import Engine
from ecc_model.bits import Spikes
from ecc_model.frames import Pixels
from ecc_model.modelfile import EdgeModel
from ecc_model.program import Program
from ecc_model.rates import RateTable, agreed, plain_id

WHOLE, FIRST, REST = "whole", "first", "rest"  # parts of a code: all steps, the leading ones, those behind them
FOLLOWS = {
    (FIRST, "more-steps"): REST,
    (REST, "unknown-steps"): WHOLE,  # the worker was restarted, has forgotten them, or is another one
    (FIRST, "bad-request"): WHOLE,  # this worker takes whole codes only
    (REST, "bad-request"): WHOLE,
}
"""What goes up next when the part that went up last is refused so; the refusal is final where nothing stands."""


@dataclass(frozen=True, eq=False)
class Question:
    """The messages about one row: its code (T, C, H, W) under a `name` that the workers read, and with their table.

    leading: what the workers say of its leading steps; None where they take whole codes only.
    """

    row: int
    code: Spikes
    name: bytes
    table: RateTable | None
    leading: Leading | None

    def opening(self, budget_ms: int) -> tuple[str, bytes]:
        """What to send first: `FIRST` where two messages are expected to be shorter than one, else `WHOLE`."""
        whole = self.message(WHOLE, budget_ms)
        if self.leading is None:
            return WHOLE, whole
        first = self.message(FIRST, budget_ms)
        expected = len(first) + self.leading.more / 100 * len(self.message(REST, budget_ms))
        return (FIRST, first) if expected < len(whole) else (WHOLE, whole)

    def message(self, part: str, budget_ms: int) -> bytes:
        """The message that carries a part."""
        leading = 0 if self.leading is None else self.leading.steps
        known, end = (leading if part == REST else 0), (leading if part == FIRST else len(self.code))
        spikes = codec.encode_spikes(self.code[:end], self.table, known=known)
        return messages.encode(messages.FeaturesRequest(self.row, self.name, end - known, budget_ms, spikes, known))


@dataclass(frozen=True, eq=False)
class Coder:
    """What makes codes: an engine, and the model that names its encoders and has their rate tables.

    Without a model there is one encoder, and no table.
    """

    engine: Engine
    model: EdgeModel | None

    @property
    def program(self) -> Program:
        """What the engine runs."""
        return self.engine.program

    def read(self, said: Labels | None) -> list[int]:
        """Which encoders the workers read, by what they announced last."""
        features = () if said is None else said.features
        return [index for index, name in enumerate(self.program.features_ids) if plain_id(name) in features]

    def index(self, name: str | None) -> int | None:
        """The encoder of this name; None where there is no such one, or no other."""
        names = () if self.model is None else self.model.encoders
        return names.index(name) if name in names and len(names) > 1 else None

    def name(self, index: int) -> str:
        """Of an encoder; empty where there is no other."""
        return self.model.encoders[index] if self.model is not None and len(self.model.encoders) > 1 else ""

    def question(self, row: int, split: Spikes, index: int, said: Labels | None) -> Question:
        """The question about spikes at the split point (T, C, H, W), by one encoder."""
        table = None if self.model is None else self.model.tables[index]
        return make_question(row, self.engine.encode(split, index), self.program.features_ids[index], table, said)


def make_question(row: int, code: Spikes, features_id: str, rates: RateTable | None, said: Labels | None) -> Question:
    """The question about a code of the encoder `features_id` (hex), whose rate table is `rates`.

    said: what the workers announced last.
    """
    read = () if said is None else said.features
    name, table = agreed(features_id, rates, read)
    leading = {} if said is None or not said.leading else dict(zip(read, said.leading, strict=True))
    found = leading.get(name)
    usable = found is not None and 0 < found.steps < len(code)
    return Question(row, code, name, table, found if usable else None)


def frame_request(row: int, frame: Pixels, budget_ms: int) -> bytes:
    """A whole frame, (H, W, C) or (T, H, W, C)."""
    steps = frame.shape[0] if frame.ndim == 4 else 0
    height, width, channels = frame.shape[-3:]
    packed = codec.encode_pixels(frame)
    return messages.encode(messages.FrameRequest(row, budget_ms, steps, height, width, channels, packed))


def budget_ms(budget_s: float | None) -> int:
    """A budget as it travels; 0 for none."""
    return 0 if budget_s is None else min(messages.MAX_BUDGET_MS, max(1, round(1000 * budget_s)))
