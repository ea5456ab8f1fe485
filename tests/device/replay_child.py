"""One replay with a scripted worker, for a process of its own: `python replay_child.py FOLDER SOURCE STATE RESULTS`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ecc_broker import codec
from ecc_broker.messages import FeaturesRequest, Reply
from ecc_device.clock import VirtualClock
from ecc_device.player import Tally, play, write_results
from ecc_device.sources import open_source
from ecc_model.modelfile import labels_id, read_edge
from support.models import DIGITS, TinyModels
from support.workers import PATIENCE_S, Request, World


def by_spikes(request: Request) -> list[Reply | bytes]:
    """Logits that depend on the request's bytes alone, as those of a network do."""
    assert isinstance(request, FeaturesRequest)
    values = np.random.default_rng(list(request.spikes)).normal(0.0, 3.0, len(DIGITS)).astype(np.float32)
    return [Reply(request.id, labels_id(DIGITS), codec.encode_logits(values))]


def replay(folder: Path, source: Path, state: Path, results: Path) -> Tally:
    """Replay `source` with the models in `folder` and write `results`."""
    models = TinyModels(folder / "vgg9.pt", folder / "cloud.pt", read_edge(folder / "vgg9.pt").program)
    world = World(models, state)
    world.worker.script = by_spikes
    try:
        clock = VirtualClock()
        device = world.device(clock=clock, patience_s=PATIENCE_S, ready=False)
        return write_results(results, play(open_source(str(source)), device, clock), lambda: None)
    finally:
        world.close()


if __name__ == "__main__":
    replay(*(Path(argument) for argument in sys.argv[1:]))
