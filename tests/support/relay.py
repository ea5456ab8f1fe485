"""A TCP relay in front of a broker that keeps what passed, and MQTT's packets in it."""

from __future__ import annotations

import socket
import threading
from types import TracebackType

PUBLISH = 3


class Relay:
    """Forwards connections to `port` of this machine; `sent` holds what each client has sent, in order of arrival."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self.sent: list[bytearray] = []
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self) -> None:
        """End all connections."""
        for sock in self._sockets:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()
        for sock in (self._server, *self._sockets):
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            broker = socket.create_connection(("127.0.0.1", self._target))
            for sock in (client, broker):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(sock)
            kept = bytearray()
            self.sent.append(kept)
            for ends in ((client, broker, kept), (broker, client, bytearray())):
                thread = threading.Thread(target=_forward, args=ends, daemon=True)
                self._threads.append(thread)
                thread.start()


def _forward(source: socket.socket, target: socket.socket, kept: bytearray) -> None:
    try:
        while data := source.recv(65_536):
            kept += data
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def packets(stream: bytes, kind: int) -> list[bytes]:
    """The whole MQTT packets of `kind` (3: PUBLISH) in what one client has sent."""
    found, start = [], 0
    while start < len(stream):
        size, shift, at = 0, 0, start + 1
        while True:
            size |= (stream[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if not stream[at - 1] & 128:
                break
        if stream[start] >> 4 == kind:
            found.append(bytes(stream[start : at + size]))
        start = at + size
    return found
