"""The integer program: what a device runs instead of a float network.

A program is three lists of layers: the head (frame to split point), the encoder (split point to the code that
travels) and the exit (split point to logits). Other encoders may make shorter codes of the same spikes, and a second
exit may join its logits to those of the first. All weights, sums and membranes are integers, so that every engine on
every processor emits the same bits; `ecc_model.reference` defines their meaning.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from ecc_model import records
from ecc_model.bits import packed_size
from ecc_model.errors import CompileError
from ecc_model.frames import FrameSpec
from ecc_model.layers import (
    AnyLayer,
    AveragePool,
    Conv,
    Currents,
    Layer,
    Linear,
    MaxPool,
    Pool,
    Probe,
    Readout,
    Residual,
    Shape,
    Tap,
    Terminal,
    section_shape,
)
from ecc_model.proof import INT32_MAX, MAX_CLASSES, PIXEL_MAX, check_section, layer_bound, prove
from ecc_model.records import Tensors

__all__ = [
    "INT32_MAX",
    "MAX_CLASSES",
    "MAX_ENCODERS",
    "MAX_STEPS",
    "PIXEL_MAX",
    "SECTIONS",
    "AnyLayer",
    "AveragePool",
    "Conv",
    "Currents",
    "Layer",
    "Linear",
    "MaxPool",
    "Pool",
    "Probe",
    "Program",
    "Readout",
    "Residual",
    "Shape",
    "Tap",
    "from_records",
    "layer_bound",
    "prove",
    "section_shape",
    "to_records",
]

MAX_STEPS = 16
MAX_ENCODERS = 8
SECTIONS = ("head", "encoder", "exit")


@dataclass(frozen=True, eq=False)
class Program:
    """Head, encoder and exit for one kind of frame; checked when made (`CompileError`)."""

    input: FrameSpec
    head: tuple[Layer, ...]
    encoder: tuple[Layer, ...]
    exit: tuple[AnyLayer, ...]
    second: tuple[AnyLayer, ...] = ()
    """Another exit, or none; `ecc_model.reference.join` says what both make together."""
    known: int = 0
    """0: the second exit's logits are added. Else the first exit has so many, and decides among these classes."""
    others: tuple[tuple[Layer, ...], ...] = ()
    """Further encoders, each with a code of fewer bytes than the one before it; `encoders` has all of them."""

    def __post_init__(self) -> None:
        spec = self.input
        if not (1 <= spec.steps <= MAX_STEPS and 1 <= spec.channels <= 3):
            raise CompileError(f"a program has 1 to {MAX_STEPS} steps and 1 to 3 channels, not {spec}")
        if not (1 <= spec.height <= 4096 and 1 <= spec.width <= 4096):
            raise CompileError(f"a program's frames have sides of 1 to 4096 pixels, not {spec}")
        split = check_section("head", self.head, self.frame_shape, PIXEL_MAX)
        self._check_encoders(split)
        for name, layers in self.exits.items():
            check_section(name, layers, split, 1)
            if not layers or not isinstance(layers[-1], Terminal):
                raise CompileError("the exit ends with a readout or a probe")
        self._check_classes()
        if not (self.head and all(self.encoders) and len(split) == 4 and all(len(s) == 4 for s in self.code_shapes)):
            raise CompileError("head and encoder end with feature maps")
        if all(isinstance(layer, Pool) for layer in self.head):
            raise CompileError("the head has no layer with neurons: its pixels would not become spikes")

    def _check_encoders(self, split: Shape) -> None:
        if len(self.encoders) > MAX_ENCODERS:
            raise CompileError(f"{len(self.encoders)} encoders; a program has 1 to {MAX_ENCODERS}")
        shapes = [check_section("encoder", self.encoder, split, 1)]
        shapes += [check_section(f"others.{i}", layers, split, 1) for i, layers in enumerate(self.others)]
        sizes = [packed_size(shape) for shape in shapes]
        if any(later >= earlier for earlier, later in itertools.pairwise(sizes)):
            raise CompileError(f"encoders of {sizes} bytes; they stand in order, each smaller than the one before it")

    def _check_classes(self) -> None:
        counts = [len(cast(Terminal, layers[-1]).weight) for layers in self.exits.values()]
        if self.known and (len(counts) == 1 or self.known != counts[0] or self.known >= counts[1]):
            raise CompileError(f"the first exit decides among {self.known} classes, the exits have {counts}")
        if not self.known and len(set(counts)) > 1:
            raise CompileError("the second exit has another number of classes than the first")

    @property
    def steps(self) -> int:
        """Time steps T of each frame."""
        return self.input.steps

    @property
    def classes(self) -> int:
        """Number of logits N."""
        last = self.second[-1] if self.known else self.exit[-1]
        return len(cast(Terminal, last).weight)

    @property
    def readout(self) -> Terminal:
        """The classifier at the end of the exit."""
        return cast(Terminal, self.exit[-1])

    @property
    def exits(self) -> dict[str, tuple[AnyLayer, ...]]:
        """The exit, and the second one if there is one, by the names of their sections."""
        return {"exit": self.exit} | ({"second": self.second} if self.second else {})

    @property
    def encoders(self) -> tuple[tuple[Layer, ...], ...]:
        """All encoders, from the longest code to the shortest."""
        return (self.encoder, *self.others)

    @property
    def frame_shape(self) -> Shape:
        """What the head takes: (T, C, H, W)."""
        spec = self.input
        return (spec.steps, spec.channels, spec.height, spec.width)

    @cached_property
    def split_shape(self) -> Shape:
        """Spikes at the split point: (T, C, H, W)."""
        return section_shape(self.head, self.frame_shape)

    @property
    def code_shape(self) -> Shape:
        """Spikes that travel from the first encoder: (T, C', H', W')."""
        return self.code_shapes[0]

    @cached_property
    def code_shapes(self) -> tuple[Shape, ...]:
        """The same for each of the `encoders`."""
        return tuple(section_shape(layers, self.split_shape) for layers in self.encoders)

    @cached_property
    def format(self) -> int:
        """The oldest format of model files that can hold this program."""
        if self.others:
            return 5
        if self.second:
            return 4 if self.known else 3
        spec, _ = to_records(self)
        return max(records.oldest_format(spec[section]) for section in SECTIONS)

    @property
    def features_id(self) -> str:
        """SHA-256 (hex) of the integer head and first encoder: equal id, equal bits. Learning never changes it."""
        return self.features_ids[0]

    @cached_property
    def features_ids(self) -> tuple[str, ...]:
        """The same for each of the `encoders`: where it stands among them makes no difference."""
        return tuple(self._hash(layers) for layers in self.encoders)

    def _hash(self, encoder: tuple[Layer, ...]) -> str:
        head, tensors = records.describe("head", self.head)
        code, found = records.describe("encoder", encoder)
        tensors |= found
        digest = hashlib.sha256(json.dumps([_frame(self.input), head, code], sort_keys=True).encode())
        for name in sorted(tensors):
            digest.update(f"{name}{tensors[name].shape}".encode() + tensors[name].tobytes())
        return digest.hexdigest()


