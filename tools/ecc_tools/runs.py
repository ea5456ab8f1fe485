"""A run folder: what was asked for (config.toml), how it went (log.csv, curve.png), where it stands (checkpoint.pt).

`weights.pt` holds the network of the best validation epoch. All `.pt` files open with
`torch.load(path, weights_only=True)`.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import math
import pickle
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import nn

from ecc_model.errors import EccError
from ecc_model.nets.neuron import Lif
from ecc_model.nets.vit import pretrained_file
from ecc_tools.data.parts import Part
from ecc_tools.networks import VIT, Bottleneck, build_network
from ecc_tools.training import Plan

CONFIG, CHECKPOINT, WEIGHTS, LOG = "config.toml", "checkpoint.pt", "weights.pt", "log.csv"
LOGGED = {"epoch", "accuracy", "validation_loss"}  # in every log, beside the terms of its loss


class RunError(EccError):
    """A run folder that cannot be used."""


class DataConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which images."""

    name: str
    tasks: str = ""  # a class-incremental split such as "B6-Inc2"; empty: all classes at once
    task: int = 0  # which task of it
    augmentation: str = "crop-flip"
    mix: str = ""  # "cutmix" or "mixup"
    views: int = 0  # so many fixed augmented views by turns; 0: a new one every epoch


class NetworkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which network."""

    kind: str
    width: float = 1.0
    steps: int = 1  # T; 1 for dense networks
    bottleneck: Bottleneck | msgspec.UnsetType = msgspec.UNSET  # a spiking one within a spiking network


class LossConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is minimized (eq. 10): cross entropy + logits * KL + features * alignment + rate * synaptic operations.

    `early` weighs the first two, as a mean over the answers after 1 to T - 1 steps.
    """

    logits: float = 0.0  # l1
    features: float = 0.0  # l2
    tau_d: float = 2.0
    rate: float = 0.0
    label_smoothing: float = 0.0
    early: float = 0.0


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides the outcome of a run."""

    seed: int
    data: DataConfig
    network: NetworkConfig
    plan: Plan
    loss: LossConfig
    int8: bool = False  # the forward pass computes with the device's integer weights
    ema: float = 0.0  # decay of the averaged weights that are kept; 0: the last weights are
    teacher: str = ""  # SHA-256 of the teacher's weights
    start: str = ""  # SHA-256 of the weights that it begins with; "": random ones


class Provenance(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run comes from, and what its network takes and tells."""

    data_sha256: str  # of the images and labels that it was trained on
    code: str
    torch: str
    frame: tuple[int, int, int]  # height, width, channels
    labels: tuple[str, ...]
    seen: tuple[str, ...] = ()  # these, and what its teacher and what it begins with have seen; older runs do not tell


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`config.toml`."""

    run: RunConfig
    provenance: Provenance


def code_version() -> str:
    """The version of this distribution."""
    return f"ecc-snn {version('ecc-snn')}"


class RunFolder:
    """One run on disk. Every file is replaced whole, so a killed run keeps its last complete epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, record: Record, *, resume: bool) -> dict[str, Any] | None:
        """Take the folder for a run: None to start from nothing, or the checkpoint to go on from.

        `RunError` for a folder that holds another run or cannot be made, or with `resume` for a config that differs.
        """
        if not is_run(self.path):
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise _unwritable(self.path, exc) from exc
            with _writing(self.path / CONFIG) as partial:
                partial.write_bytes(msgspec.toml.encode(record))
            return None
        if not resume:
            raise RunError(f"{self.path} holds a run already; go on with it by --resume, or name another --out")
        there = read_record(self.path)
        different = _difference(msgspec.to_builtins(there.run), msgspec.to_builtins(record.run))
        if different is None and there.provenance.data_sha256 != record.provenance.data_sha256:
            hashes = (there.provenance.data_sha256[:12], record.provenance.data_sha256[:12])
            different = ("provenance.data_sha256", *hashes)
        if different is not None:
            name, old, new = different
            raise RunError(f"{self.path} was begun with {name} = {old}, not {new}; resume with what it was begun with")
        return load_tensors(self.path / CHECKPOINT) if (self.path / CHECKPOINT).exists() else None

    def save_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Write `checkpoint.pt`. `RunError`."""
        save_tensors(self.path / CHECKPOINT, state)

    def save_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Write `weights.pt`. `RunError`."""
        save_tensors(self.path / WEIGHTS, weights)

    def rows(self) -> list[dict[str, float]]:
        """The lines of the log so far. `RunError`."""
        path = self.path / LOG
        try:
            with path.open(newline="") as stream:
                rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
            if not all(row.keys() >= LOGGED and all(map(math.isfinite, row.values())) for row in rows):
                raise ValueError("a figure is missing or not finite")
        except (OSError, ValueError, TypeError, csv.Error) as exc:  # TypeError: a line with too many cells, or too few
            raise RunError(f"{path}: not the log of a run ({_reason(exc)}); make the run anew") from exc
        return rows

    def save_rows(self, rows: Sequence[Mapping[str, float]]) -> None:
        """Write `log.csv`, one line per epoch. `RunError`."""
        with _writing(self.path / LOG) as partial, partial.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def read_record(folder: Path) -> Record:
    """What `config.toml` of a run says. `RunError`."""
    path = folder / CONFIG
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Record)
    except OSError as exc:
        raise RunError(f"{folder} is no run folder: it has no {CONFIG}; give the --out of a training") from exc
    except msgspec.MsgspecError as exc:
        raise RunError(f"{path}: {exc}; make the run anew") from exc


