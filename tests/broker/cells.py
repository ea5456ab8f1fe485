"""One broker with its links, of each kind: what the contract tests run on."""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from ecc_broker.link import Link, Message, Will
from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_broker.mqtt import MqttLink

TIMEOUT_S = 20.0
CLIENT_WITH_WILL = """
import sys, threading
from ecc_broker.link import Will
from ecc_broker.mqtt import MqttLink
url, client_id, version, topic, payload = sys.argv[1:]
link = MqttLink(url, client_id, version=int(version), will=Will(topic, bytes.fromhex(payload)))
link.on_connection(lambda connected: print("connected", flush=True) if connected else None)
link.start()
threading.Event().wait()
"""


class Inbox:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self._messages: queue.Queue[Message] = queue.Queue()

    def __call__(self, message: Message) -> None:
        self._messages.put(message)

    def next(self) -> Message:
        return self._messages.get(timeout=TIMEOUT_S)

    def payloads(self, count: int) -> list[bytes]:
        return [self.next().payload for _ in range(count)]

    def until(self, payload: bytes) -> list[bytes]:
        """All payloads before the one with `payload`."""
        before = []
        while (got := self.next().payload) != payload:
            before.append(got)
        return before

    @property
    def empty(self) -> bool:
        return self._messages.empty()


class Watch:
    """A connection listener that keeps each change with the problem at that moment."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._changes: queue.Queue[tuple[bool, str | None]] = queue.Queue()
        link.on_connection(lambda connected: self._changes.put((connected, link.problem)))

    def until(self, wanted: bool, text: str = "") -> str | None:
        """Wait for a change to `wanted` with `text` in the problem; the problem."""
        while True:
            connected, problem = self._changes.get(timeout=TIMEOUT_S)
            if connected == wanted and text in (problem or ""):
                return problem


class Cell:
    """Base: makes links, remembers them, closes them after the test."""

    shares = True
    """Whether a `$share` subscription spreads the load."""
    throws_twins_out = True
    """Whether a second client with the same id ends the first one's connection."""

    def __init__(self) -> None:
        self._links: list[Link] = []

    def new_link(self, client_id: str, will: Will | None) -> Link:
        raise NotImplementedError

    def link(self, client_id: str, will: Will | None = None) -> Link:
        """A link that is not started."""
        link = self.new_link(client_id, will)
        self._links.append(link)
        return link

    def connected(self, client_id: str, will: Will | None = None) -> Link:
        """A link that is."""
        link = self.link(client_id, will)
        watch = Watch(link)
        link.start()
        watch.until(True)
        return link

    def subscribed(self, client_id: str, *filters: str, inbox: Callable[[Message], None] | None = None) -> Any:
        """A connected link's inbox: subscribed before the start, so the broker has taken it when this returns."""
        link = self.link(client_id)
        handler = Inbox() if inbox is None else inbox
        for filter_ in filters:
            link.subscribe(filter_, handler)
        watch = Watch(link)
        link.start()
        watch.until(True)
        return handler

    def close_links(self) -> None:
        for link in self._links:
            link.close()
        self._links.clear()

    def kill(self) -> None:
        raise NotImplementedError

    def restart(self) -> None:
        raise NotImplementedError

    def pause(self) -> None:
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError

    def live_and_die(self, client_id: str, will: Will) -> None:
        """A client with `will` connects and dies without a goodbye."""
        raise NotImplementedError


class MemoryCell(Cell):
    def __init__(self) -> None:
        super().__init__()
        self.broker = MemoryBroker()

    def new_link(self, client_id: str, will: Will | None) -> Link:
        return MemoryLink(self.broker, client_id, will)

    def kill(self) -> None:
        self.broker.stop()

    def restart(self) -> None:
        self.broker.start()

    def pause(self) -> None:
        self.broker.pause()

    def resume(self) -> None:
        self.broker.resume()

    def live_and_die(self, client_id: str, will: Will) -> None:
        link = MemoryLink(self.broker, client_id, will)
        self.broker.attach(link)
        self.broker.drop(link)


class MqttCell(Cell):
    def __init__(self, process: Any, version: Any) -> None:
        super().__init__()
        self.process = process
        self.version = version
        self.shares = version == 5
        self.throws_twins_out = process.kind != "amqtt"

    def new_link(self, client_id: str, will: Will | None) -> Link:
        return MqttLink(self.process.url, client_id, version=self.version, will=will)

    def kill(self) -> None:
        self.process.kill()

    def restart(self) -> None:
        self.process.resume()
        self.process.restart()

    def pause(self) -> None:
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    def live_and_die(self, client_id: str, will: Will) -> None:
        arguments = [self.process.url, client_id, str(self.version), will.topic, will.payload.hex()]
        command = [sys.executable, "-c", CLIENT_WITH_WILL, *arguments]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            if child.stdout is None or child.stdout.readline() != b"connected\n":
                raise AssertionError("the client with a will did not connect")
            child.kill()
