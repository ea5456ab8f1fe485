"""A worker whose answers a test decides: late, twice, out of order, wrong, or none; and a device that asks it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecc_broker import codec, topics
from ecc_broker.link import Link, Message
from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_broker.messages import REFUSALS, FeaturesRequest, FrameRequest, Labels, Leading, Reply, decode, encode
from ecc_device.clock import Clock, VirtualClock
from ecc_device.device import Device, DeviceConfig
from ecc_device.frame import Frame
from ecc_device.store import Row
from ecc_model.modelfile import labels_id
from support.models import DIGITS, TinyModels

PATIENCE_S = 30.0
Request = FeaturesRequest | FrameRequest
Script = Callable[[Request], Iterable[Reply | bytes]]
READY, PING, SETTLED = "test/ready", "test/ping", "test/settled"
REFUSAL_NUMBERS = {reason: number for number, reason in REFUSALS.items()}


def logits(label: int, size: float = 8.0, names: Sequence[str] = DIGITS) -> bytes:
    """Logits that name `label`, as they travel; the larger `size`, the surer."""
    values = np.zeros(len(names), np.float32)
    values[label] = size
    return codec.encode_logits(values)


def answer(row: int, label: int = 7, size: float = 8.0, names: Sequence[str] = DIGITS) -> Reply:
    """A good reply; by default it names a class that the edge does not know."""
    return Reply(row, labels_id(names), logits(label, size, names))


def refusal(row: int, reason: str, detail: str = "") -> Reply:
    """A reply without an answer."""
    return Reply(row, labels_id(DIGITS), b"", REFUSAL_NUMBERS[reason], detail)


def sure(request: Request) -> list[Reply | bytes]:
    """The script of a good worker."""
    return [answer(request.id)]


def slow(clock: VirtualClock, seconds: float) -> Script:
    """A script for a worker whose answers take so long."""

    def script(request: Request) -> list[Reply | bytes]:
        clock.advance_to(clock.monotonic() + seconds)
        return [answer(request.id)]

    return script


def silent(_request: Request) -> list[Reply | bytes]:
    """The script of a worker that is there and never answers."""
    return []


class ScriptedWorker:
    """Answers each request with what `script` makes of it; `received` keeps all that came, in order."""

    def __init__(self, link: Link, features: Sequence[bytes], script: Script = sure) -> None:
        self.script = script
        self.received: list[Request] = []
        self.features = tuple(features)
        self.leading: tuple[Leading, ...] = ()
        self.link = link
        self._changed = threading.Condition()
        self._ready, self._pause = threading.Event(), threading.Event()
        self._outgoing: queue.SimpleQueue[tuple[str, bytes, bool] | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send, daemon=True)  # a full window must not hold the link up
        for name, kind in (("features", FeaturesRequest), ("frame", FrameRequest)):
            link.subscribe(topics.worker_filter(name, "default"), lambda m, kind=kind: self._on_request(m, kind))
        link.subscribe(READY, lambda _: self._ready.set())
        link.subscribe(PING, lambda _: self._outgoing.put((SETTLED, b"", False)))
        link.on_connection(self._on_connection)

    def start(self) -> ScriptedWorker:
        """Connect and announce; returns when both are done."""
        self._sender.start()
        self.link.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def announce(self, features: Sequence[bytes] | None = None, names: Sequence[str] = DIGITS) -> None:
        """Say what is read and how answers are labelled."""
        self.features = self.features if features is None else tuple(features)
        labels = Labels(labels_id(names), tuple(names), self.features, self.leading)
        self.publish("labels", encode(labels), device=None, retain=True)

    def reply(self, *replies: Reply | bytes) -> None:
        """Send replies that no script decided."""
        for one in replies:
            self.publish("reply", one if isinstance(one, bytes) else encode(one))

    def publish(self, name: str, payload: bytes, device: str | None = "device", *, retain: bool = False) -> None:
        """Anything, on any topic, after all that was sent before."""
        self._outgoing.put((topics.topic(name, "default", device), payload, retain))

    def wait_for(self, count: int) -> list[Request]:
        """All requests received, once there are at least `count`."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.received) >= count, PATIENCE_S), self.received
            return list(self.received)

    def close(self) -> None:
        """Say goodbye."""
        self._outgoing.put(None)
        self._sender.join(PATIENCE_S)
        self.link.close()

    def _send(self) -> None:
        while (one := self._outgoing.get()) is not None:
            topic, payload, retain = one
            while not self.link.publish(topic, payload, retain=retain) and self.link.connected:
                self._pause.wait(0.001)

    def _on_connection(self, connected: bool) -> None:
        if connected:
            self.announce()
            self._outgoing.put((READY, b"", False))

    def _on_request(self, message: Message, kind: type[Request]) -> None:
        request = decode(kind, message.payload)
        with self._changed:
            self.received.append(request)
            self._changed.notify_all()
        for one in self.script(request):
            self.reply(one)


class World:
    """A broker, a scripted worker and devices in one process. Close it at the end."""

    def __init__(self, models: TinyModels, folder: Path) -> None:
        self.models, self.folder = models, folder
        self.features = bytes.fromhex(models.program.features_id)
        self.broker = MemoryBroker()
        self.worker = ScriptedWorker(MemoryLink(self.broker, "worker"), [self.features[:4]]).start()
        self._devices: list[Device] = []

    def device(self, *, clock: Clock | None = None, state: str = "state", ready: bool = True, **options: Any) -> Device:
        """A started device that is called "device"; `ready`: it has found the worker."""
        options = {"deadline_s": PATIENCE_S} | options
        config = DeviceConfig(model=self.models.edge, state=self.folder / state, **options)
        device = Device(config, clock=clock, link=MemoryLink(self.broker, config.device))
        self._devices.append(device)
        device.start(watch=False)
        assert device.offload is not None
        if ready:
            assert device.offload.wait_ready(PATIENCE_S)
            self.settle(device)
        return device

    def settle(self, device: Device) -> None:
        """Wait until the worker has handled all that the device sent, and the device all that the worker sent."""
        handled = threading.Event()
        device.link.subscribe(SETTLED, lambda _: handled.set())
        while not device.link.publish(PING if self.worker.link.connected else SETTLED, b""):
            assert device.link.connected
        assert handled.wait(PATIENCE_S)

    def close(self) -> None:
        """End all."""
        for device in self._devices:
            device.close()
        self.worker.close()


def frames(count: int, seed: int = 0, shape: tuple[int, ...] = (16, 16, 1)) -> list[Frame]:
    """Frames of noise, ten a second."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)
    return [Frame(index, index / 10, pixels[index], None) for index in range(count)]


def row_of(device: Device, row: int | None) -> Row:
    """A row that must be there."""
    assert row is not None
    found = device.store.row(row)
    assert found is not None
    return found
