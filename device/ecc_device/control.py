"""The control socket: how a command on the same machine talks to a running device.

A Unix domain socket `control.sock` in the state folder, for its owner only. One JSON line each way, one request a
connection:

| direction | line                                                |
|-----------|-----------------------------------------------------|
| request   | `{"do": name, ...arguments}`, at most 64 KiB        |
| answer    | `{"ok": true, "result": ...}`                       |
| answer    | `{"ok": false, "error": "one line for people"}`     |
"""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from ecc_model.errors import DeviceError, DeviceNotRunning, EccError

SOCKET_NAME = "control.sock"
MAX_REQUEST_BYTES = 64 * 1024
CLIENT_S = 5.0  # to send the whole request, and again to take the answer
CONNECTIONS = 8  # served at the same time; others wait in the socket's backlog
CLOSE_S = 1.0  # for answers under way when the server closes
_BACKLOG = 64
_log = logging.getLogger("ecc_device")

Handler = Callable[[dict[str, Any]], object]


class ControlServer:
    """Answers requests by `handlers`: name -> function of the whole request, with a result that JSON can hold.

    A handler checks its arguments and raises an `EccError` for the client; it runs on its connection's own thread.
    """

    def __init__(self, folder: Path, handlers: Mapping[str, Handler]) -> None:
        self._folder, self._handlers = folder, dict(handlers)
        self._lock = threading.Lock()
        self._slots = threading.Semaphore(CONNECTIONS)
        self._closing = threading.Event()
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._open: dict[threading.Thread, socket.socket] = {}

    def start(self) -> None:
        """Listen, in the background. `DeviceError`: another process listens there, or the folder takes no socket."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _in_folder(self._folder) as (folder_fd, address):
                self._make_way(folder_fd, address)
                listener.bind(address)
                os.chmod(SOCKET_NAME, 0o600, dir_fd=folder_fd)  # nobody can connect before `listen`
                listener.listen(_BACKLOG)
        except OSError as exc:
            listener.close()
            raise DeviceError(
                f"{self._folder / SOCKET_NAME}: the control socket cannot be made ({exc.strerror}); "
                "choose a state folder on a local disk that you can write"
            ) from exc
        except DeviceError:
            listener.close()
            raise
        self._listener = listener
        self._accepting = threading.Thread(target=self._accept, args=(listener,), name="ecc-control", daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Remove the socket; answers under way get `CLOSE_S`, silent clients nothing. Closing twice is fine."""
        if self._listener is None or self._closing.is_set():
            return
        with suppress(OSError), _in_folder(self._folder) as (folder_fd, _):  # the folder itself may be gone
            os.unlink(SOCKET_NAME, dir_fd=folder_fd)
        with self._lock:
            self._closing.set()
            threads = dict(self._open)
        self._slots.release()  # wakes the accepting thread if it waits for a slot,
        self._listener.shutdown(socket.SHUT_RDWR)  # and if it waits for a client
        for connection in threads.values():
            with suppress(OSError):  # the client is gone already
                connection.shutdown(socket.SHUT_RD)
        until_s = time.monotonic() + CLOSE_S
        for thread in (self._accepting, *threads):
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until_s - time.monotonic()))
        self._listener.close()

    def _make_way(self, folder_fd: int, address: str) -> None:
        """Remove the socket of a process that died; `DeviceError` if something else stands there."""
        try:
            mode = os.stat(SOCKET_NAME, dir_fd=folder_fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise DeviceError(f"{self._folder / SOCKET_NAME}: not a socket, where the control socket goes; remove it")
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
            try:
                probe.connect(address)
            except ConnectionRefusedError:
                os.unlink(SOCKET_NAME, dir_fd=folder_fd)
                return
        raise DeviceError(f"a device runs in {self._folder} already; stop it, or choose another state folder")

    def _accept(self, listener: socket.socket) -> None:
        while True:
            self._slots.acquire()
            if self._closing.is_set():
                return
            try:
                connection, _ = listener.accept()
            except OSError as exc:
                self._slots.release()
                if self._closing.wait(1.0):  # or out of file descriptors: some may come back
                    return
                _log.warning("control socket: %s", exc)
                continue
            thread = threading.Thread(target=self._serve, args=(connection,), name="ecc-control-client", daemon=True)
            with self._lock:
                if self._closing.is_set():
                    connection.close()
                    return
                self._open[thread] = connection
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, suppress(OSError):  # a client that is slow or gone is its own problem
                try:
                    line = _read_line(connection, CLIENT_S, MAX_REQUEST_BYTES)
                    if not line:
                        return
                    answer = {"ok": True, "result": self._call(line)}
                except EccError as error:
                    answer = {"ok": False, "error": str(error)}
                connection.settimeout(CLIENT_S)
                connection.sendall(json.dumps(answer).encode() + b"\n")
        finally:
            with self._lock:
                self._open.pop(threading.current_thread(), None)
            self._slots.release()

    def _call(self, line: bytes) -> object:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise DeviceError('a request that is not JSON; send one line such as {"do": "status"}') from exc
        if not isinstance(request, dict) or not isinstance(request.get("do"), str):
            raise DeviceError('a request without a command; send one line such as {"do": "status"}')
        name = request["do"]
        if name not in self._handlers:
            raise DeviceError(f"{name[:40]!r} is not a command of this device; it knows: {', '.join(self._handlers)}")
        return self._handlers[name](request)


def ask(folder: Path, do: str, timeout_s: float | None = 10.0, **arguments: Any) -> Any:
    """What the device that runs in `folder` answers to `do`; None for `timeout_s` waits for ever.

    `DeviceError`: no device runs there, it did not answer in time, or it answered with an error (its text).
    """
    request = json.dumps({"do": do, **arguments}).encode() + b"\n"
    try:
        with closing(_connect(folder, timeout_s)) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused half-way: the answer says why
                connection.sendall(request)
            line = _read_line(connection, timeout_s, None)
    except ConnectionResetError:
        line = b""
    except TimeoutError as exc:
        raise DeviceError(
            f"the device in {folder} did not answer '{do}' within {timeout_s:g} s; try again, or look into its log"
        ) from exc
    except OSError as exc:
        raise DeviceError(
            f"the device in {folder} cannot be asked ({exc.strerror}); ask as the user who started it, or try again"
        ) from exc
    try:
        answer = json.loads(line)
    except ValueError as exc:
        raise DeviceError(f"the device in {folder} stopped before it answered '{do}'; look into its log") from exc
    if not answer["ok"]:
        raise DeviceError(answer["error"])
    return answer["result"]


def _connect(folder: Path, timeout_s: float | None) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        with _in_folder(folder) as (_, address):
            connection.connect(address)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError) as exc:
        connection.close()
        raise DeviceNotRunning(folder) from exc
    except OSError:
        connection.close()
        raise
    return connection


@contextmanager
def _in_folder(folder: Path) -> Iterator[tuple[int, str]]:
    """The open folder, and the socket's address through it: a full path may exceed the 107 bytes of AF_UNIX."""
    folder_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield folder_fd, f"/proc/self/fd/{folder_fd}/{SOCKET_NAME}"
    finally:
        os.close(folder_fd)


def _read_line(connection: socket.socket, timeout_s: float | None, max_bytes: int | None) -> bytes:
    """All up to the first newline or the end. `TimeoutError` for the whole of it, `DeviceError` above `max_bytes`."""
    until_s = None if timeout_s is None else time.monotonic() + timeout_s
    data = bytearray()
    while b"\n" not in data:
        if until_s is not None:
            left_s = until_s - time.monotonic()
            if left_s <= 0.0:
                raise TimeoutError
            connection.settimeout(left_s)
        chunk = connection.recv(65536)
        data += chunk
        if max_bytes is not None and len(data) > max_bytes:
            raise DeviceError(f"a request of more than {max_bytes} bytes; send less")
        if not chunk:
            break
    return bytes(data).partition(b"\n")[0]
