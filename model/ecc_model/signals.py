"""SIGTERM and SIGINT as an event that programs wait for."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator


class Stop(threading.Event):
    """Set by SIGTERM and SIGINT."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[Callable[[], None]] = []

    def then(self, call: Callable[[], None]) -> None:
        """Call `call` as well, at once if the signal came before."""
        self._calls.append(call)
        if self.is_set():
            call()

    def listen(self, pipe: socket.socket) -> None:
        """Wait for a signal's number in `pipe`."""
        if pipe.recv(1):
            self.set()
            for call in self._calls:
                call()


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Signals reach `Stop` on a thread of its own: a handler might wait for a lock that it interrupted."""
    stop, (reader, writer) = Stop(), socket.socketpair()
    writer.setblocking(False)
    thread = threading.Thread(target=stop.listen, args=(reader,), name="ecc-signals", daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(writer.fileno())
    handlers = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        writer.close()
        thread.join()
        reader.close()
