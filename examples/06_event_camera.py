"""A spiking network for an event camera, trained on 100 recordings of N-MNIST and judged by 100 others.

Events become 3 frames of two polarities, one for each saccade. Five networks are trained, each without another fifth of
the training recordings, which chooses temperature and threshold. What is judged is the device: the integer program, fed
with event files. The models are written too, seed-0.pt to seed-4.pt, for a device that replays events:

python examples/06_event_camera.py --data "$ECC_DATA/nmnist" --out runs/events
ecc-device replay 'examples/streams/nmnist#steps=3' --model runs/events/seed-0.pt
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ecc_device.sources import open_source
from ecc_model import bits
from ecc_model.errors import SourceError
from ecc_model.modelfile import GuardSet
from ecc_model.nets.checkpoint import round_to_half, save_edge
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_network
from ecc_model.nets.vgg import SpikingVgg9, VggConfig
from ecc_snn import EccError, Edge
from ecc_tools.augmentation import Augmentation
from ecc_tools.compiling import calibrate
from ecc_tools.data.parts import Part
from ecc_tools.frame_by_frame import split_spikes
from ecc_tools.training import Plan, Views, make_optimizer, parameters_of, run_through, train

NAMES = tuple("0123456789")
STEPS, FOLDS, EPOCHS = 3, 5, 60
NETWORK = VggConfig(steps=STEPS, channels=2, height=32, width_px=32, width=0.11, classes=len(NAMES))


class EventAugmentation(Augmentation):
    """Turns, scales and shifts all steps and polarities of a recording alike: `uint8` (B, T, H, W, 2)."""

    def __call__(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """See `Augmentation.__call__`."""
        count, steps, height, width, polarities = frames.shape
        images = frames.permute(0, 2, 3, 1, 4).reshape(count, height, width, steps * polarities)
        moved = super().__call__(images, generator).view(count, height, width, steps, polarities)
        return moved.permute(0, 3, 1, 2, 4).contiguous()


MOVED = EventAugmentation("digits")


def read_files(data: Path, part: str) -> tuple[list[Path], list[str]]:
    """Event files of "train" or "test", and their labels. `SourceError`."""
    try:
        with (data / "labels.csv").open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["file"].startswith(f"{part}/")]
    except OSError as exc:
        raise SourceError(f"{data}: no labels.csv; give the folder with N-MNIST's train, test and labels.csv") from exc
    return [data / row["file"] for row in rows], [row["label"] for row in rows]


def read_frames(file: Path) -> np.ndarray:
    """One recording as the device sees it: (T, H, W, 2)."""
    (frame,) = open_source(f"{file}#steps={STEPS}")
    return frame.pixels


def folds_of(labels: np.ndarray) -> np.ndarray:
    """Which fifth each recording is in; every fifth has all classes."""
    folds, rng = np.empty(len(labels), np.int64), np.random.default_rng(0)
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        folds[rows] = np.arange(len(rows)) % FOLDS
    return folds


def train_network(part: Part, seed: int, epochs: int) -> SpikingVgg9:
    """A network that has learnt the recordings in ever new views."""
    torch.manual_seed(seed)
    net, views = SpikingVgg9(NETWORK, Lif), Views(part, MOVED, seed, torch.device("cpu"))
    plan = Plan(epochs=epochs, learning_rate=3e-3, batch=20, optimizer="adamw")

    def loss(rows: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": F.cross_entropy(net(views.frames(rows)), views.labels(rows))}

    optimizer = make_optimizer(parameters_of(net.head, net.exit), plan)
    run_through(train(optimizer, loss, len(views), plan, seed, lambda share: None, begin=views.begin))
    return net.eval()


def write_model(path: Path, net: SpikingVgg9, held_out: Part) -> None:
    """The device's file. Its encoder is untrained: no cloud goes with it."""
    round_to_half(net)
    program = compile_network(net)
    temperature, threshold = calibrate(program, held_out.frames, held_out.labels, MOVED)
    packed = [np.frombuffer(bits.pack(row), np.uint8) for row in split_spikes(program, held_out.frames)]
    guard = GuardSet(np.stack(packed), held_out.labels.astype(np.int32), np.ones(len(packed), np.uint8))
    save_edge(
        path,
        net,
        program,
        guard,
        labels=NAMES,
        temperature=temperature,
        threshold=threshold,
        provenance={"data": "N-MNIST, CC BY-SA 4.0"},
        half=True,
    )


def accuracy(model: Path, files: list[Path], labels: list[str]) -> float:
    """Share of event files that a device answers rightly, in percent."""
    with tempfile.TemporaryDirectory() as state, Edge(model, state=state, filter="edge-only") as edge:
        right = [edge.classify(read_frames(file)).label == label for file, label in zip(files, labels, strict=True)]
    return 100.0 * sum(right) / len(right)


def main() -> None:
    """Train, write and judge; one line for each seed."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="folder with train, test and labels.csv")
    options.add_argument("--out", type=Path, default=Path("runs/events"), help="where the models go")
    options.add_argument("--seeds", type=int, choices=range(1, FOLDS + 1), default=FOLDS, help="how many networks")
    options.add_argument("--epochs", type=int, default=EPOCHS)
    chosen = options.parse_args()

    logging.getLogger("ecc_device").setLevel(logging.ERROR)  # that it works alone is no news here
    torch.set_num_threads(1)
    files, names = read_files(chosen.data, "train")
    recordings = Part(np.stack([read_frames(file) for file in files]), np.array(names).astype(np.int64))
    folds, judges = folds_of(recordings.labels), read_files(chosen.data, "test")
    chosen.out.mkdir(parents=True, exist_ok=True)
    print(f"{len(files)} recordings to train with, {len(judges[0])} to judge\nseed  held out    test")
    held, tested = [], []
    for seed in range(chosen.seeds):
        net = train_network(recordings.rows(np.flatnonzero(folds != seed)), seed, chosen.epochs)
        out = np.flatnonzero(folds == seed)
        path = chosen.out / f"seed-{seed}.pt"
        write_model(path, net, recordings.rows(out))
        held.append(accuracy(path, [files[row] for row in out], [names[row] for row in out]))
        tested.append(accuracy(path, *judges))
        print(f"{seed:4}  {held[-1]:6.1f} %  {tested[-1]:4.1f} %", flush=True)
    print(f"mean  {np.mean(held):6.1f} %  {np.mean(tested):4.1f} %")


if __name__ == "__main__":
    try:
        main()
    except EccError as error:
        sys.exit(f"error: {error}")
