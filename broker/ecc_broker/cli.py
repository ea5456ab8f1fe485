"""`ecc-broker`: a broker for one machine, in the foreground."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from ecc_broker.server import BrokerKind, start_broker
from ecc_model import console
from ecc_model.errors import LinkError

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


@app.callback()
def _broker() -> None:
    """The broker between the devices and workers of one machine."""


@app.command(epilog="Example: ecc-broker start --port 1883 --data /var/lib/ecc-broker")
def start(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 1883,
    data: Annotated[Path, typer.Option(help="Folder for its configuration, its log and what it keeps.")] = Path(
        "~/.local/state/ecc-broker"
    ),
    kind: Annotated[BrokerKind, typer.Option(help="Which broker; auto: Mosquitto if installed.")] = BrokerKind.AUTO,
    as_json: Annotated[bool, typer.Option("--json", help="Print the line as JSON: url, kind, pid.")] = False,
) -> None:
    """Run a broker until SIGTERM or Ctrl-C. Prints one line with its URL once it accepts connections."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    broker = start_broker(port, data.expanduser(), kind)
    try:
        ready = {"url": broker.url, "kind": broker.kind, "pid": broker.process.pid}
        print(json.dumps(ready) if as_json else f"{broker.kind} ready at {broker.url}", flush=True)
        code = broker.process.wait()
    finally:
        broker.stop()
    raise LinkError(f"{broker.kind} ended by itself (exit code {code}); see {broker.log} and start it again")


def _leave(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(0)


def main() -> None:
    """Entry point of `ecc-broker`."""
    console.run(app)
