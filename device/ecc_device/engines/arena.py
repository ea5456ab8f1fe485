"""The C library's event engine from Python: a list of layers, laid out once in one block of memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import DeviceError, MissingEngine
from ecc_model.layers import AveragePool, Conv, Currents, Layer, MaxPool, Readout, Residual, Shape, layer_shape
from ecc_model.native import library

ISA = "ECC_NATIVE_ISA"  # environment: run another build of the kernel than the processor's best
ISAS = {"baseline": 1, "avx2": 2, "avxvnni": 3, "avx512": 4, "avx512vnni": 5}

# native/events.h says what these are
_CONV, _RESIDUAL, _MAX_POOL, _AVERAGE_POOL, _READOUT = range(1, 6)
_INPUT = -1


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("op", "input", "outputs", "kernel_height", "kernel_width")),
        *((name, ctypes.c_int32) for name in ("stride", "padding", "leak")),
        *((name, ctypes.c_int32) for name in ("shortcut", "shortcut_kernel", "shortcut_stride", "shortcut_padding")),
        ("shift", ctypes.c_int32),
        *((name, ctypes.c_uint64) for name in ("weight", "bias", "theta", "shortcut_weight", "gain", "shortcut_gain")),
    ]


class _Program(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.c_void_p),
        ("blob", ctypes.c_void_p),
        ("blob_bytes", ctypes.c_size_t),
        ("layer_count", ctypes.c_int32),
        ("pixels", ctypes.c_int32),
        ("shape", ctypes.c_int32 * 4),
        ("isa", ctypes.c_int32),
        ("threads", ctypes.c_int32),
    ]


def chosen_isa() -> str:
    """The instruction set that kernels run with: the processor's best, or what $ECC_NATIVE_ISA names.

    `MissingEngine` without the C library, `DeviceError` for one that is unknown or that the processor has not got.
    """
    wanted = os.environ.get(ISA, "")
    if wanted and wanted not in ISAS:
        raise DeviceError(f"{ISA}={wanted:.20}: no such instruction set; choose one of: {', '.join(ISAS)}")
    found = ctypes.c_int()
    if require_library().ecc_events_isa(ISAS.get(wanted, 0), ctypes.byref(found)) < 0:
        raise DeviceError(f"{ISA}={wanted}: this processor has not got it; leave the variable away")
    return {number: name for name, number in ISAS.items()}[found.value]


class Arena:
    """Layers in the memory of the C library; membranes stay in it from call to call. Any thread may run it.

    shape: (T, C, H, W) of the input, which is a frame (`pixels`) or spikes; threads share the rows of each map.
    `MissingEngine`, `DeviceError`.
    """

    def __init__(self, layers: Sequence[Layer], shape: Shape, *, pixels: bool, threads: int = 1) -> None:
        self._lock = threading.Lock()
        described, blob, self._out, self._layers = _describe(layers, shape)
        self._readout = isinstance(layers[-1], Readout)
        self._steps, self._in = shape[0], shape[1:]
        program = _Program(
            layers=ctypes.addressof(described),
            blob=ctypes.addressof((ctypes.c_char * len(blob)).from_buffer(blob)),
            blob_bytes=len(blob),
            layer_count=len(described),
            pixels=pixels,
            shape=(ctypes.c_int32 * 4)(*shape),
            isa=ISAS[chosen_isa()],
            threads=threads,
        )
        size = ctypes.c_size_t()
        self._check(require_library().ecc_events_measure(ctypes.byref(program), ctypes.byref(size)))
        self._size = size.value
        try:
            # private, so that a forked process has its own membranes; pages that are never touched cost nothing
            memory = mmap.mmap(-1, self._size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as exc:
            raise DeviceError(f"no memory for the event engine ({self._size >> 20} MiB); take a smaller model") from exc
        self._memory = (ctypes.c_char * self._size).from_buffer(memory)
        self._address = ctypes.addressof(self._memory)
        self._check(require_library().ecc_events_load(ctypes.byref(program), self._address, self._size))

    def run(self, values: NDArray[Any], start: int = 0, count: int | None = None) -> NDArray[Any]:
        """`count` steps (default: all the rest) from step `start` on; step 0 starts from rest.

        values: a frame uint8 (H, W, C) or (T, H, W, C), or the spikes of just these steps, bool (count, C, H, W).
        Returns spikes, bool (count, ...), or of a readout its sums over these steps, int32 (N,).
        """
        return self._call(require_library().ecc_events_run, values, start, count)

    def profile(self, values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.uint64]]:
        """What `run` returns for all steps, and the nanoseconds of each layer, a residual's as one."""
        spent = np.zeros(len(self._layers), np.uint64)
        out = self._call(require_library().ecc_events_profile, values, 0, None, spent.ctypes.data, len(spent))
        return out, np.bincount(self._layers, spent).astype(np.uint64)

    def _call(self, function: Any, values: NDArray[Any], start: int, count: int | None, *more: int) -> NDArray[Any]:
        steps = self._steps - start if count is None else count
        if not 0 <= start < start + steps <= self._steps:
            raise self._unfit(values, start, steps)
        out: NDArray[Any]
        out = np.empty(self._out, np.int32) if self._readout else np.empty((steps, *self._out[1:]), np.bool_)
        to = ctypes.byref(ctypes.c_char.from_buffer(out.data))  # this and the copy below: sooner made than `out.ctypes`
        with self._lock:
            error = function(
                self._address, self._size, values.tobytes(), values.nbytes, start, steps, to, out.nbytes, *more
            )
        if error < 0:
            raise self._unfit(values, start, steps)
        return out

    def _unfit(self, values: NDArray[Any], start: int, steps: int) -> DeviceError:
        return DeviceError(
            f"the event engine takes spikes of {(steps, *self._in)} or a frame of that size, not {values.shape}; "
            f"steps {start} to {start + steps} of {self._steps}"
        )

    def _check(self, error: int) -> None:
        if error < 0:
            raise DeviceError("this program is too large for the event engine; choose another one with --engine numpy")


