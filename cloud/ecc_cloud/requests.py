"""Requests that wait for the network, and how they become batches."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Literal

from ecc_model.modelfile import LeadingInfo
from ecc_model.rates import RateTable

MAX_QUEUED_BYTES = 64 << 20  # whole frames are large: 256 of them must not fill the memory

Kind = Literal["features", "frame"]


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came: its spikes or pixels are still packed.

    shape: of the unpacked array; batch: requests with the same one may run together; times in monotonic seconds;
    table: what the spikes may be coded with; features_id: under which name they came; decoder: what reads them;
    leading: how they are answered, if they are leading steps alone; known: steps in front of them that came before.
    """

    id: int
    kind: Kind
    reply_topic: str
    data: bytes
    shape: tuple[int, ...]
    batch: tuple[int, ...]
    budget_s: float
    arrived_s: float
    table: RateTable | None = None
    features_id: bytes = b""
    leading: LeadingInfo | None = None
    known: int = 0
    decoder: int = 0

    def expired(self, now_s: float) -> bool:
        """Whether the request has waited longer than its budget; a budget of 0 never ends."""
        return self.budget_s > 0 and now_s - self.arrived_s > self.budget_s


class RequestQueue:
    """A bounded queue between the link's thread and the one that computes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: deque[Request] = deque()
        self._bytes = 0
        self._closed = False
        self._changed = threading.Condition()

    def put(self, request: Request) -> str | None:
        """Queue a request and return None, or say in words why it was not taken."""
        with self._changed:
            if self._closed:
                return "the worker is stopping"
            if len(self._waiting) >= self._capacity or self._bytes + len(request.data) > MAX_QUEUED_BYTES:
                return f"requests waiting: {len(self._waiting)}"
            self._waiting.append(request)
            self._bytes += len(request.data)
            self._changed.notify()
            return None

    def take(self, most: int) -> list[Request]:
        """The oldest request and those of the same kind and shape behind it, at most `most`, oldest first.

        Waits for the first one. Empty once the queue is closed and nothing is left.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            batch: list[Request] = []
            others: deque[Request] = deque()
            for request in self._waiting:
                same = not batch or (request.kind, request.batch) == (batch[0].kind, batch[0].batch)
                (batch if same and len(batch) < most else others).append(request)
            self._waiting = others
            self._bytes -= sum(len(request.data) for request in batch)
            return batch

    def close(self) -> None:
        """Take no more requests; `take` still hands out what is there."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> list[Request]:
        """Remove and return all that waits."""
        with self._changed:
            left = list(self._waiting)
            self._waiting.clear()
            self._bytes = 0
            return left
