"""The worker: takes requests from the link, answers them in small batches, refuses what it cannot answer.

| refusal          | when                                                                                   |
|------------------|----------------------------------------------------------------------------------------|
| unknown-features | no encoder of the model has the request's `features_id`, or frames without a teacher   |
| bad-request      | not a valid message, or spikes or pixels that do not fit their shape                   |
| busy             | the queue is full, the worker is stopping, or torch could not run (memory)             |
| expired          | longer in this worker's own queue than the request's budget                            |
| more-steps       | the leading time steps leave too much open: the rest is asked for                      |
| unknown-steps    | the rest of a code whose leading steps this worker has not, or not any more            |

The link's thread checks and queues, one thread computes, one sends (`Outbox`).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import numpy as np

from ecc_broker import codec, topics
from ecc_broker.link import Link, Message
from ecc_broker.messages import (
    BAD_REQUEST,
    BUSY,
    EXPIRED,
    MORE_STEPS,
    REFUSALS,
    UNKNOWN_FEATURES,
    UNKNOWN_STEPS,
    FeaturesRequest,
    FrameRequest,
    Labels,
    Leading,
    Reply,
    RequestId,
    WireMessage,
    decode,
    encode,
)
from ecc_cloud.model import CloudModel, Encoder, Logits
from ecc_cloud.outbox import Outbox, Outgoing
from ecc_cloud.requests import Request, RequestQueue
from ecc_cloud.started import StartedCodes
from ecc_cloud.stats import ANSWERED, Stats
from ecc_model import frames
from ecc_model.bits import Spikes
from ecc_model.errors import FrameError, WireError
from ecc_model.frames import Pixels
from ecc_model.modelfile import LeadingInfo
from ecc_model.numerics import margin, softmax

MAX_DETAIL = 200  # characters of a refusal's explanation
# A stopping worker is gone within their sum and the link's own second.
DRAIN_S = 2.0  # to answer what is queued
FLUSH_S = 1.0  # to hand the last replies to the link


class Worker:
    """Answers the requests of all devices of a site over `link`, which it starts and closes.

    max_batch: requests that run through the network together; queue: requests that may wait; clock: monotonic seconds.
    """

    def __init__(
        self,
        model: CloudModel,
        link: Link,
        *,
        site: str = "default",
        max_batch: int = 16,
        queue: int = 256,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stats = Stats()
        self._model = model
        self._link = link
        self._max_batch = max_batch
        self._clock = clock
        self._queue = RequestQueue(queue)
        self._started = StartedCodes()
        self._outbox = Outbox(link, queue, self._sent)
        self._thread = threading.Thread(target=self._run, name="ecc-cloud-worker", daemon=True)
        self._labels = Outgoing(topics.topic("labels", site), encode(announcement(model)), "labels")
        link.subscribe(topics.worker_filter("features", site), self._on_features)
        link.subscribe(topics.worker_filter("frame", site), self._on_frame)
        link.on_connection(self._on_connection)

    @property
    def alive(self) -> bool:
        """Whether requests are being answered."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Connect and answer, in the background."""
        self._outbox.start()
        self._thread.start()
        self._link.start()

    def close(self) -> None:
        """Stop taking, answer what is queued (what takes too long is refused as busy), say goodbye."""
        self._queue.close()
        self._thread.join(DRAIN_S)
        for request in self._queue.clear():
            self._refuse(request, BUSY, "the worker is stopping")
        self._thread.join(FLUSH_S)
        self._outbox.close(FLUSH_S)
        self._link.close()

    # ---- the link's thread ----

    def _on_connection(self, connected: bool) -> None:
        if connected:
            self._outbox.send_first(self._labels)

    def _on_features(self, message: Message) -> None:
        self._receive(message, self._features_request)

    def _on_frame(self, message: Message) -> None:
        self._receive(message, self._frame_request)

    def _receive(self, message: Message, check: Callable[[str, bytes], Request | Reply]) -> None:
        self.stats.received()
        if message.retained:
            self.stats.dropped("retained")
            return
        try:
            reply_topic = topics.reply_topic(message.topic)
        except WireError:
            self.stats.dropped("bad-topic")
            return
        try:
            checked = check(reply_topic, message.payload)
        except WireError as error:
            checked = self._refusal(_read_id(message.payload), BAD_REQUEST, str(error))
        if isinstance(checked, Request):
            problem = self._queue.put(checked)
            if problem is None:
                return
            checked = self._refusal(checked.id, BUSY, problem)
        self._send(reply_topic, checked, wait=False)

    def _features_request(self, reply_topic: str, payload: bytes) -> Request | Reply:
        message = decode(FeaturesRequest, payload)
        encoder = self._model.encoders.get(message.features_id)
        if encoder is None:
            known = ", ".join(prefix.hex() for prefix in self._model.encoders)
            detail = f"features {message.features_id.hex()}; this worker reads {known or 'none'}"
            return self._refusal(message.id, UNKNOWN_FEATURES, detail)
        leading = _leading(message, encoder)
        shape = (message.known + message.steps, *encoder.shape[1:])
        return Request(
            message.id,
            "features",
            reply_topic,
            message.spikes,
            shape,
            (encoder.decoder, *shape),
            message.budget_ms / 1000,
            self._clock(),
            encoder.table,
            message.features_id,
            leading,
            message.known,
            encoder.decoder,
        )

    def _frame_request(self, reply_topic: str, payload: bytes) -> Request | Reply:
        message = decode(FrameRequest, payload)
        if not self._model.reads_frames:
            detail = "frames; this worker has no teacher for them, send features"
            return self._refusal(message.id, UNKNOWN_FEATURES, detail)
        spec = self._model.frame
        fitted = (message.steps, spec.height, spec.width, spec.channels)  # all frames of as many steps end alike
        budget_s = message.budget_ms / 1000
        return Request(message.id, "frame", reply_topic, message.pixels, message.shape, fitted, budget_s, self._clock())

    # ---- the thread that computes ----

    def _run(self) -> None:
        while requests := self._queue.take(self._max_batch):
            ready: list[tuple[Request, Spikes | Pixels]] = []
            now = self._clock()
            for request in requests:
                if request.expired(now):
                    waited_ms = 1000 * (now - request.arrived_s)
                    detail = f"waited {waited_ms:.0f} ms of {1000 * request.budget_s:.0f} ms"
                    self._refuse(request, EXPIRED, detail)
                    continue
                known = self._started.find(request) if request.known else None
                if request.known and known is None:
                    self._refuse(request, UNKNOWN_STEPS, "the steps before these are not here; send all")
                    continue
                try:
                    ready.append((request, self._unpack(request, known)))
                except (WireError, FrameError) as error:
                    self._refuse(request, BAD_REQUEST, str(error))
            if ready:
                self._answer([request for request, _ in ready], [array for _, array in ready])

    def _unpack(self, request: Request, known: Spikes | None) -> Spikes | Pixels:
        if request.kind == "features":
            return codec.decode_spikes(request.data, request.shape, request.table, known=known)
        return frames.fit(codec.decode_pixels(request.data, request.shape), self._model.frame)

    def _answer(self, requests: Sequence[Request], arrays: Sequence[Spikes | Pixels]) -> None:
        self.stats.batch(len(requests))
        features = partial(self._model.features, decoder=requests[0].decoder)
        run: Callable[..., Logits] = features if requests[0].kind == "features" else self._model.frames
        try:
            logits = run(arrays)
        except (RuntimeError, MemoryError) as error:  # torch, mostly out of memory
            for request in requests:
                self._refuse(request, BUSY, f"torch could not run: {error}")
            return
        for request, row, array in zip(requests, logits, arrays, strict=True):
            if request.leading is not None:
                row = row / np.float32(request.leading.temperature)
                if open_to_doubt(row, request.leading):
                    self._started.keep(request, cast(Spikes, array))
                    self._refuse(request, MORE_STEPS, "")
                    continue
            try:
                reply = Reply(request.id, self._model.labels_id, codec.encode_logits(row))
            except WireError as error:
                self._refuse(request, BAD_REQUEST, str(error))
            else:
                self._send(request.reply_topic, reply, wait=True)

    def _refuse(self, request: Request, refusal: int, detail: str) -> None:
        self._send(request.reply_topic, self._refusal(request.id, refusal, detail), wait=True)

    # ---- both ----

    def _refusal(self, id_: int, refusal: int, detail: str) -> Reply:
        text = "".join(c if c.isprintable() else " " for c in detail)[:MAX_DETAIL]
        return Reply(id_, self._model.labels_id, b"", refusal, text)

    def _send(self, reply_topic: str, reply: Reply, *, wait: bool) -> None:
        outcome = REFUSALS[reply.refusal] if reply.refusal else ANSWERED
        self._outbox.send(Outgoing(reply_topic, encode(reply), outcome), wait=wait)

    def _sent(self, outgoing: Outgoing, sent: bool) -> None:
        if outgoing is self._labels:
            return
        if sent:
            self.stats.done(outgoing.outcome)
        else:
            self.stats.dropped("unsent")


