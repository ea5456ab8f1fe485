"""`ecc-cloud`: answers what a site's devices are unsure about."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecc_broker import topics
from ecc_broker.mqtt import MqttLink
from ecc_model import console
from ecc_model.optional import require
from ecc_model.signals import Stop, stop_on_signals

if TYPE_CHECKING:
    from ecc_cloud.model import CloudModel
    from ecc_cloud.worker import Worker

STARTING_TICK_S = 0.02  # how soon the readiness line follows the connection
TICK_S = 1.0

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def _ecc_cloud() -> None:
    """Cloud worker: answers spikes and frames from a site's devices with logits."""


@app.command(epilog="Example: ecc-cloud start --model examples/models/cloud.pt --broker mqtt://127.0.0.1:1883")
def start(
    model: Annotated[Path, typer.Option(help="The cloud.pt made together with the devices' model.")],
    broker: Annotated[str, typer.Option(help="mqtt://host:port, or mqtts://user@host:port.")],
    site: Annotated[str, typer.Option(help="The site whose devices are answered.")] = "default",
    ca: Annotated[Path | None, typer.Option(help="Certificates to trust instead of the system's.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow mqtt:// to another machine.")] = False,
    max_batch: Annotated[int, typer.Option(min=1, help="Requests computed together when they queue up.")] = 16,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait; more are refused as busy.")] = 256,
    stats: Annotated[
        Path | None, typer.Option(dir_okay=False, writable=True, help="Write the closing counts to this file, as JSON.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line when ready, one at the end.")] = False,
) -> None:
    """Answer requests until SIGTERM or Ctrl-C; what is queued then is still answered."""
    topics.check_name("site", site)
    if stats is not None and not stats.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {stats.absolute().parent}", param_hint="--stats")
    link = MqttLink(broker, f"ecc-cloud-{secrets.token_hex(4)}", insecure=insecure, ca_file=ca)
    link.on_connection(lambda _: console.note(f"{link.problem}; trying again") if link.problem else None)
    require("torch", "the cloud worker")
    from ecc_cloud.model import CloudModel
    from ecc_cloud.worker import Worker

    loaded = CloudModel(model)
    with stop_on_signals() as stop:
        worker = Worker(loaded, link, site=site, max_batch=max_batch, queue=queue)
        worker.start()
        _serve(stop, worker, link, _ready_line(loaded, broker, site, as_json))
        worker.close()
    record = worker.stats.to_record()
    if stats is not None:
        stats.write_text(json.dumps(record) + "\n")
    print(json.dumps(record) if as_json else _closing_line(record), flush=True)


def _serve(stop: Stop, worker: Worker, link: MqttLink, ready_line: str) -> None:
    """Say once that requests are taken, then wait for a signal."""
    ready = False
    while not stop.wait(TICK_S if ready else STARTING_TICK_S):
        if not worker.alive:
            raise typer.Exit(console.EXIT_FAILED)  # its traceback is on the terminal: a fault of ours
        if not ready and link.connected:
            ready = True
            print(ready_line, flush=True)


def _ready_line(model: CloudModel, broker: str, site: str, as_json: bool) -> str:
    features = [prefix.hex() for prefix in model.encoders]
    if as_json:
        return json.dumps({"model": str(model.path), "features": features, "broker": broker})
    return (
        f"ready: {model.path} ({len(model.labels)} labels) answers features {', '.join(features) or 'none'} "
        f"and frames of site '{site}' at {broker}"
    )


def _closing_line(record: dict[str, Any]) -> str:
    refused = ", ".join(f"{count} {reason}" for reason, count in record["refused"].items())
    return f"stopped: {record['received']} received, {record['answered']} answered, refused: {refused or 'none'}"


def main() -> None:
    """Entry point of `ecc-cloud`."""
    console.run(app)