def require_library() -> ctypes.CDLL:
    """The C library; `MissingEngine` where it was not built."""
    found = library()
    if found is None:
        command = "pip install --force-reinstall --no-deps . (in the checkout, with a C compiler)"
        raise MissingEngine("event", "ecc-snn's C library", command)
    return found


def _describe(layers: Sequence[Layer], shape: Shape) -> tuple[ctypes.Array[_Layer], bytearray, Shape, list[int]]:
    """The layers as the C library wants them, their tensors, the shape behind them, and whose part each of them is."""
    rows: list[_Layer] = []
    parts: list[int] = []
    blob = bytearray()

    def put(tensor: NDArray[Any]) -> int:
        blob.extend(np.ascontiguousarray(tensor).tobytes())
        return len(blob) - tensor.nbytes

    def add(op: int, before: int, layer: Layer | Currents, **numbers: int) -> int:
        row = _Layer(op=op, input=before, shortcut=_INPUT, stride=1, shortcut_stride=1, **numbers)
        for name in ("weight", "bias", "theta"):
            if hasattr(layer, name):
                setattr(row, name, put(getattr(layer, name)))
        for name in ("stride", "padding", "leak"):
            if hasattr(layer, name):
                setattr(row, name, getattr(layer, name))
        rows.append(row)
        return len(rows) - 1

    def convolution(op: int, before: int, layer: Conv | Currents) -> int:
        outputs, _, kernel, _ = layer.weight.shape
        return add(op, before, layer, outputs=outputs, kernel_height=kernel, kernel_width=kernel)

    previous = _INPUT
    for index, layer in enumerate(layers):
        if isinstance(layer, MaxPool | AveragePool):
            op = _MAX_POOL if isinstance(layer, MaxPool) else _AVERAGE_POOL
            previous = add(op, previous, layer)
            rows[previous].stride = layer.size
        elif isinstance(layer, Conv):
            previous = convolution(_CONV, previous, layer)
        elif isinstance(layer, Residual):
            previous = _add_residual(layer, previous, convolution, put, rows)
        else:  # fully connected: a convolution whose kernel covers the map
            op = _READOUT if isinstance(layer, Readout) else _CONV
            height, width = shape[2:] if len(shape) == 4 else (1, 1)
            previous = add(op, previous, layer, outputs=len(layer.weight), kernel_height=height, kernel_width=width)
        parts += [index] * (len(rows) - len(parts))
        shape = layer_shape(str(index), layer, shape)
    return (_Layer * len(rows))(*rows), blob, shape, parts


def _add_residual(layer: Residual, before: int, convolution: Any, put: Any, rows: list[_Layer]) -> int:
    inside = before
    for conv in layer.branch:
        inside = convolution(_CONV, inside, conv)
    last: int = convolution(_RESIDUAL, inside, layer.last)
    row = rows[last]
    row.shortcut, row.shift, row.leak = before, layer.shift, layer.leak
    row.bias, row.theta = put(layer.bias), put(layer.theta)
    row.gain, row.shortcut_gain = put(layer.gain[0]), put(layer.gain[1])
    if layer.shortcut is not None:
        row.shortcut_kernel = layer.shortcut.weight.shape[2]
        row.shortcut_stride, row.shortcut_padding = layer.shortcut.stride, layer.shortcut.padding
        row.shortcut_weight = put(layer.shortcut.weight)
    return last