def announcement(model: CloudModel) -> Labels:
    """What the workers of a model say of themselves."""
    found = [encoder.leading for encoder in model.encoders.values()]
    leading = tuple(Leading(0, 0) if one is None else Leading(one.steps, round(100 * one.more)) for one in found)
    return Labels(model.labels_id, model.labels, tuple(model.encoders), leading if any(found) else ())


def open_to_doubt(logits: Logits, leading: LeadingInfo) -> bool:
    """Whether calibrated logits (N,) of leading steps are no answer: the best class leads by too little."""
    values = logits.tolist()
    return all(map(math.isfinite, values)) and margin(softmax(values)) < leading.margin


def _leading(message: FeaturesRequest, encoder: Encoder) -> LeadingInfo | None:
    """How a message is answered that holds leading steps alone, None for all steps or the rest. `WireError`."""
    whole, leading = encoder.shape[0], encoder.leading
    if (message.known, message.steps) == (0, whole):
        return None
    if leading is not None and (message.known, message.steps) == (0, leading.steps):
        return leading
    if leading is not None and (message.known, message.steps) == (leading.steps, whole - leading.steps):
        return None
    behind = f" behind {message.known}" if message.known else ""
    raise WireError(f"{message.steps} steps of spikes{behind}; this encoder has {whole}")


class _Head(WireMessage, frozen=True, array_like=True):
    """What every request begins with: its id, readable even where the rest is not."""

    max_bytes = max(FeaturesRequest.max_bytes, FrameRequest.max_bytes)

    id: RequestId


def _read_id(payload: bytes) -> int:
    try:
        return decode(_Head, payload).id
    except WireError:
        return 0
