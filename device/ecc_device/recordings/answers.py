"""The cloud's part in a replay: what the recording holds, as it came then or over a link of another kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ecc_device.clock import SimulatedClock
from ecc_device.engines import Engine
from ecc_device.linkprofiles import LinkSchedule
from ecc_device.recordings.channels import Upload
from ecc_device.recordings.recording import Late, Recording, Step
from ecc_device.results import Answer
from ecc_device.store import Store
from ecc_device.tickets import Forecast, LateListener, Ticket
from ecc_model.bits import Spikes
from ecc_model.errors import SourceError
from ecc_model.frames import Pixels
from ecc_model.modelfile import EdgeModel, labels_id

NOT_RECORDED = "not recorded"  # a key of `results.WHY`
_NOT_ASKED = ("confident", "budget")
KEPT_ROWS = 1024  # of frames that a late answer may still come for
_REFUSED = {"incompatible": "unknown-features", "refused": "bad-request"}  # why -> the refusal that led to it


class RecordedAnswers:
    """Stands where `Offload` does: a frame's question gets the outcome that the recording holds for it.

    With a `schedule` the recorded answers travel over that link instead: an answer is late or lost as the schedule and
    the deadline have it, on the recording's time.
    """

    closed = False
    problem: str | None = None

    def __init__(
        self,
        recording: Recording,
        store: Store,
        clock: SimulatedClock,
        deadline_s: float,
        schedule: LinkSchedule | None = None,
    ) -> None:
        self._store, self._clock, self._deadline_s, self._schedule = store, clock, deadline_s, schedule
        self._start_s = recording.first_s
        self._late: list[LateListener] = []
        self._rows: dict[int, int] = {}  # frame -> its row in this replay
        self._step: Step | None = None
        self._came_late = {} if schedule is None else dict(_late_answers(recording))

    def next(self, step: Step) -> None:
        """The step whose frame is classified next."""
        self._step = step

    def deliver(self, late: Late, offset: int) -> None:
        """A late answer, at its place in the recording; with a schedule late answers come by that one."""
        row = self._rows.pop(late.upload.frame + offset, None)
        answer = _answer(late.correction, late.upload)
        if self._schedule is None and row is not None and answer is not None:
            self._deliver(row, late.upload, answer)

    # ---- what the runtime asks of an Offload ----

    def add(self, time_s: float, features_id: bytes, packed: bytes, edge_label: str) -> int:
        """`Store.add`."""
        return self._store.add(time_s, features_id, packed, edge_label)

    def release(self, row: int) -> None:
        """Nothing is asked again in a replay."""

    def use(self, engine: Engine, model: EdgeModel) -> None:
        """The answers are there, whatever made the spikes."""

    def on_late(self, listener: LateListener) -> None:
        """Call `listener(row, answer, bytes_received)` for late answers."""
        self._late.append(listener)

    def wait_ready(self, timeout_s: float) -> bool:
        """The recording is always there."""
        return True

    def wait(self, ticket: Ticket, timeout_s: float) -> None:
        """What comes in time has come."""

    def give_up(self, ticket: Ticket) -> None:
        """What comes late comes by itself."""

    def forecast(self) -> Forecast:
        """Nothing is measured in a replay."""
        return Forecast(0, 0, None)

    def pause(self, seconds: float) -> None:
        """Nobody has to be waited for."""

    def ask(self, row: int, split: Spikes, frame: Pixels, budget_s: float | None) -> Ticket | str:
        """The outcome of the step's question; `NOT_RECORDED` where nothing was asked then."""
        step = self._step
        if step is None:
            return NOT_RECORDED
        self._remember(step.frame.index, row)
        return self._as_recorded(step, row) if self._schedule is None else self._by_schedule(step, row, self._schedule)

    def _as_recorded(self, step: Step, row: int) -> Ticket | str:
        why, upload = step.decision["why"], step.upload
        if upload is None:
            return NOT_RECORDED if why in _NOT_ASKED else str(why)
        ticket = self._ticket(row, upload)
        ticket.refusal = _REFUSED.get(why, "")
        answer = _answer(step.decision, upload)
        if answer is not None:
            ticket.answer, ticket.bytes_received = answer, upload.bytes_received
            self._keep(row, upload)
        return ticket

    def _by_schedule(self, step: Step, row: int, schedule: LinkSchedule) -> Ticket | str:
        late = self._came_late.get(step.frame.index - step.offset)
        upload, found = (step.upload, step.decision) if late is None else (late.upload, late.correction)
        answer = None if upload is None else _answer(found, upload)
        sent_s = step.frame.time_s - self._start_s
        if not schedule.up(sent_s):
            return "offline"
        if upload is None or answer is None:
            return NOT_RECORDED
        ticket = self._ticket(row, upload)
        for arrival_s in _round_trip(schedule, step.frame.index, sent_s, upload):
            if arrival_s - sent_s > self._deadline_s:
                self._later(arrival_s - sent_s, row, upload, answer)
            else:
                ticket.answer, ticket.bytes_received = answer, upload.bytes_received
                self._keep(row, upload)  # of a second copy the store takes note
        return ticket

    def _ticket(self, row: int, upload: Upload) -> Ticket:
        self._store.count("sent")
        self._store.mark_sent(row)
        ticket = Ticket(
            row,
            upload.bytes_sent - upload.bytes_later,
            bytes_later=upload.bytes_later,
            encoder=upload.encoder,
            encoder_why=upload.encoder_why,
        )
        ticket.end()
        return ticket

    def _later(self, delay_s: float, row: int, upload: Upload, answer: Answer) -> None:
        self._clock.after(delay_s, lambda: self._deliver(row, upload, answer))

    def _deliver(self, row: int, upload: Upload, answer: Answer) -> None:
        if self._keep(row, upload):
            self._store.count("late")
            for listener in list(self._late):
                listener(row, answer, upload.bytes_received)

    def _keep(self, row: int, upload: Upload) -> bool:
        """Store an answer; whether it is the row's first. Without logits (the disk was full then) nothing is stored."""
        if not upload.logits:
            return True
        name = labels_id(upload.labels)
        self._store.put_labels(name, upload.labels)
        return self._store.answer(row, upload.logits, name, self._clock.now()) == "stored"

    def _remember(self, frame: int, row: int) -> None:
        self._rows[frame] = row
        while len(self._rows) > KEPT_ROWS:
            del self._rows[next(iter(self._rows))]


