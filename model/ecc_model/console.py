"""What the four command lines share: their start, one-line errors, exit codes, JSON."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ecc_model.errors import EccError

if TYPE_CHECKING:
    import typer

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
_EPILOG = (
    "--version prints the version. With every command: -h or --help explains it, "
    "--debug shows where an error came from."
)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the program without a traceback: around the imports of a command line, which take a moment."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


@interruptible()
def run(app: typer.Typer) -> None:
    """Run a command line. An `EccError` becomes `error: ...` and exit code 1; `--debug` shows the traceback."""
    if sys.argv[1:] == ["--version"]:
        from importlib.metadata import version  # slow: not before `interruptible`

        print(f"ecc-snn {version('ecc-snn')}")
        return
    app.info.epilog = _EPILOG
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
        os.environ["ECC_DEBUG"] = "1"
    try:
        app(help_option_names=["-h", "--help"])
    except EccError as error:
        if debug:
            raise
        note(f"error: {error}")
        sys.exit(EXIT_FAILED)


def print_json(value: object) -> None:
    """One JSON document on standard output, keys in the order given."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """A line for the person at the terminal; never mixed into what a program reads from standard output."""
    sys.stderr.write(f"{text}\n")  # one write: `print` makes two, and another thread's line may fall between
    sys.stderr.flush()
