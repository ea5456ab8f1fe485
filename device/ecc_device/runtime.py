"""The execution stage on the device: engine, filter, buffer, question to the cloud, result."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ecc_device.budget import Budget
from ecc_device.clock import Clock
from ecc_device.early import answer_after, early_limit, see
from ecc_device.engines import Engine, make_engine
from ecc_device.events import Health, check_event
from ecc_device.evidence import Evidence, Known
from ecc_device.filters import ENDS_EARLY, Filter, filter_threshold, make_filter
from ecc_device.frame import Frame
from ecc_device.results import Answer, Result, choose
from ecc_device.store import Store
from ecc_device.tickets import Asked, Ticket
from ecc_model import bits
from ecc_model.bits import Spikes
from ecc_model.errors import DeviceError, LinkError, RowRefused, StoreError, StoreFull
from ecc_model.modelfile import EdgeModel

ResultListener = Callable[[Result], None]
RETRY_S = 0.05  # between two attempts of a replay to reach a worker
TRANSIENT = ("busy", "expired", "unknown-features")  # refusals that another worker, or another moment, may not give
REMEMBERED = 1024  # results without a cloud answer that a late one may still correct


@dataclass(frozen=True, eq=False)
class _Active:
    """What one frame is classified with; replaced as a whole, so that a swap falls between two frames."""

    model: EdgeModel
    engine: Engine
    no: int
    filter: Filter
    threshold: float
    early: float | None  # entropy at or below which a frame needs no more steps; None: all of them


@dataclass(eq=False)
class Pending:
    """A frame between its edge answer and its result."""

    frame: Frame
    split: Spikes
    result: Result  # so far
    until_s: float  # the deadline, by the device's clock
    started_s: float  # by the machine's
    ticket: Ticket | None = None  # of the question to the cloud
    patient: bool = False  # the question is not asked yet: a replay asks until a worker answers
    done: bool = False


FrameListener = Callable[[Frame, Spikes, Result], None]
ShadowListener = Callable[[Answer, Answer], bool]


def _activate(model: EdgeModel, no: int, filter_: str, seed: int, engine_name: str | None, threads: int) -> _Active:
    engine = make_engine(engine_name, model.program, threads)
    known = Known(model, engine)
    made = make_filter(filter_, known, seed)
    threshold = filter_threshold(made, known)
    limit = early_limit(model, threshold) if made.name == ENDS_EARLY else None
    return _Active(model, engine, no, made, threshold, limit)


class Runtime:
    """Classifies frames, one at a time, and asks the cloud about ambiguous ones; any thread may call.

    deadline_s: how long a frame waits for the cloud; `patience_s` instead makes it wait for a live worker, as a
    replay does, and `LinkError` when none answers in that time. engine: a name of `engines.ENGINES`, None the fastest;
    threads: of it. budget: what may go up.
    `DeviceError`: the model lacks what the filter needs; `MissingEngine`.
    """

    def __init__(
        self,
        model: EdgeModel,
        no: int,
        store: Store,
        filter_: str,
        clock: Clock,
        health: Health,
        *,
        seed: int,
        deadline_s: float,
        patience_s: float | None = None,
        engine: str | None = None,
        threads: int = 1,
        budget: Budget | None = None,
    ) -> None:
        self.budget = budget
        self._active = _activate(model, no, filter_, seed, engine, threads)
        self._shadow: tuple[_Active, ShadowListener] | None = None
        self._filter, self._seed, self._engine, self._threads = filter_, seed, engine, threads
        self._store, self._clock, self._health = store, clock, health
        self._deadline_s, self._patience_s = deadline_s, patience_s
        self._offload: Asked | None = None
        self._results: list[ResultListener] = []
        self._events: list[Callable[[str], None]] = []
        self._lock = threading.Lock()
        self._open: dict[int, Result | None] = {}  # row -> what a late answer corrects; None: no result yet
        self._early: dict[int, tuple[Answer, int]] = {}  # row -> an answer that came late, but before the result
        self._counts = {"frames": 0, "uploads": 0, "held_back": 0}
        self._encoders: Counter[str] = Counter()  # uploads by each, of a model with several
        self._turn = threading.Lock()  # one frame is decided on at a time; held while its row is stored and sent
        self._order: deque[Pending] = deque()  # begun and not told of, oldest first
        self._telling = threading.Lock()
        self._frames: list[FrameListener] = []

    @property
    def engine(self) -> Engine:
        """The engine of the active model."""
        return self._active.engine

    @property
    def model(self) -> EdgeModel:
        """The active model."""
        return self._active.model

    @property
    def model_no(self) -> int:
        """Its version number."""
        return self._active.no

    def use(self, offload: Asked) -> None:
        """Ask the cloud through `offload` from now on."""
        self._offload = offload
        offload.on_late(self._late_answer)

    def on_result(self, listener: ResultListener) -> None:
        """Call `listener` with every corrected result: a cloud answer that came after its frame's deadline."""
        self._results.append(listener)

    def on_frame(self, listener: FrameListener) -> None:
        """Call `listener(frame, split, result)` for every frame, one at a time, in the order of `begin`."""
        self._frames.append(listener)

    def on_event(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with every device event."""
        self._events.append(listener)

    def notify(self, event: str) -> None:
        """Tell the device what happens to it: a key of `events.EVENTS`, else `DeviceError`."""
        check_event(event)
        for listener in list(self._events):
            listener(event)

    def swap(self, model: EdgeModel, no: int) -> None:
        """Answer with another model from the next frame on; one that answers in the shadow needs no preparation."""
        shadow, self._shadow = self._shadow, None
        if shadow is not None and shadow[0].model is model:
            self._active = shadow[0]
        else:
            self._active = _activate(model, no, self._filter, self._seed, self._engine, self._threads)

    def shadow(self, model: EdgeModel, no: int, listener: ShadowListener) -> None:
        """Let another exit on the same features answer frames silently, too, until `listener(edge, other)` is false.

        The listener runs on the frame's thread before the next frame is begun; it may swap.
        """
        self._shadow = _activate(model, no, self._filter, self._seed, self._engine, self._threads), listener

    def status(self) -> dict[str, Any]:
        """Frames and uploads since the start, model and health."""
        model = self._active.model
        return {
            "frames": self._counts["frames"],
            "uploads": self._counts["uploads"],
            "encoders": dict(self._encoders),
            "model_no": self._active.no,
            "engine": self._active.engine.name,
            "labels": list(model.labels),
            "features_id": model.program.features_id,
            "temperature": model.temperature,
            "threshold": self._active.threshold,
            "budget": self._budget_status(),
            "health": self._health.current(),
        }

    def classify(self, frame: Frame, deadline_s: float | None = None) -> Result:
        """Classify one frame, never waiting for the cloud beyond the deadline. `FrameError`: it does not fit."""
        budget_s = self._deadline_s if deadline_s is None else deadline_s
        pending = self.begin(frame, self._clock.monotonic() + budget_s)
        try:
            self.wait(pending)
        except BaseException:
            self.abandon(pending)
            raise
        return self.finish(pending)

    def begin(self, frame: Frame, until_s: float) -> Pending:
        """The edge's answer, and the question to the cloud where there is one; without any waiting for it.

        `until_s`: the deadline, by the device's clock. What this returns goes to `finish` or `abandon`, in any order.
        Frames are decided on one after the other, in the order of the calls. `FrameError`: the frame does not fit.
        """
        started_s = time.monotonic()
        with self._turn:
            active = self._active
            split, logits, temperature, edge = see(active.engine, active.model, frame, active.early)
            evidence = Evidence(frame.index, logits, temperature, edge.probabilities, split)
            score = active.filter.score(evidence)
            self._counts["frames"] += 1
            result = Result(
                frame=frame.index,
                time_s=frame.time_s,
                edge=edge,
                cloud=None,
                stands="edge",
                why="confident",
                score=score,
                threshold=active.threshold,
                row=None,
                bytes_sent=0,
                bytes_received=0,
                model_no=active.no,
                latency_s=0.0,
                camera=frame.camera,
                steps=len(split),
                filter=active.filter.name,
                budget=None if self.budget is None else self.budget.decide(frame.time_s, score, active.threshold),
            )
            pending = Pending(frame, split, result, until_s, started_s)
            try:
                if result.ambiguous:
                    self._ask(pending, active)
            except BaseException:
                self.abandon(pending)
                raise
            self._order.append(pending)
            self._answer_in_shadow(split, edge)
        return pending

    def _answer_in_shadow(self, split: Spikes, edge: Answer) -> None:
        shadow = self._shadow
        if shadow is None:
            return
        other, listener = shadow
        answer = answer_after(other.model, other.engine.exit(split).tolist(), len(split))
        if not listener(edge, answer) and self._shadow is shadow:
            self._shadow = None

    def wait(self, pending: Pending) -> None:
        """Wait for the cloud's answer to a frame, to its deadline at most; a replay, until a live worker gives it."""
        offload = self._offload
        if offload is None:
            return
        if pending.patient and self._patience_s is not None:
            self._asked(pending, self._ask_patiently(offload, pending, self._patience_s))
        elif pending.ticket is not None:
            offload.wait(pending.ticket, pending.until_s - self._clock.monotonic())

    def finish(self, pending: Pending) -> Result:
        """The result with what has come by now; the cloud's answer is late from here on."""
        result, ticket = pending.result, pending.ticket
        if ticket is not None and self._offload is not None:
            self._offload.give_up(ticket)
            sent = ticket.bytes_sent + ticket.bytes_later
            result = replace(result, bytes_sent=sent, bytes_later=ticket.bytes_later)
            if ticket.answer is not None:
                result = _with_cloud(result, ticket.answer, ticket.bytes_received)
            else:
                refused = "incompatible" if ticket.refusal == "unknown-features" else "refused"
                result = replace(result, why=refused if ticket.refusal else "deadline")
        pending.result = result = replace(result, latency_s=time.monotonic() - pending.started_s)
        late = self._release(result.row, result)
        pending.done = True
        self._tell_frames()
        if late is not None:
            self._correct(result, *late)
        return result

    def abandon(self, pending: Pending) -> None:
        """The frame gets no result; its row stays."""
        self._release(pending.result.row, None)
        with self._telling, contextlib.suppress(ValueError):
            self._order.remove(pending)
        self._tell_frames()

    def _release(self, row: int | None, result: Result | None) -> tuple[Answer, int] | None:
        """Nobody waits for the row any more; a late answer corrects `result`, and one that is there is returned."""
        if row is None or self._offload is None:
            return None
        self._offload.release(row)
        with self._lock:
            late = self._early.pop(row, None)
            if result is None or result.cloud is not None or late is not None:
                self._open.pop(row, None)
            elif row in self._open:
                self._open[row] = result
        return late

    def _tell_frames(self) -> None:
        """Tell who listens of each frame that has its result, and all before it theirs."""
        with self._telling:
            while self._order and self._order[0].done:
                told = self._order.popleft()
                for listener in self._frames:
                    listener(told.frame, told.split, told.result)

    def _ask(self, pending: Pending, active: _Active) -> None:
        """Store the frame's row and ask about it, or say in the result why not."""
        budget = pending.result.budget
        if budget is not None and not budget.allowed:
            self._counts["held_back"] += 1
            pending.result = replace(pending.result, why="budget")
            return
        offload = self._offload
        add = self._store.add if offload is None else offload.add
        features_id = bytes.fromhex(active.model.program.features_id)
        frame, label = pending.frame, pending.result.edge.label
        try:
            row = add(frame.time_s, features_id, bits.pack(pending.split), label)
        except RowRefused:  # counted by the store
            pending.result = replace(pending.result, why="buffer-too-small")
            return
        except StoreFull as error:
            pending.result = self._not_stored(pending.result, "disk-full", error)
            return
        except StoreError as error:
            pending.result = self._not_stored(pending.result, "disk-error", error)
            return
        self._health.clear("disk")
        pending.result = replace(pending.result, row=row, why="offline")
        if offload is None:
            return
        self._remember(row)
        offload.use(active.engine, active.model)
        pending.result = replace(pending.result, forecast=offload.forecast())
        if self._patience_s is not None:
            pending.patient = True
            return
        left_s = max(0.0, pending.until_s - self._clock.monotonic())
        self._asked(pending, offload.ask(row, pending.split, frame.pixels, left_s))

    def _asked(self, pending: Pending, ticket: Ticket | str) -> None:
        """The ticket of a request that went up, or why it did not."""
        if isinstance(ticket, str):
            pending.result = replace(pending.result, why=ticket)
            return
        pending.ticket = ticket
        pending.result = replace(
            pending.result, bytes_sent=ticket.bytes_sent, encoder=ticket.encoder, encoder_why=ticket.encoder_why
        )
        self._counts["uploads"] += 1
        if ticket.encoder:
            self._encoders[ticket.encoder] += 1
        if self.budget is not None:
            self.budget.spend(ticket.bytes_sent)

    def _ask_patiently(self, offload: Asked, pending: Pending, patience_s: float) -> Ticket | str:
        """Ask until a live worker has answered; what only the moment is to blame for is asked again.

        `LinkError` after `patience_s`, `DeviceError` when the device closes meanwhile.
        """
        frame, row = pending.frame, pending.result.row or 0
        until_s = time.monotonic() + patience_s
        while (left_s := until_s - time.monotonic()) > 0 and offload.wait_ready(left_s):
            ticket = offload.ask(row, pending.split, frame.pixels, None)
            if offload.closed:
                raise DeviceError(f"stopped at frame {frame.index}; replay again from the start")
            if isinstance(ticket, Ticket):
                offload.wait(ticket, until_s - time.monotonic())
                if ticket.answer is not None or ticket.refusal not in ("", *TRANSIENT):
                    return ticket
            elif ticket == "too-large":
                return ticket
            offload.pause(RETRY_S)
        missing = offload.problem or (
            f"no answer from the worker in {patience_s:g} s; "
            "a replay waits for a live one: check ecc-cloud, or replay without --broker"
        )
        raise LinkError(f"frame {frame.index}: {missing}")

    def _budget_status(self) -> dict[str, Any] | None:
        if self.budget is None:
            return None
        return {
            "limit": self.budget.limit,
            "used": self.budget.used,
            "room": self.budget.room,
            "held_back": self._counts["held_back"],
        }

    def _not_stored(self, result: Result, reason: str, error: StoreError) -> Result:
        self._store.drop(reason)
        self._health.say("disk", str(error))
        return replace(result, why=reason)

    def _remember(self, row: int) -> None:
        with self._lock:
            self._open[row] = None
            while len(self._open) > REMEMBERED:
                del self._open[next(iter(self._open))]

    def _late_answer(self, row: int, answer: Answer, bytes_received: int) -> None:
        with self._lock:
            if row not in self._open:
                return
            result = self._open[row]
            if result is None:  # later than the deadline, and earlier than the result
                self._early[row] = (answer, bytes_received)
                return
            del self._open[row]
        self._correct(result, answer, bytes_received)

    def _correct(self, result: Result, answer: Answer, bytes_received: int) -> None:
        corrected = _with_cloud(result, answer, bytes_received)
        for listener in list(self._results):
            listener(corrected)


def _with_cloud(result: Result, answer: Answer, bytes_received: int) -> Result:
    stands, why = choose(result.edge, answer)
    return replace(result, cloud=answer, stands=stands, why=why, bytes_received=bytes_received)
