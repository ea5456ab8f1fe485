"""Asking the cloud: requests go out, replies are matched by row, checked and stored.

The rows in the store are the queue. A request is asked again from there when its answer does not come; a reply that
comes twice, late, or to nobody changes nothing that it should not.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
from collections import deque
from dataclasses import replace

import numpy as np

from ecc_broker import messages, topics
from ecc_broker.link import Link, Message
from ecc_device.budget import Budget
from ecc_device.choosing import Choice, Circumstances, choose
from ecc_device.clock import Clock
from ecc_device.engines import Engine
from ecc_device.events import Health
from ecc_device.questions import FOLLOWS, WHOLE, Coder, Question, budget_ms, frame_request
from ecc_device.results import Answer, make_answer
from ecc_device.store import Row, Store
from ecc_device.tickets import FORECAST, Forecast, LateListener, Ticket
from ecc_model import bits
from ecc_model.bits import Spikes
from ecc_model.errors import IncompatibleFeatures, LinkError, StoreError, WireError
from ecc_model.frames import Pixels, fit
from ecc_model.modelfile import EdgeModel, labels_id

MAX_LOGIT = 1e4  # beyond it a worker is broken or hostile
BACKLOG_WINDOW = 8  # rows without an answer that are asked for at the same time
KEPT_LABEL_LISTS = 4  # of workers that came and went; more are nobody's
MAX_REJECTED = 256  # rows; a worker that refuses so many is not asked any more
RESEND_S = 30.0  # a row is asked again at most this often


class Offload:
    """The device's side of the conversation with the workers of its site.

    `send` is "features" (spikes of a bottleneck encoder) or "frames" (whole images, to the teacher). `model` has the
    names and the rate tables of the encoders; None for a program alone. `encoder` names the one to send by; None: see
    `choosing`, among those that the workers read. Rows of earlier frames go up while the `budget` has something to
    spare.
    """

    battery = 1.0
    """Charge of the battery in use; 1 where there is nothing to save."""

    def __init__(
        self,
        link: Link,
        store: Store,
        clock: Clock,
        health: Health,
        engine: Engine,
        model: EdgeModel | None,
        *,
        site: str,
        device: str,
        send: str,
        budget: Budget | None = None,
        encoder: str | None = None,
    ) -> None:
        self._link, self._store, self._clock, self._health = link, store, clock, health
        self._coder = Coder(engine, model)
        self._features_id = bytes.fromhex(engine.program.features_id)
        self._encoder = encoder
        self._topics = {name: topics.topic(name, site, device) for name in ("features", "frame")}
        self._send, self._budget = send, budget
        self._lock = threading.Lock()
        self._tickets: dict[int, Ticket] = {}
        self._held: set[int] = set()  # rows of frames that are being classified
        self._rejected: set[int] = set()  # rows that the present workers call bad requests
        self._asked: dict[int, tuple[float, bytes]] = {}  # rows that still wait: when, and under which features' name
        self._parts: dict[int, tuple[str, Question]] = {}  # of these: what went up last, where that was no whole code
        self._labels: dict[bytes, tuple[str, ...]] = {}
        self._labels_kept: bytes | None = None  # the list that the store was told last
        self._said: messages.Labels | None = None  # what the workers announced last
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

    def use(self, engine: Engine, model: EdgeModel) -> None:
        """Ask with the spikes of another engine from now on, that of `model`."""
        self._coder, features_id = Coder(engine, model), bytes.fromhex(engine.program.features_id)
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
            self._forget(row)
        return reason

    def _send_request(self, row: int, split: Spikes, frame: Pixels, budget_s: float | None) -> Ticket | None:
        now, expected = self._clock.monotonic(), self.forecast()
        took_s = expected.answer_s
        if self._send == "frames":
            request = frame_request(row, fit(frame, self._coder.program.input), budget_ms(budget_s))
            name, question, part, sender, why = "frame", None, WHOLE, "", ""
        else:
            twice = budget_s is None or took_s is None or 2.0 * took_s <= budget_s
            coder, link = self._coder, Circumstances()
            if budget_s is not None:
                link = Circumstances(expected.late / FORECAST, took_s / max(took_s, budget_s) if took_s else 0.0)
            encoder, why = self._choose(coder, link)
            question = coder.question(row, split, encoder, self._said)
            ms = budget_ms(budget_s)
            part, request = question.opening(ms) if twice else (WHOLE, question.message(WHOLE, ms))
            name, sender = "features", coder.name(encoder)
        until_s = None if budget_s is None else now + budget_s
        ticket = Ticket(row, len(request), patient=budget_s is None, until_s=until_s, encoder=sender, encoder_why=why)
        with self._lock:
            self._tickets[row] = ticket
            self._note(row, now, part, question)
        return ticket if self._publish(name, request, row) else None

    def _choose(self, coder: Coder, link: Circumstances) -> Choice:
        """The encoder to ask with, among those that the workers read; `link`: what that one says."""
        read, named = coder.read(self._said), coder.index(self._encoder)
        if named in read:
            return Choice(named, "asked for")
        if len(read) < 2:
            return Choice(read[0] if read else 0, "")
        left = 1.0 if self._budget is None else self._budget.bytes_left
        chosen = choose(len(read), replace(link, battery=self.battery, budget=left))
        return Choice(read[chosen.encoder], chosen.why)

    def _note(self, row: int, now: float, part: str, question: Question | None) -> None:
        """Under the lock: a row is asked about, with this part of its code; or (None) with its frame."""
        self._asked[row] = now, b"" if question is None else question.name
        self._parts.pop(row, None)
        if question is not None and part != WHOLE:
            self._parts[row] = part, question

    def _forget(self, row: int) -> None:
        """Under the lock: nothing is under way about the row."""
        self._asked.pop(row, None)
        self._parts.pop(row, None)

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
        if self.obstacle is not None or not self._coder.read(self._said):
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
                self._forget(row.id)

    def _backlog(self) -> list[Row]:
        """Rows to ask for now, noted as asked in the same moment: two threads never take the same row."""
        now = self._clock.monotonic()
        with self._lock:
            for row_id in [row for row, (when, _) in self._asked.items() if now - when >= RESEND_S]:
                if row_id not in self._tickets:
                    self._forget(row_id)
            free = BACKLOG_WINDOW - len(self._asked)
            if free <= 0:
                return []
            # Rows under way are the oldest in most cases: look past them.
            passed_over = self._asked.keys() | self._held | self._rejected
            waiting = self._store.waiting(BACKLOG_WINDOW + len(passed_over), self._features_id)
            rows = [row for row in waiting if row.id not in passed_over][:free]
            self._asked.update((row.id, (now, b"")) for row in rows)
            return rows

    def _affordable(self) -> bool:
        return self._budget is None or self._budget.spare()

    def _ask_again(self, row: Row) -> bool:
        try:
            coder = self._coder
            if bytes.fromhex(coder.program.features_id) != row.features_id:  # replaced in this moment
                return False
            split = bits.unpack(row.bits, coder.program.split_shape)
            encoder, _ = self._choose(coder, Circumstances())
            question = coder.question(row.id, split, encoder, self._said)
            part, request = question.opening(0)
            with self._lock:
                self._note(row.id, self._clock.monotonic(), part, question)
            taken = self._publish("features", request, row.id)
        except (WireError, LinkError) as error:
            self._health.say("too-large", str(error))
            return True  # as good as asked: the rows behind it have their turn
        if taken and self._budget is not None:
            self._budget.spend(len(request), backlog=True)
        return taken

    def _taken(self, name: str, payload: bytes) -> bool:
        """Whether the link takes a message."""
        return self._link.publish(self._topics[name], payload, expiry_s=topics.BY_NAME[name].expiry_s)

    def _publish(self, name: str, payload: bytes, row: int) -> bool:
        if not self._taken(name, payload):
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
        self._said = said
        self._compare()

    def _compare(self) -> None:
        """Our features with those that the workers read."""
        if self._said is None or self._closed.is_set():
            return
        with self._lock:
            self._rejected.clear()
        if self._send == "frames" or self._coder.read(self._said):
            self._health.clear("incompatible")
            self._end_lost()  # before anybody hears of the worker: what is asked from then on is not lost
            self._worker.set()
            self.drain()
        else:
            self._incompatible([name.hex() for name in self._said.features])

    def _incompatible(self, read: list[str]) -> None:
        self._worker.clear()
        self._health.say("incompatible", str(IncompatibleFeatures(self._features_id[:4].hex(), read)))

    def _end_lost(self) -> None:
        """A worker is new: what was asked before may never have arrived."""
        with self._lock:
            lost = [ticket for ticket in self._tickets.values() if ticket.patient]
            for ticket in lost:
                del self._tickets[ticket.row]
            for row in self._asked.keys() - self._tickets.keys():
                self._forget(row)
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
        if reply.refusal and self._goes_on(reply, len(message.payload)):
            return
        with self._lock:
            ticket = self._tickets.pop(reply.id, None)
            asked = reply.id in self._asked
            if ticket is not None:  # it gets its answer even where the disk does not, and without waiting for it
                ticket.answer, ticket.refusal = answer, reply.reason
                ticket.bytes_received += len(message.payload)
                if asked and answer is not None:
                    self._took_s.append(self._clock.monotonic() - self._asked[reply.id][0])
        try:
            if answer is not None and (asked or ticket is not None or self._was_sent(reply.id)):
                self._answered(reply, answer, ticket, len(message.payload))
                with self._lock:  # a row that was refused or not stored stays: asked again after RESEND_S, not at once
                    self._forget(reply.id)
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

    def _goes_on(self, reply: messages.Reply, size: int) -> bool:
        """Whether a refusal is not the last word about its row: then the next part goes up, or has gone up already."""
        with self._lock:
            part, question = self._parts.get(reply.id, (WHOLE, None))
            follows = FOLLOWS.get((part, reply.reason))
            if question is None or follows is None:
                again = reply.reason in ("more-steps", "unknown-steps")  # of a part that went up before: come twice
            else:
                self._parts[reply.id] = follows, question
                again, ticket = True, self._tickets.get(reply.id)
        if again:
            self._store.count(f"refused-{reply.reason}")
        if question is not None and follows is not None:
            self._send_on(question, follows, ticket, size)
        return again

    def _send_on(self, question: Question, part: str, ticket: Ticket | None, received: int) -> None:
        """Another part of a row that a ticket may wait for, asked for by a reply of `received` bytes."""
        until_s = None if ticket is None else ticket.until_s
        left_s = None if until_s is None else max(0.0, until_s - self._clock.monotonic())
        try:
            request = question.message(part, budget_ms(left_s))
            taken = self._taken("features", request)
        except (WireError, LinkError) as error:
            self._health.say("too-large", str(error))
            taken = False
        with self._lock:
            waits = ticket is not None and self._tickets.get(question.row) is ticket
            if ticket is not None and waits and taken:
                ticket.bytes_later += len(request)
                ticket.bytes_received += received
            elif not taken:  # the row is asked about again, from the start
                self._forget(question.row)
                if waits:
                    del self._tickets[question.row]
        if taken and self._budget is not None:
            self._budget.more(len(request))
        if ticket is not None and not taken:
            ticket.end()

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
            with self._lock:
                _, name = self._asked.get(reply.id, (0.0, b""))
            if not name or self._said is None or name in self._said.features:
                self._incompatible(["others"])  # else it is of a worker that is gone: those of now read another code
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