def save_tensors(path: Path, state: Mapping[str, Any]) -> None:
    """Write what `load_tensors` reads. `RunError`."""
    with _writing(path) as partial:
        torch.save(dict(state), partial)


def load_tensors(path: Path) -> dict[str, Any]:
    """A `.pt` file of tensors and plain values. `RunError`."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as exc:
        raise RunError(f"{path}: cannot be read ({_reason(exc)}); make the run anew") from exc
    return state


def load_run(folder: Path) -> tuple[nn.Module, Record]:
    """The best network of a run, in eval mode, and its record. `RunError`."""
    record = read_record(folder)
    network, provenance = record.run.network, record.provenance
    net = build_network(
        network.kind,
        width=network.width,
        steps=network.steps,
        frame=provenance.frame,
        classes=len(provenance.labels),
        neuron=Lif,
        bottleneck=network.bottleneck or None,
    )
    if not load_weights(net, folder):
        raise RunError(f"{folder / WEIGHTS} is not of the network that {CONFIG} names; make the run anew")
    return net.eval(), record


def load_weights(net: nn.Module, folder: Path, *, any_classes: bool = False) -> bool:
    """Give `net` the best weights of a run; False if they are another network's. `RunError` if they cannot be read.

    any_classes: a run on other classes gives all but its last layer.
    """
    state = load_tensors(folder / WEIGHTS)
    try:
        if any_classes:  # keep its own last layer; other outputs of an earlier one are inputs that fail below
            for name, own in net.state_dict().items():
                given = state.get(name, own)
                if given.shape != own.shape and given.shape[1:] == own.shape[1:]:
                    state[name] = own
        net.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError):
        return False
    return True


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file. `OSError`."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights_sha256(folder: Path) -> str:
    """SHA-256 (hex) of a run's `weights.pt`. `RunError` where there is none yet."""
    try:
        return file_sha256(folder / WEIGHTS)
    except OSError as exc:
        raise RunError(f"{folder} holds no trained network ({WEIGHTS}); give the --out of a training") from exc


def is_run(folder: Path) -> bool:
    """Whether `ecc-tools train` or `distill` made it."""
    return (folder / CONFIG).exists()


def check_images(folder: Path, record: Record, learn: Part, name: str) -> None:
    """`RunError` unless the run in `folder` learnt from the images `learn` of the set `name`."""
    if learn.sha256 != record.provenance.data_sha256:
        raise RunError(f"{folder} did not learn from these images of {name}; give what it learnt from")


def is_pretrained(start: Path, network: str) -> bool:
    """Whether a run that begins with `start` begins with a ViT of the Hugging Face hub, or a folder of transformers."""
    return network == VIT and not is_run(start)


def start_sha256(start: Path, network: str) -> str:
    """SHA-256 (hex) of the weights that a run begins with; a ViT of the hub is downloaded. `RunError`, `ModelError`."""
    if is_pretrained(start, network):
        return file_sha256(pretrained_file(start))
    return weights_sha256(start)


def _difference(old: Any, new: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first field that differs: its dotted name and both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:  # a setting that is not made has no key
            found = _difference(old.get(key), new.get(key), f"{name}.{key}" if name else key)
            if found is not None:
                return found
        return None
    return None if old == new else (name, old, new)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Where to write what then replaces `path` whole. `RunError` where the system refuses it."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except (OSError, RuntimeError) as exc:  # RuntimeError: torch's own writer, when the disk is full
        raise _unwritable(path, exc) from exc


def _unwritable(path: Path, exc: Exception) -> RunError:
    return RunError(
        f"{path}: cannot be written ({_reason(exc)}); check the path, its permissions, and the space on its disk"
    )


def _reason(exc: Exception) -> str:
    """What an error of the system or of torch says, in one short line."""
    text = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return f"{text.splitlines()[0]:.120}"
