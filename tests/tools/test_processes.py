import sys

import pytest

from ecc_tools import processes
from ecc_tools.processes import ProgramFailed


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Makes an executable that runs the given Python."""

    def make(body):
        path = tmp_path / "ecc-fake"
        path.write_text(f"#!{sys.executable}\n{body}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return ["ecc-fake"]

    return make


def test_json_over_several_lines_is_read_as_one_document(script, tmp_path):
    command = script("import json, signal; print(json.dumps({'a': 1}, indent=2), flush=True); signal.pause()")
    with processes.running(command, tmp_path / "log") as program:
        assert program.read_json() == {"a": 1}
        assert program.process.poll() is None
    assert program.process.returncode is not None


def test_a_program_that_ends_early_says_its_last_words(script, tmp_path):
    command = script("import sys; sys.exit('error: no such model file')")
    with processes.running(command, tmp_path / "log") as program, pytest.raises(ProgramFailed) as failed:
        program.read_json()
    assert str(failed.value) == "ecc-fake ended early (exit 1): error: no such model file"


def test_stop_returns_what_was_printed_since(script, tmp_path):
    command = script(
        "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(print('bye')))\n"
        "print('{}', flush=True)\nsignal.pause()"
    )
    with processes.running(command, tmp_path / "log") as program:
        assert program.read_json() == {}
        assert program.stop() == "bye\n"


def test_a_failed_command_is_named_with_its_code(script):
    with pytest.raises(ProgramFailed, match=r"^ecc-fake failed \(exit 3\): $"):
        processes.run(script("import sys; sys.exit(3)"))


def test_a_command_that_is_not_installed(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ProgramFailed, match=r"^ecc-nothing is not installed beside .*; install with: pip install"):
        processes.find("ecc-nothing")


def test_a_program_gets_to_end_its_own_children(script, tmp_path):
    command = script(
        "import pathlib, signal, sys\n"
        f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(pathlib.Path({str(tmp_path / 'left')!r}).touch()))\n"
        "print('{}', flush=True)\nsignal.pause()"
    )
    with processes.running(command, tmp_path / "log") as program:
        program.read_json()
    assert (tmp_path / "left").exists()
