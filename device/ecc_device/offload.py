"""Asking the cloud: requests go out, replies are matched by row, checked and stored.

The rows in the store are the queue. A request is asked again from there when its answer does not come; a reply that
comes twice, late, or to nobody changes nothing that it should not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ecc_broker import codec, messages, topics
from ecc_broker.link import Link, Message
from ecc_device.clock import Clock
from ecc_device.engine import Engine
from ecc_device.events import Health
from ecc_device.results import Answer, make_answer
from ecc_device.store import Row, Store
from ecc_model import bits
from ecc_model.bits import Spikes
from ecc_model.errors import IncompatibleFeatures, StoreError, WireError
from ecc_model.frames import Pixels
from ecc_model.modelfile import labels_id

MAX_LOGIT = 1e4  # beyond it a worker is broken or hostile
BACKLOG_WINDOW = 8  # rows without an answer that are asked for at the same time
KEPT_LABEL_LISTS = 4  # of workers that came and went; more are nobody's
RESEND_S = 30.0  # a row is asked again at most this often


@dataclass(eq=False)
class Ticket:
    """One request whose frame is waiting for its answer."""

    row: int
    bytes_sent: int
    done: threading.Event = field(default_factory=threading.Event)
    answer: Answer | None = None
    bytes_received: int = 0
    refusal: str = ""


LateListener = Callable[[int, Answer], None]


class Offload:
    """The device's side of the conversation with the workers of its site.

    `send` is "features" (spikes of the bottleneck encoder) or "frames" (whole images, to the teacher).
    """

    def __init__(
        self,
        link: Link,
        store: Store,
        clock: Clock,
        health: Health,
        engine: Engine,
        *,
        site: str,
        device: str,
        send: str,
    ) -> None:
        self._link, self._store, self._clock, self._health, self._engine = link, store, clock, health, engine
        self._features_id = bytes.fromhex(engine.program.features_id)
        self._topics = {name: topics.topic(name, site, device) for name in ("features", "frame")}
        self._send = send
        self._lock = threading.Lock()
        self._tickets: dict[int, Ticket] = {}
        self._asked: dict[int, float] = {}  # row -> when, for rows that still wait
        self._labels: dict[bytes, tuple[str, ...]] = {}
        self._worker = threading.Event()  # a worker has announced itself and reads our features
        self._late: list[LateListener] = []
        self._closing = False
        link.subscribe(topics.topic("labels", site), self._on_labels)
        link.subscribe(topics.topic("reply", site, device), self._on_reply)
        link.on_connection(self._on_connection)

    @property
    def obstacle(self) -> str | None:
        """Why nothing can be asked now, as a key of `results.WHY`; None when it can."""
        if not self._link.connected:
            return "offline"
        if not self._worker.is_set():
            return "incompatible" if "incompatible" in self._health.current() else "offline"
        return None

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a worker that reads our features has announced itself."""
        return self._worker.wait(timeout_s)

    def on_late(self, listener: LateListener) -> None:
        """Call `listener(row, answer)` for answers that came after their frame's deadline, on the link's thread."""
        self._late.append(listener)

    def close(self) -> None:
        """The link is about to be closed on purpose: its end is no news."""
        self._closing = True

    def ask(self, row: int, split: Spikes, frame: Pixels, budget_s: float | None) -> Ticket | str:
        """Send one frame's request; the ticket to wait on, or the reason why it was not sent."""
        reason = self.obstacle
        if reason is not None:
            return reason
        if self._send == "frames":
            request = self._frame_request(row, frame, _budget_ms(budget_s))
            topic = self._topics["frame"]
        else:
            request = self._features_request(row, split, _budget_ms(budget_s))
            topic = self._topics["features"]
        ticket = Ticket(row, len(request))
        with self._lock:
            self._tickets[row] = ticket
        if not self._publish(topic, request, row):
            self.give_up(ticket)
            return "not sent"
        return ticket

    def give_up(self, ticket: Ticket) -> bool:
        """Stop waiting for a ticket: its answer, if it still comes, is late. False when it has just come."""
        with self._lock:
            return self._tickets.pop(ticket.row, None) is not None

    def drain(self) -> None:
        """Ask for rows without an answer, oldest first, a few at a time; called whenever something may have changed."""
        if self.obstacle is not None:
            return
        now = self._clock.monotonic()
        with self._lock:
            self._asked = {row: when for row, when in self._asked.items() if now - when < RESEND_S}
            free = BACKLOG_WINDOW - len(self._asked)
        # Rows under way are the oldest in most cases: look past them.
        for row in self._store.waiting(BACKLOG_WINDOW + len(self._asked), self._features_id) if free > 0 else ():
            if row.id not in self._asked and free > 0:
                free -= 1
                if not self._ask_again(row):
                    return

    def _ask_again(self, row: Row) -> bool:
        split = bits.unpack(row.bits, self._engine.program.split_shape)
        return self._publish(self._topics["features"], self._features_request(row.id, split, 0), row.id)

    def _publish(self, topic: str, payload: bytes, row: int) -> bool:
        with self._lock:
            self._asked[row] = self._clock.monotonic()
        if not self._link.publish(topic, payload, expiry_s=topics.BY_NAME["features"].expiry_s):
            with self._lock:
                self._asked.pop(row, None)
            return False
        self._store.mark_sent(row)
        self._store.count("sent")
        return True

    def _features_request(self, row: int, split: Spikes, budget_ms: int) -> bytes:
        spikes = codec.encode_spikes(self._engine.encode(split))
        steps = self._engine.program.steps
        return messages.encode(messages.FeaturesRequest(row, self._features_id[:4], steps, budget_ms, spikes))

    def _frame_request(self, row: int, frame: Pixels, budget_ms: int) -> bytes:
        pixels = frame if frame.ndim != 2 else frame[:, :, None]
        steps = pixels.shape[0] if pixels.ndim == 4 else 0
        height, width, channels = pixels.shape[-3:]
        packed = codec.encode_pixels(np.ascontiguousarray(pixels))
        return messages.encode(messages.FrameRequest(row, budget_ms, steps, height, width, channels, packed))

    # ---- on the link's thread ----

    def _on_connection(self, connected: bool) -> None:
        if connected:
            self._health.clear("offline")
            with self._lock:
                self._asked.clear()
            self.drain()
        elif not self._closing:
            self._health.say("offline", f"{self._link.problem or 'the connection is lost'}; working alone")

    def _on_labels(self, message: Message) -> None:
        said = messages.decode(messages.Labels, message.payload)
        if labels_id(said.names) != said.labels_id:
            raise WireError("a label list whose labels_id is not that of its names")
        self._labels = {**dict(list(self._labels.items())[1 - KEPT_LABEL_LISTS :]), said.labels_id: said.names}
        if self._features_id[:4] in said.features:
            self._health.clear("incompatible")
            self._worker.set()
            self.drain()
        else:
            self._worker.clear()
            have, want = self._features_id[:4].hex(), [name.hex() for name in said.features]
            self._health.say("incompatible", str(IncompatibleFeatures(have, want)))

    def _on_reply(self, message: Message) -> None:
        try:
            reply = messages.decode(messages.Reply, message.payload)
            answer = None if reply.refusal else self._checked(reply)
        except WireError:
            self._store.count("bad-reply")
            raise
        with self._lock:
            ticket = self._tickets.pop(reply.id, None)
            if answer is not None:
                self._asked.pop(reply.id, None)  # a refused row stays asked for: again after RESEND_S, not at once
        if answer is None:
            self._refused(reply, ticket)
        else:
            self._answered(reply, answer, ticket, len(message.payload))
        self.drain()

    def _checked(self, reply: messages.Reply) -> Answer:
        labels = self._labels.get(reply.labels_id)
        if labels is None:
            raise WireError("a reply whose labels nobody has announced")
        values = reply.values()
        if len(values) != len(labels) or float(np.abs(values).max()) > MAX_LOGIT:
            raise WireError(f"a reply of {len(values)} logits for {len(labels)} labels, or beyond {MAX_LOGIT:g}")
        return make_answer(values.tolist(), labels, 1.0)

    def _refused(self, reply: messages.Reply, ticket: Ticket | None) -> None:
        self._store.count(f"refused-{reply.reason}")
        if reply.reason == "bad-request" and reply.id:
            self._store.drop_row(reply.id, "refused-bad-request")  # it would be refused each time
        elif reply.reason == "unknown-features":
            self._worker.clear()
            self._health.say("incompatible", str(IncompatibleFeatures(self._features_id[:4].hex(), ["others"])))
        if ticket is not None:
            ticket.refusal = reply.reason
            ticket.done.set()

    def _answered(self, reply: messages.Reply, answer: Answer, ticket: Ticket | None, size: int) -> None:
        try:
            self._store.put_labels(reply.labels_id, answer.labels)
            outcome = self._store.answer(reply.id, reply.logits, reply.labels_id, self._clock.now())
        except StoreError as error:
            self._health.say("disk", str(error))
            outcome = "stored"  # the frame still gets its answer; the row waits and is asked again
        if outcome == "stored":
            self._store.count("answered")
        if ticket is not None:
            ticket.answer, ticket.bytes_received = answer, size
            ticket.done.set()
        elif outcome == "stored":
            self._store.count("late")
            for listener in list(self._late):
                listener(reply.id, answer)


def _budget_ms(budget_s: float | None) -> int:
    return 0 if budget_s is None else min(messages.MAX_BUDGET_MS, max(1, round(1000 * budget_s)))
