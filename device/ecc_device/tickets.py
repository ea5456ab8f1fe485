"""A question to the cloud as its frame sees it: the ticket to wait on, what to expect of it, and who is asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ecc_device.engines import Engine
from ecc_device.results import Answer
from ecc_model.bits import Spikes
from ecc_model.frames import Pixels
from ecc_model.modelfile import EdgeModel

FORECAST = 20  # frames that the forecast looks back on


@dataclass(eq=False)
class Ticket:
    """One request whose frame is waiting for its answer; without `answer` and `refusal` nothing came."""

    row: int
    bytes_sent: int  # of the first message
    patient: bool = False  # its owner asks again when the request is lost
    until_s: float | None = None  # the deadline, by the device's clock
    bytes_later: int = 0  # of a second message, where the worker needed more steps
    encoder: str = ""  # its name, of a model with several
    encoder_why: str = ""  # a key of `choosing.WHY`; empty for the first one
    done: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None
    bytes_received: int = 0
    refusal: str = ""
    _listener: Callable[[], None] | None = None

    def then(self, call: Callable[[], None]) -> None:
        """Run `call` when the ticket has ended, on the thread that ends it, or now; twice where both meet."""
        self._listener = call
        if self.done.is_set():
            call()

    def end(self) -> None:
        """Nothing more will come."""
        self.done.set()
        if self._listener is not None:
            self._listener()


@dataclass(frozen=True, slots=True)
class Forecast:
    """What to expect of the link, from the last `FORECAST` frames that asked."""

    asked: int
    late: int  # of those, without an answer in time
    answer_s: float | None  # median of the answers that came in time; None without one

    def to_record(self) -> dict[str, Any]:
        """For JSON."""
        return {"asked": self.asked, "late": self.late, "answer_s": self.answer_s}


LateListener = Callable[[int, Answer, int], None]


class Asked(Protocol):
    """Who is asked about ambiguous frames: `Offload`, or the recorded answers of a replay."""

    @property
    def closed(self) -> bool:
        """Whether nothing is asked any more."""

    @property
    def problem(self) -> str | None:
        """What keeps this device from its workers, in words, where that is known."""

    def add(self, time_s: float, features_id: bytes, packed: bytes, edge_label: str) -> int:
        """`Store.add` for a row that its frame asks about."""
        ...

    def release(self, row: int) -> None:
        """The row's frame has its result."""

    def use(self, engine: Engine, model: EdgeModel) -> None:
        """Ask with the spikes of another engine from now on, that of `model`."""

    def ask(self, row: int, split: Spikes, frame: Pixels, budget_s: float | None) -> Ticket | str:
        """Send one frame's request; the ticket to wait on, or the reason why it was not sent."""
        ...

    def wait(self, ticket: Ticket, timeout_s: float) -> None:
        """Wait for a ticket's answer, and no longer."""

    def give_up(self, ticket: Ticket) -> None:
        """What the ticket has not got by now is late."""

    def forecast(self) -> Forecast:
        """What to expect of the next question."""
        ...

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until there is somebody to ask; whether there is."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait; the end of the device ends the wait."""

    def on_late(self, listener: LateListener) -> None:
        """Call `listener(row, answer, bytes_received)` for answers that no frame waits for."""
