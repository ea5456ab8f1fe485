"""The execution stage on the device: engine, filter, buffer, question to the cloud, result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ecc_device.clock import Clock
from ecc_device.engines import Engine, make_engine
from ecc_device.events import Health, check_event
from ecc_device.evidence import Evidence, Known
from ecc_device.filters import Filter, filter_threshold, make_filter
from ecc_device.frame import Frame
from ecc_device.offload import Offload, Ticket
from ecc_device.results import Answer, Result, choose, make_answer
from ecc_device.store import Store
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


def _activate(model: EdgeModel, no: int, filter_: str, seed: int, engine_name: str | None) -> _Active:
    engine = make_engine(engine_name, model.program)
    known = Known(model, engine)
    made = make_filter(filter_, known, seed)
    return _Active(model, engine, no, made, filter_threshold(made, known))


class Runtime:
    """Classifies frames on one thread; asks the cloud about ambiguous ones.

    deadline_s: how long a frame waits for the cloud; `patience_s` instead makes it wait for a live worker, as a
    replay does, and `LinkError` when none answers in that time. engine: a name of `engines.ENGINES`, None the fastest.
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
    ) -> None:
        self._active = _activate(model, no, filter_, seed, engine)
        self._filter, self._seed, self._engine = filter_, seed, engine
        self._store, self._clock, self._health = store, clock, health
        self._deadline_s, self._patience_s = deadline_s, patience_s
        self._offload: Offload | None = None
        self._results: list[ResultListener] = []
        self._events: list[Callable[[str], None]] = []
        self._lock = threading.Lock()
        self._open: dict[int, Result] = {}  # row -> the result that a late answer corrects
        self._counts = {"frames": 0, "uploads": 0}

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

    def use(self, offload: Offload) -> None:
        """Ask the cloud through `offload` from now on."""
        self._offload = offload
        offload.on_late(self._late_answer)

    def on_result(self, listener: ResultListener) -> None:
        """Call `listener` with every corrected result: a cloud answer that came after its frame's deadline."""
        self._results.append(listener)

    def on_event(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with every device event."""
        self._events.append(listener)

    def notify(self, event: str) -> None:
        """Tell the device what happens to it: a key of `events.EVENTS`, else `DeviceError`."""
        check_event(event)
        for listener in list(self._events):
            listener(event)

    def swap(self, model: EdgeModel, no: int) -> None:
        """Answer with another model from the next frame on."""
        self._active = _activate(model, no, self._filter, self._seed, self._engine)

    def status(self) -> dict[str, Any]:
        """Frames and uploads since the start, model and health."""
        model = self._active.model
        return {
            "frames": self._counts["frames"],
            "uploads": self._counts["uploads"],
            "model_no": self._active.no,
            "engine": self._active.engine.name,
            "labels": list(model.labels),
            "features_id": model.program.features_id,
            "temperature": model.temperature,
            "threshold": self._active.threshold,
            "health": self._health.current(),
        }

    def classify(self, frame: Frame, deadline_s: float | None = None) -> Result:
        """Classify one frame, never waiting for the cloud beyond the deadline. `FrameError`: it does not fit."""
        started = time.monotonic()
        active = self._active
        split = active.engine.head(frame.pixels)
        logits = active.engine.exit(split).tolist()
        edge = make_answer(logits, active.model.labels, active.model.temperature)
        evidence = Evidence(frame.index, logits, active.model.temperature, edge.probabilities, split)
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
        )
        if result.ambiguous:
            budget_s = self._deadline_s if deadline_s is None else deadline_s
            result = self._ask(result, frame, split, active, started + budget_s)
        result = replace(result, latency_s=time.monotonic() - started)
        with self._lock:
            if result.row in self._open:  # still without a cloud answer
                self._open[result.row] = result
        return result

    def _ask(self, result: Result, frame: Frame, split: Spikes, active: _Active, until_s: float) -> Result:
        offload = self._offload
        add = self._store.add if offload is None else offload.add
        features_id = bytes.fromhex(active.model.program.features_id)
        try:
            row = add(frame.time_s, features_id, bits.pack(split), result.edge.label)
        except RowRefused:  # counted by the store
            return replace(result, why="buffer-too-small")
        except StoreFull as error:
            return self._not_stored(result, "disk-full", error)
        except StoreError as error:
            return self._not_stored(result, "disk-error", error)
        self._health.clear("disk")
        result = replace(result, row=row)
        if offload is None:
            return replace(result, why="offline")
        self._remember(row, result)
        try:
            return self._ask_about(offload, row, result, frame, split, active, until_s)
        finally:
            offload.release(row)

    def _ask_about(
        self, offload: Offload, row: int, result: Result, frame: Frame, split: Spikes, active: _Active, until_s: float
    ) -> Result:
        offload.use(active.engine, active.model.rates)
        if self._patience_s is None:
            budget_s = max(0.0, until_s - time.monotonic())
            ticket = offload.ask(row, split, frame.pixels, budget_s)
            if isinstance(ticket, Ticket):
                offload.wait(ticket, budget_s)
        else:
            ticket = self._ask_patiently(offload, row, split, frame, self._patience_s)
        if isinstance(ticket, str):
            return replace(result, why=ticket)
        self._counts["uploads"] += 1
        result = replace(result, bytes_sent=ticket.bytes_sent)
        if ticket.answer is None:
            refused = "incompatible" if ticket.refusal == "unknown-features" else "refused"
            return replace(result, why=refused if ticket.refusal else "deadline")
        with self._lock:
            self._open.pop(row, None)
        return _with_cloud(result, ticket.answer, ticket.bytes_received)

    def _ask_patiently(
        self, offload: Offload, row: int, split: Spikes, frame: Frame, patience_s: float
    ) -> Ticket | str:
        """Ask until a live worker has answered; what only the moment is to blame for is asked again.

        `LinkError` after `patience_s`, `DeviceError` when the device closes meanwhile.
        """
        until_s = time.monotonic() + patience_s
        while (left_s := until_s - time.monotonic()) > 0 and offload.wait_ready(left_s):
            ticket = offload.ask(row, split, frame.pixels, None)
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

    def _not_stored(self, result: Result, reason: str, error: StoreError) -> Result:
        self._store.drop(reason)
        self._health.say("disk", str(error))
        return replace(result, why=reason)

    def _remember(self, row: int, result: Result) -> None:
        with self._lock:
            self._open[row] = result
            while len(self._open) > REMEMBERED:
                del self._open[next(iter(self._open))]

    def _late_answer(self, row: int, answer: Answer, bytes_received: int) -> None:
        with self._lock:
            result = self._open.pop(row, None)
        if result is not None:
            corrected = _with_cloud(result, answer, bytes_received)
            for listener in list(self._results):
                listener(corrected)


def _with_cloud(result: Result, answer: Answer, bytes_received: int) -> Result:
    stands, why = choose(result.edge, answer)
    return replace(result, cloud=answer, stands=stands, why=why, bytes_received=bytes_received)
