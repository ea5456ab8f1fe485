"""A device's side of the request path, for tests of the worker."""

from __future__ import annotations

import queue
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ecc_broker import codec, topics
from ecc_broker.link import Link, Message
from ecc_broker.messages import FeaturesRequest, FrameRequest, Labels, Reply, WireMessage, decode, encode
from ecc_cloud.worker import Worker

PATIENCE_S = 30.0
StartWorker = Callable[..., Worker]  # a fixture's: starts one, waits until it takes requests


class Asker:
    """Asks as `device` over `link`, which it starts and closes, and keeps the replies in order."""

    def __init__(self, link: Link, device: str, site: str = "default") -> None:
        self._link = link
        self._device, self._site = device, site
        self._replies: queue.Queue[Reply] = queue.Queue()
        self._labels: queue.Queue[Labels] = queue.Queue()
        self._connected: queue.Queue[bool] = queue.Queue()
        link.on_connection(self._connected.put)
        link.subscribe(topics.topic("reply", site, device), self._on_reply)
        link.subscribe(topics.topic("labels", site), self._on_labels)
        link.start()
        while not self._connected.get(timeout=PATIENCE_S):
            pass

    def send(self, name: str, payload: bytes, device: str | None = None, *, retain: bool = False) -> None:
        """Publish raw bytes on a request topic; waits while the link's window is full."""
        topic = f"ecc/1/{self._site}/{device or self._device}/{name}"
        while not self._link.publish(topic, payload, retain=retain):
            pass

    def ask(self, name: str, message: WireMessage) -> Reply:
        """Send a message and wait for the next reply."""
        self.send(name, encode(message))
        return self.reply()

    def reply(self) -> Reply:
        """The next reply."""
        return self._replies.get(timeout=PATIENCE_S)

    def await_labels(self) -> Labels:
        """The next announcement of labels."""
        return self._labels.get(timeout=PATIENCE_S)

    def silent(self) -> bool:
        """Whether no reply and no labels wait."""
        return self._replies.empty() and self._labels.empty()

    def close(self) -> None:
        """Say goodbye."""
        self._link.close()

    def _on_reply(self, message: Message) -> None:
        self._replies.put(decode(Reply, message.payload))

    def _on_labels(self, message: Message) -> None:
        self._labels.put(decode(Labels, message.payload))


def features_request(
    id_: int, spikes: NDArray[np.bool_], features_id: str, *, budget_ms: int = 0, steps: int | None = None
) -> FeaturesRequest:
    """A request as a device would send it; `steps` lies about the spikes."""
    prefix = bytes.fromhex(features_id)[:4]
    return FeaturesRequest(id_, prefix, steps or len(spikes), budget_ms, codec.encode_spikes(spikes))


def frame_request(id_: int, frame: NDArray[np.uint8], *, budget_ms: int = 0) -> FrameRequest:
    """A request for (H, W, C) or (T, H, W, C) pixels."""
    height, width, channels = frame.shape[-3:]
    steps = len(frame) if frame.ndim == 4 else 0
    return FrameRequest(id_, budget_ms, steps, height, width, channels, codec.encode_pixels(frame))
