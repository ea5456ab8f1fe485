"""The tflite engine: the program's bits by LiteRT, or by tflite-runtime, its older and smaller form."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_device.engines.base import Run, Whole, WholeHead
from ecc_device.engines.exits import Exits
from ecc_device.engines.tflite_graph import section_file
from ecc_model.bits import Spikes
from ecc_model.errors import MissingEngine, MissingPackage
from ecc_model.frames import Pixels, fit
from ecc_model.layers import Layer, Readout, Shape
from ecc_model.optional import require
from ecc_model.program import Program

# module that has an `Interpreter` -> whether its int8 products are fast
RUNTIMES = {"ai_edge_litert.interpreter": True, "tflite_runtime.interpreter": False}


class TfliteEngine(WholeHead):
    """Graphs of exact integers in float32, made when they are first needed. `MissingEngine`, `DeviceError`."""

    name = "tflite"

    def __init__(self, program: Program, threads: int = 1) -> None:
        self.program = program
        interpreter, hybrid = _runtime()

        def section(layers: Sequence[Layer], shape: Shape, *, pixels: bool = False, still: bool = False) -> _Section:
            file = section_file(layers, shape, pixels=pixels, still=still, hybrid=hybrid)
            return _Section(interpreter(model_content=file, num_threads=threads))

        self._still = section(program.head, program.frame_shape, pixels=True, still=True)
        self._moving: _Section | None = None  # frames of T images are rare
        self._make_moving = functools.partial(section, program.head, program.frame_shape, pixels=True)
        self._encoders = [section(layers, program.split_shape) for layers in program.encoders]
        self._make = section
        self._exits = Exits(program, self.segment)

    def _whole(self, frame: Pixels) -> Spikes:
        pixels = fit(frame, self.program.input)
        if pixels.ndim == 3:
            return _spikes(self._still.run(pixels[None]))
        if self._moving is None:
            self._moving = self._make_moving()
        return _spikes(self._moving.run(pixels))

    def encode(self, split: Spikes, encoder: int = 0) -> Spikes:
        """See `Engine.encode`."""
        return _spikes(self._encoders[encoder].run(np.moveaxis(split, 1, 3)))

    def exit(self, split: Spikes, start: int = 0) -> NDArray[np.float32]:
        """See `Engine.exit`."""
        return self._exits.logits(split, start)

    def segment(self, layers: Sequence[Layer], shape: Shape) -> Run:
        """See `Engine.segment`."""
        section = functools.cache(lambda steps: self._make(layers, (steps, *shape[1:])))
        section(shape[0])  # fewer steps are a graph of their own, made when they are first run
        if isinstance(layers[-1], Readout):
            return Whole(lambda spikes: section(len(spikes)).run(np.moveaxis(spikes, 1, 3)).astype(np.int64))
        return Whole(lambda spikes: _spikes(section(len(spikes)).run(np.moveaxis(spikes, 1, 3))))


class _Section:
    """A graph and its memory; one call at a time."""

    def __init__(self, interpreter: Any) -> None:
        self._lock = threading.Lock()
        self._interpreter = interpreter
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def run(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """(T, H, W, C) numbers -> what the section emits."""
        with self._lock:
            self._interpreter.set_tensor(self._input, np.ascontiguousarray(values, np.float32))
            self._interpreter.invoke()
            out: NDArray[np.float32] = self._interpreter.get_tensor(self._output)
            return out


def _spikes(values: NDArray[np.float32]) -> Spikes:
    """(T, H, W, C) as 0 and 1 -> (T, C, H, W); (T, N) stays so."""
    maps = np.moveaxis(values, 3, 1) if values.ndim == 4 else values
    return np.ascontiguousarray(maps).astype(np.bool_)


def _runtime() -> tuple[Callable[..., Any], bool]:
    missing: MissingPackage | None = None
    for module, hybrid in RUNTIMES.items():
        try:
            for needed in ("tflite", "flatbuffers"):  # what writes the file
                require(needed, "the engine 'tflite'")
            return require(module, "the engine 'tflite'").Interpreter, hybrid
        except MissingPackage as exc:
            missing = exc
    raise MissingEngine("tflite", "LiteRT", "pip install 'ecc-snn[tflite]'") from missing
