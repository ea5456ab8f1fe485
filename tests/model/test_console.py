"""What the four programs have in common on the command line: real processes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from support.processes import PATIENCE_S, run

PROGRAMS = ("ecc-broker", "ecc-cloud", "ecc-device", "ecc-tools")
CTRL_C = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n"


@pytest.mark.parametrize("program", PROGRAMS)
def test_its_version_is_the_packages(program: str) -> None:
    done = run(program, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"ecc-snn {version('ecc-snn')}\n", "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_help_tells_what_every_command_takes(program: str) -> None:
    done = run(program, "-h")
    assert (done.returncode, done.stderr) == (0, "")
    told = " ".join(done.stdout.split())
    assert told.endswith(
        "--version prints the version. With every command: -h or --help explains it, --debug shows where an error came "
        "from."
    )
    command = "demo" if program == "ecc-tools" else "start"
    of_command = run(program, command, "-h")
    assert of_command.returncode == 0
    assert f"Usage: {program} {command} " in of_command.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_ctrl_c_while_it_is_imported_ends_it_without_a_traceback(program: str, tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text(CTRL_C)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv[0] = {program!r}\n"
    code += f"from {program.replace('-', '_')}.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