def to_records(program: Program) -> tuple[dict[str, Any], Tensors]:
    """A JSON-able description and the named tensors ("head.0.weight", ...); inverse of `from_records`."""
    spec: dict[str, Any] = {"input": _frame(program.input)}
    tensors: Tensors = {}
    for section in (*SECTIONS, *(["second"] if program.second else [])):
        spec[section], found = records.describe(section, getattr(program, section))
        tensors |= found
    if program.known:
        spec["known"] = program.known
    if program.others:
        described = [records.describe(f"others.{i}", layers) for i, layers in enumerate(program.others)]
        spec["others"] = [entries for entries, _ in described]
        for _, found in described:
            tensors |= found
    return spec, tensors


def from_records(spec: dict[str, Any], tensors: Tensors) -> Program:
    """Build and check a program. `CompileError` for anything missing, unknown, left over or of the wrong type."""
    remaining = dict(tensors)
    sections: dict[str, tuple[Any, ...]] = {}
    frame = spec.get("input")
    if not (isinstance(frame, list) and len(frame) == 4 and all(type(n) is int for n in frame)):
        raise CompileError("the program's input is not [steps, channels, height, width]")
    for section in (*SECTIONS, *(["second"] if "second" in spec else [])):
        layers = spec.get(section)
        if not isinstance(layers, list):
            raise CompileError(f"the program has no section '{section}'")
        sections[section] = records.build(section, layers, remaining)
    others = spec.get("others", [])
    if not isinstance(others, list) or not all(isinstance(layers, list) for layers in others):
        raise CompileError("the program's other encoders are no lists of layers")
    made = tuple(records.build(f"others.{i}", layers, remaining) for i, layers in enumerate(others))
    if remaining:
        names = ", ".join(repr(name[:60]) for name in sorted(remaining)[:3])
        raise CompileError(f"tensors that no layer uses: {names}")
    known = spec.get("known", 0)
    if type(known) is not int or not 0 <= known < MAX_CLASSES:
        raise CompileError(f"the program's first exit decides among {known!r:.20} classes")
    return Program(FrameSpec(*frame), **sections, known=known, others=cast(tuple[tuple[Layer, ...], ...], made))


def _frame(spec: FrameSpec) -> list[int]:
    return [spec.steps, spec.channels, spec.height, spec.width]