def _answer(record: dict[str, Any], upload: Upload) -> Answer | None:
    """The cloud's answer in a decision or correction, bit for bit."""
    cloud = record["cloud"]
    if cloud is None:
        return None
    if len(cloud["probabilities"]) != len(upload.labels) or cloud["label"] not in upload.labels:
        raise SourceError(f"frame {upload.frame}: the recorded answer does not fit its labels; record again")
    return Answer(cloud["label"], tuple(cloud["probabilities"]), upload.labels, cloud["entropy"])


def _round_trip(schedule: LinkSchedule, frame: int, sent_s: float, upload: Upload) -> list[float]:
    """When replies arrive: each copy of the request that comes through is answered at once."""
    requests = schedule.arrivals(4 * frame, sent_s, upload.bytes_sent)
    replies = [
        schedule.arrivals(4 * frame + copy, arrival_s, upload.bytes_received)
        for copy, arrival_s in enumerate(requests, 1)
    ]
    return sorted(arrival_s for copies in replies for arrival_s in copies)


def _late_answers(recording: Recording) -> Iterator[tuple[int, Late]]:
    upload: Upload | None = None
    for said in recording.said("/uploads", "/corrections"):
        if isinstance(said.message, Upload):
            upload = said.message
        elif upload is not None and upload.frame == said.message["frame"]:
            yield upload.frame, Late(upload, said.message)
