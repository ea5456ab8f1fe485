"""Asking the cloud: requests go out, replies are matched by row, checked and stored.

The rows in the store are the queue. A request is asked again from there when its answer does not come; a reply that
comes twice, late, or to nobody changes nothing that it should not.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ecc_broker import codec, messages, topics
from ecc_broker.link import Link, Message
from ecc_device.budget import Budget
from ecc_device.clock import Clock
from ecc_device.engines import Engine
from ecc_device.events import Health
from ecc_device.results import Answer, make_answer
from ecc_device.store import Row, Store
from ecc_model import bits
from ecc_model.bits import Spikes
from ecc_model.errors import IncompatibleFeatures, LinkError, StoreError, WireError
from ecc_model.frames import Pixels, fit
from ecc_model.modelfile import labels_id
from ecc_model.rates import RateTable, agreed

FORECAST = 20  # frames that the forecast looks back on
MAX_LOGIT = 1e4  # beyond it a worker is broken or hostile
BACKLOG_WINDOW = 8  # rows without an answer that are asked for at the same time
KEPT_LABEL_LISTS = 4  # of workers that came and went; more are nobody's
MAX_REJECTED = 256  # rows; a worker that refuses so many is not asked any more
RESEND_S = 30.0  # a row is asked again at most this often


@dataclass(eq=False)
class Ticket:
    """One request whose frame is waiting for its answer; without `answer` and `refusal` nothing came."""

    row: int
    bytes_sent: int
    patient: bool = False  # its owner asks again when the request is lost
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

    def use(self, engine: Engine, rates: RateTable | None) -> None:
        """Ask with the spikes of another engine from now on, whose rate table is `rates`."""

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


class Offload:
    """The device's side of the conversation with the workers of its site.

    `send` is "features" (spikes of the bottleneck encoder, whose rate table is `rates`) or "frames" (whole images, to
    the teacher). Rows of earlier frames go up while the `budget` has something to spare.
    """

    def __init__(
        self,
        link: Link,
        store: Store,
        clock: Clock,
        health: Health,
        engine: Engine,
        rates: RateTable | None,
        *,
        site: str,
        device: str,
        send: str,
        budget: Budget | None = None,
    ) -> None:
        self._link, self._store, self._clock, self._health, self._engine = link, store, clock, health, engine
        self._features_id, self._rates = bytes.fromhex(engine.program.features_id), rates
        self._topics = {name: topics.topic(name, site, device) for name in ("features", "frame")}
        self._send, self._budget = send, budget
        self._lock = threading.Lock()
        self._tickets: dict[int, Ticket] = {}
        self._held: set[int] = set()  # rows of frames that are being classified
        self._rejected: set[int] = set()  # rows that the present workers call bad requests
        self._asked: dict[int, float] = {}  # row -> when, for rows that still wait
        self._labels: dict[bytes, tuple[str, ...]] = {}
        self._labels_kept: bytes | None = None  # the list that the store was told last
        self._read: tuple[bytes, ...] | None = None  # features that the workers announced last
        self._worker = threading.Event()  # a worker has announced itself and reads our features
        self._closed = threading.Event()
        self._late: list[LateListener] = []
        self._took_s: deque[float | None] = deque(maxlen=FORECAST)  # of answers to frames; None: not in time
        link.subscribe(topics.topic("labels", site), self._on_labels)
        link.subscribe(topics.topic("reply", site, device), self._on_reply)
        link.on_connection(self._on_connection)

    @property
    def obstacle(self) -> str | None:
        """Why nothing can be asked now, as a key of `results.WHY`; None when it can."""
        if not self._link.connected or self._closed.is_set():
            return "offline"
        if not self._worker.is_set():
            return "incompatible" if "incompatible" in self._health.current() else "offline"
        return None

    def wait_ready(self, timeout_s: float) -> bool:
        """Wait until a worker that reads our features has announced itself; `close` ends the wait, too."""
        return self._worker.wait(timeout_s)

    @property
    def closed(self) -> bool:
        """Whether nothing is asked any more."""
        return self._closed.is_set()

    @property
    def problem(self) -> str | None:
        """What keeps this device from its workers, in words, where that is known."""
        return self._link.problem or self._health.current().get("incompatible")

    def pause(self, seconds: float) -> None:
        """Wait; `close` ends the wait."""
        self._closed.wait(seconds)

    def on_late(self, listener: LateListener) -> None:
        """Call `listener(row, answer, bytes_received)` for answers that no frame waits for, on the link's thread."""
        self._late.append(listener)

    def use(self, engine: Engine, rates: RateTable | None) -> None:
        """Ask with the spikes of another engine from now on, whose rate table is `rates`."""
        self._engine, self._rates, features_id = engine, rates, bytes.fromhex(engine.program.features_id)
        if features_id != self._features_id:
            self._features_id = features_id
            self._compare()

    def close(self) -> None:
        """Ask nothing more and wake whoever waits; the link's end is no news from now on."""
        self._closed.set()
        self._worker.set()
        with self._lock:
            tickets = list(self._tickets.values())
            self._tickets.clear()
        for ticket in tickets:
            ticket.end()

    def add(self, time_s: float, features_id: bytes, packed: bytes, edge_label: str) -> int:
        """`Store.add` for a row that its frame asks about: until `release`, it is no backlog."""
        with self._lock:
            row = self._store.add(time_s, features_id, packed, edge_label)
            self._held.add(row)
            return row

    def release(self, row: int) -> None:
        """The row's frame has its result."""
        with self._lock:
            self._held.discard(row)

    def ask(self, row: int, split: Spikes, frame: Pixels, budget_s: float | None) -> Ticket | str:
        """Send one frame's request; the ticket to wait on, or the reason why it was not sent.

        Without a budget the worker takes its time, and a request that was lost ends the ticket without an answer.
        """
        reason = self.obstacle
        if reason is None:
            try:
                ticket = self._send_request(row, split, frame, budget_s)
            except (WireError, LinkError) as error:
                self._health.say("too-large", str(error))
                reason = "too-large"
            else:
                if ticket is not None:
                    return ticket
                reason = "not sent"
        with self._lock:
            self._tickets.pop(row, None)
            self._asked.pop(row, None)
        return reason

    def _send_request(self, row: int, split: Spikes, frame: Pixels, budget_s: float | None) -> Ticket | None:
        if self._send == "frames":
            name, request = "frame", _frame_request(row, fit(frame, self._engine.program.input), _budget_ms(budget_s))
        else:
            name, request = "features", self._features_request(self._engine, row, split, _budget_ms(budget_s))
        ticket = Ticket(row, len(request), patient=budget_s is None)
        with self._lock:
            self._tickets[row] = ticket
            self._asked[row] = self._clock.monotonic()
        return ticket if self._publish(name, request, row) else None

    def _features_request(self, engine: Engine, row: int, split: Spikes, budget_ms: int) -> bytes:
        program = engine.program
        name, table = agreed(program.features_id, self._rates, self._read or ())
        spikes = codec.encode_spikes(engine.encode(split), table)
        return messages.encode(messages.FeaturesRequest(row, name, program.steps, budget_ms, spikes))

    def wait(self, ticket: Ticket, timeout_s: float) -> None:
        """Wait for a ticket's answer, and no longer: if it still comes, it is late."""
        self._clock.wait(ticket.done, max(0.0, timeout_s))
        self.give_up(ticket)

    def give_up(self, ticket: Ticket) -> None:
        """What the ticket has not got by now is late; an answer that is still being stored is in it already."""
        with self._lock:
            if self._tickets.pop(ticket.row, None) is not None:
                self._took_s.append(None)

    def forecast(self) -> Forecast:
        """What the frames that asked before say about the next one."""
        with self._lock:
            took_s = [seconds for seconds in self._took_s if seconds is not None]
            asked = len(self._took_s)
        return Forecast(asked, asked - len(took_s), statistics.median(took_s) if took_s else None)

    def drain(self) -> None:
        """Ask for rows without an answer, oldest first, a few at a time; called whenever something may have changed.

        Rows are spikes: workers that read frames alone are not asked.
        """
        if self.obstacle is not None or self._read is None or self._features_id[:4] not in self._read:
            return
        rows: list[Row] = []
        try:
            rows = self._backlog()
            while rows and self._affordable() and self._ask_again(rows[0]):
                rows.pop(0)
        except StoreError as error:
            self._health.say("disk", str(error))
        with self._lock:
            for row in rows:
                self._asked.pop(row.id, None)

    def _backlog(self) -> list[Row]:
        """Rows to ask for now, noted as asked in the same moment: two threads never take the same row."""
        now = self._clock.monotonic()
        with self._lock:
            self._asked = {
                row: when for row, when in self._asked.items() if now - when < RESEND_S or row in self._tickets
            }
            free = BACKLOG_WINDOW - len(self._asked)
            if free <= 0:
                return []
            # Rows under way are the oldest in most cases: look past them.
            passed_over = self._asked.keys() | self._held | self._rejected
            waiting = self._store.waiting(BACKLOG_WINDOW + len(passed_over), self._features_id)
            rows = [row for row in waiting if row.id not in passed_over][:free]
            self._asked.update((row.id, now) for row in rows)
            return rows

    def _affordable(self) -> bool:
        return self._budget is None or self._budget.spare()

    def _ask_again(self, row: Row) -> bool:
        try:
            engine = self._engine
            if bytes.fromhex(engine.program.features_id) != row.features_id:  # replaced in this moment
                return False
            split = bits.unpack(row.bits, engine.program.split_shape)
            request = self._features_request(engine, row.id, split, 0)
            taken = self._publish("features", request, row.id)
        except (WireError, LinkError) as error:
            self._health.say("too-large", str(error))
            return True  # as good as asked: the rows behind it have their turn
        if taken and self._budget is not None:
            self._budget.spend(len(request), backlog=True)
        return taken

    def _publish(self, name: str, payload: bytes, row: int) -> bool:
        if not self._link.publish(self._topics[name], payload, expiry_s=topics.BY_NAME[name].expiry_s):
            return False
        self._store.count("sent")
        with contextlib.suppress(StoreError):  # on a full disk the row's own count is the least of it
            self._store.mark_sent(row)
        return True

    # ---- on the link's thread ----

    def _on_connection(self, connected: bool) -> None:
        if connected:
            self._health.clear("offline")
            self.drain()  # what is retained may have come before this call
        elif not self._closed.is_set():
            self._worker.clear()  # whoever comes back with the link announces itself again
            self._health.say("offline", f"{self._link.problem or 'the connection is lost'}; working alone")

    def _on_labels(self, message: Message) -> None:
        try:
            said = messages.decode(messages.Labels, message.payload)
            if labels_id(said.names) != said.labels_id or len(set(said.names)) != len(said.names):
                raise WireError("a label list whose labels_id is not that of its names, or with a name twice")
        except WireError as error:
            self._store.count("bad-labels")
            self._health.say("worker", f"{error}; check who publishes on {message.topic}")
            return
        self._labels = {**dict(list(self._labels.items())[1 - KEPT_LABEL_LISTS :]), said.labels_id: said.names}
        self._health.clear("worker")
        self._read = said.features
        self._compare()

    def _compare(self) -> None:
        """Our features with those that the workers read."""
        if self._read is None or self._closed.is_set():
            return
        with self._lock:
            self._rejected.clear()
        if self._send == "frames" or self._features_id[:4] in self._read:
            self._health.clear("incompatible")
            self._end_lost()  # before anybody hears of the worker: what is asked from then on is not lost
            self._worker.set()
            self.drain()
        else:
            self._incompatible([name.hex() for name in self._read])

    def _incompatible(self, read: list[str]) -> None:
        self._worker.clear()
        self._health.say("incompatible", str(IncompatibleFeatures(self._features_id[:4].hex(), read)))

    def _end_lost(self) -> None:
        """A worker is new: what was asked before may never have arrived."""
        with self._lock:
            lost = [ticket for ticket in self._tickets.values() if ticket.patient]
            for ticket in lost:
                del self._tickets[ticket.row]
            self._asked = {row: when for row, when in self._asked.items() if row in self._tickets}
        for ticket in lost:
            ticket.end()

    def _on_reply(self, message: Message) -> None:
        if message.retained:  # no worker retains one
            self._store.count("bad-reply")
            return
        try:
            reply = messages.decode(messages.Reply, message.payload)
            answer = None if reply.refusal else self._checked(reply)
        except WireError as error:
            self._store.count("bad-reply")
            self._health.say("worker", f"{error}; check the worker, its answers are not used")
            return
        with self._lock:
            ticket = self._tickets.pop(reply.id, None)
            asked = reply.id in self._asked
            if ticket is not None:  # it gets its answer even where the disk does not, and without waiting for it
                ticket.answer, ticket.bytes_received = answer, 0 if answer is None else len(message.payload)
                ticket.refusal = reply.reason
                if asked and answer is not None:
                    self._took_s.append(self._clock.monotonic() - self._asked[reply.id])
        try:
            if answer is not None and (asked or ticket is not None or self._was_sent(reply.id)):
                self._answered(reply, answer, ticket, len(message.payload))
                with self._lock:  # a row that was refused or not stored stays: asked again after RESEND_S, not at once
                    self._asked.pop(reply.id, None)
            elif answer is None and (asked or reply.id == 0):
                self._refused(reply)
            else:
                self._store.count("answers-unknown")
        except StoreError as error:
            self._health.say("disk", str(error))  # the row waits and is asked again
        finally:
            if ticket is not None:
                ticket.end()
        self.drain()

    def _was_sent(self, row_id: int) -> bool:
        """Whether an answer to the row may be meant for us; the store counts those to rows that are gone."""
        row = self._store.row(row_id)
        return row is None or row.sent > 0 or row.state != "waiting"

    def _checked(self, reply: messages.Reply) -> Answer:
        labels = self._labels.get(reply.labels_id)
        if labels is None:
            raise WireError("a reply whose labels nobody has announced")
        values = reply.values()
        if len(values) != len(labels) or float(np.abs(values).max()) > MAX_LOGIT:
            raise WireError(f"a reply of {len(values)} logits for {len(labels)} labels, or beyond {MAX_LOGIT:g}")
        return make_answer(values.tolist(), labels, 1.0)

    def _refused(self, reply: messages.Reply) -> None:
        self._store.count(f"refused-{reply.reason}")
        if reply.reason == "unknown-features":
            self._incompatible(["others"])
        elif reply.reason == "bad-request" and reply.id:
            with self._lock:
                self._rejected.add(reply.id)  # it would be refused each time, until another worker is there
                unfit = len(self._rejected) >= MAX_REJECTED
            if unfit:
                self._worker.clear()
                self._health.say("worker", f"{MAX_REJECTED} requests refused as bad; check ecc-cloud and restart it")

    def _answered(self, reply: messages.Reply, answer: Answer, ticket: Ticket | None, size: int) -> None:
        if reply.labels_id != self._labels_kept:
            self._store.put_labels(reply.labels_id, answer.labels)
            self._labels_kept = reply.labels_id
        if self._store.answer(reply.id, reply.logits, reply.labels_id, self._clock.now()) != "stored":
            return
        if ticket is None:
            self._store.count("late")
            for listener in list(self._late):
                listener(reply.id, answer, size)


def _frame_request(row: int, frame: Pixels, budget_ms: int) -> bytes:
    steps = frame.shape[0] if frame.ndim == 4 else 0
    height, width, channels = frame.shape[-3:]
    packed = codec.encode_pixels(frame)
    return messages.encode(messages.FrameRequest(row, budget_ms, steps, height, width, channels, packed))


def _budget_ms(budget_s: float | None) -> int:
    return 0 if budget_s is None else min(messages.MAX_BUDGET_MS, max(1, round(1000 * budget_s)))
