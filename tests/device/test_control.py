"""The control socket: answers, refusals, and clients that misbehave."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ecc_device import control
from ecc_device.control import MAX_REQUEST_BYTES, ControlServer, ask
from ecc_model.errors import DeviceError, StoreError

NOT_JSON = 'a request that is not JSON; send one line such as {"do": "status"}'
NO_COMMAND = 'a request without a command; send one line such as {"do": "status"}'


def fail(request: dict[str, Any]) -> object:
    raise StoreError("the disk is full; free some space")


HANDLERS = {"echo": lambda request: request, "none": lambda request: None, "fail": fail}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A state folder whose device answers to `HANDLERS`."""
    server = ControlServer(tmp_path, HANDLERS)
    server.start()
    yield tmp_path
    server.close()


def connect(folder: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(10)
    folder_fd = os.open(folder, os.O_RDONLY)
    connection.connect(f"/proc/self/fd/{folder_fd}/control.sock")
    os.close(folder_fd)
    return connection


def raw(folder: Path, data: bytes) -> bytes:
    """What the server says to these bytes and the end of the stream."""
    with closing(connect(folder)) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = bytearray()
        while chunk := connection.recv(65536):
            answer += chunk
        return bytes(answer)


def error_of(folder: Path, do: str = "echo", **arguments: Any) -> str:
    with pytest.raises(DeviceError) as caught:
        ask(folder, do, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- questions and answers --------------------------------------------------------------------------------------


def test_a_handler_gets_the_request_and_its_result_comes_back(folder: Path) -> None:
    assert ask(folder, "echo", event="charging", n=[1, 2.5, None]) == {
        "do": "echo",
        "event": "charging",
        "n": [1, 2.5, None],
    }
    assert ask(folder, "none", timeout_s=None) is None


@given(st.dictionaries(st.text().filter(lambda k: k not in ("do", "folder", "timeout_s")), st.text() | st.integers()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_arguments_cross_unchanged(folder: Path, arguments: dict[str, Any]) -> None:
    assert ask(folder, "echo", **arguments) == {"do": "echo", **arguments}


def test_an_answer_may_be_larger_than_a_request(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, {"long": lambda _: "x" * 1_000_000})
    server.start()
    assert ask(tmp_path, "long") == "x" * 1_000_000
    server.close()


def test_an_error_of_the_handler_reaches_the_client(folder: Path) -> None:
    assert error_of(folder, "fail") == "the disk is full; free some space"


def test_an_unknown_command_lists_those_that_exist(folder: Path) -> None:
    assert error_of(folder, "dance") == "'dance' is not a command of this device; it knows: echo, none, fail"
    assert error_of(folder, "x" * 1000) == f"'{'x' * 40}' is not a command of this device; it knows: echo, none, fail"


def test_the_bytes_of_an_answer(folder: Path) -> None:
    assert raw(folder, b'{"do": "none"}\n') == b'{"ok": true, "result": null}\n'
    assert raw(folder, b'{"do": "fail"}\n') == b'{"ok": false, "error": "the disk is full; free some space"}\n'


# --- bytes that are no request ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"hello\n", NOT_JSON),
        (b"{\n", NOT_JSON),
        (b"\xff\xfe\n", NOT_JSON),
        (b"[" * 60000 + b"\n", NOT_JSON),
        (b"1" * 60000 + b"\n", NOT_JSON),
        (b"[]\n", NO_COMMAND),
        (b"null\n", NO_COMMAND),
        (b"{}\n", NO_COMMAND),
        (b'{"do": 1}\n', NO_COMMAND),
        (b'{"do": ["echo"]}\n', NO_COMMAND),
        (b'{"do": "a\\nb"}\n', "'a\\nb' is not a command of this device; it knows: echo, none, fail"),
        (b'{"do": "\\ud800"}\n', "'\\ud800' is not a command of this device; it knows: echo, none, fail"),
    ],
    ids=range(12),
)
def test_what_is_no_request_is_refused(folder: Path, data: bytes, error: str) -> None:
    assert json.loads(raw(folder, data)) == {"ok": False, "error": error}


def test_a_request_needs_no_newline_before_the_end(folder: Path) -> None:
    assert json.loads(raw(folder, b'{"do": "none"}')) == {"ok": True, "result": None}


def test_a_request_of_64_kib_is_the_largest(folder: Path) -> None:
    room = MAX_REQUEST_BYTES - len(b'{"do": "echo", "text": ""}\n')
    assert ask(folder, "echo", text="x" * room)["text"] == "x" * room
    assert error_of(folder, text="x" * (room + 1)) == "a request of more than 65536 bytes; send less"
    assert error_of(folder, text="x" * 10_000_000) == "a request of more than 65536 bytes; send less"


@given(st.binary(max_size=300))
@example(b"")
@example(b"\n")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_no_bytes_stop_the_server(folder: Path, data: bytes) -> None:
    answer = raw(folder, data)
    assert not answer or json.loads(answer)["ok"] is False
    assert ask(folder, "none") is None


# --- clients that are slow, silent or gone ----------------------------------------------------------------------


def test_a_silent_client_does_not_block_the_others(folder: Path) -> None:
    with closing(connect(folder)):
        assert ask(folder, "none") is None


def test_silent_and_half_said_clients_are_cut(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CLIENT_S", 0.05)
    with closing(connect(folder)) as silent, closing(connect(folder)) as half:
        half.sendall(b'{"do": ')
        assert silent.recv(1) == b""
        assert half.recv(1) == b""


def test_silent_clients_in_every_place_only_delay_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CLIENT_S", 0.2)
    with ExitStack() as stack:
        for _ in range(2 * control.CONNECTIONS):
            stack.enter_context(closing(connect(folder)))
        assert ask(folder, "none") is None


def test_a_client_that_leaves_before_its_answer_harms_nobody(folder: Path) -> None:
    for _ in range(3 * control.CONNECTIONS):
        with closing(connect(folder)) as connection:
            connection.sendall(b'{"do": "echo"}\n')
    assert ask(folder, "none") is None


def test_a_device_that_takes_too_long(tmp_path: Path) -> None:
    done = threading.Event()
    server = ControlServer(tmp_path, {"wait": lambda _: done.wait(10)})
    server.start()
    assert error_of(tmp_path, "wait", timeout_s=0.05) == (
        f"the device in {tmp_path} did not answer 'wait' within 0.05 s; try again, or look into its log"
    )
    done.set()
    server.close()


# --- the socket's life ------------------------------------------------------------------------------------------


def nobody(folder: Path) -> str:
    return f"no device is running in {folder}; start one with: ecc-device start --model vgg9.pt"


def test_without_a_device_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    assert error_of(tmp_path) == nobody(tmp_path)
    assert error_of(tmp_path / "missing") == nobody(tmp_path / "missing")
    (tmp_path / "file").write_text("")
    assert error_of(tmp_path / "file") == nobody(tmp_path / "file")


def test_the_socket_is_its_owners_and_goes_with_the_server(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, HANDLERS)
    server.start()
    mode = (tmp_path / "control.sock").stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    server.close()
    server.close()
    assert list(tmp_path.iterdir()) == []
    assert error_of(tmp_path) == nobody(tmp_path)
    assert "ecc-control" not in [thread.name for thread in threading.enumerate()]


def test_a_server_that_never_started_closes(tmp_path: Path) -> None:
    ControlServer(tmp_path, HANDLERS).close()


def test_paths_longer_than_a_socket_address(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a" * 100] * 3)
    deep.mkdir(parents=True)
    server = ControlServer(deep, HANDLERS)
    server.start()
    assert ask(deep, "none") is None
    server.close()
    assert list(deep.iterdir()) == []


CRASHES = """
import sys
from pathlib import Path
from ecc_device.control import ControlServer
ControlServer(Path(sys.argv[1]), {"hang": lambda _: print("asked", flush=True) or sys.stdin.read()}).start()
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_socket_of_a_killed_process_is_replaced(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CRASHES, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(DeviceError) as caught:
            ControlServer(tmp_path, HANDLERS).start()
        assert str(caught.value) == f"a device runs in {tmp_path} already; stop it, or choose another state folder"
        errors: list[str] = []
        asking = threading.Thread(target=lambda: errors.append(error_of(tmp_path, "hang", timeout_s=60.0)))
        asking.start()
        assert child.stdout.readline() == "asked\n"
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        asking.join(10)
    assert errors == [f"the device in {tmp_path} stopped before it answered 'hang'; look into its log"]
    assert (tmp_path / "control.sock").exists()
    assert error_of(tmp_path) == nobody(tmp_path)
    server = ControlServer(tmp_path, HANDLERS)
    server.start()
    assert ask(tmp_path, "none") is None
    server.close()


def test_a_device_that_dies_with_the_request_unread(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(f"{tmp_path}/control.sock")
        listener.listen()

        def die() -> None:
            connection, _ = listener.accept()
            connection.recv(1, socket.MSG_PEEK)
            connection.close()

        dying = threading.Thread(target=die)
        dying.start()
        assert error_of(tmp_path) == (f"the device in {tmp_path} stopped before it answered 'echo'; look into its log")
        dying.join(10)


def test_a_file_in_the_sockets_place_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    path.write_text("mine")
    with pytest.raises(DeviceError) as caught:
        ControlServer(tmp_path, HANDLERS).start()
    assert str(caught.value) == f"{path}: not a socket, where the control socket goes; remove it"
    assert path.read_text() == "mine"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        ControlServer(tmp_path / "gone", HANDLERS).start()
    assert str(caught.value) == (
        f"{tmp_path}/gone/control.sock: the control socket cannot be made (No such file or directory); "
        "choose a state folder on a local disk that you can write"
    )


def test_close_lets_an_answer_out_and_cuts_the_silent(tmp_path: Path) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(request: dict[str, Any]) -> object:
        asked.set()
        return go_on.wait(10)

    server = ControlServer(tmp_path, {"slow": slow, "none": HANDLERS["none"]})
    server.start()
    answers: list[object] = []
    asking = threading.Thread(target=lambda: answers.append(ask(tmp_path, "slow")))
    asking.start()
    assert asked.wait(10)
    with closing(connect(tmp_path)) as silent:
        ask(tmp_path, "none")  # served in turn: the silent one is connected by now
        closer = threading.Thread(target=server.close)
        closer.start()
        assert silent.recv(1) == b""  # the server is closing
        go_on.set()
        closer.join(10)
    asking.join(10)
    assert answers == [True]
    assert not (tmp_path / "control.sock").exists()


def test_a_handler_may_close_its_server(tmp_path: Path) -> None:
    server = ControlServer(tmp_path, {"stop": lambda _: server.close()})
    server.start()
    assert ask(tmp_path, "stop") is None
    assert error_of(tmp_path) == nobody(tmp_path)
