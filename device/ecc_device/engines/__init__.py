"""The engines that run the integer program; all of them emit the same bits."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

from ecc_device.engines.base import Engine
from ecc_device.engines.event import EventEngine
from ecc_device.engines.numpy import NumpyEngine
from ecc_device.engines.reference import ReferenceEngine
from ecc_device.engines.tflite import TfliteEngine
from ecc_device.engines.torch import TorchEngine
from ecc_model.errors import DeviceError, MissingEngine
from ecc_model.program import Program

__all__ = [
    "DEFAULT",
    "ENGINES",
    "MAX_THREADS",
    "Engine",
    "EventEngine",
    "NumpyEngine",
    "ReferenceEngine",
    "TfliteEngine",
    "TorchEngine",
    "check_engine",
    "make_engine",
]

ENGINES: dict[str, Callable[[Program, int], Engine]] = {  # int: threads
    "event": EventEngine,
    "numpy": lambda program, threads: NumpyEngine(program),
    "reference": lambda program, threads: ReferenceEngine(program),
    "tflite": TfliteEngine,
    "torch": lambda program, threads: TorchEngine(program),
}
THREADED = ("event", "tflite")  # the others go by their libraries' own settings
MAX_THREADS = 64
DEFAULT, FALLBACK = "event", "numpy"

_log = logging.getLogger("ecc_device")


def check_engine(name: str | None) -> None:
    """`DeviceError` if there is no engine of this name; None is the default."""
    if name is not None and name not in ENGINES:
        raise DeviceError(f"there is no engine '{name:.20}'; choose one of: {', '.join(ENGINES)}")


def make_engine(name: str | None, program: Program, threads: int = 1) -> Engine:
    """The engine `name` for a program, or (None) the fastest one here: `event`, and `numpy` where that is missing.

    threads: how many `event` and `tflite` use for a frame, 1 to 64; the others go by their libraries' own settings.
    `DeviceError` for a name or a number that is none, and for threads of an engine that cannot be told how many;
    `MissingEngine` for an engine that is not installed.
    """
    check_engine(name)
    if not 1 <= threads <= MAX_THREADS:
        raise DeviceError(f"an engine has 1 to {MAX_THREADS} threads, not {threads}")
    if threads > 1 and name is not None and name not in THREADED:
        raise DeviceError(
            f"the engine '{name}' has as many threads as its library takes; leave out the number, or choose one of: "
            + ", ".join(THREADED)
        )
    try:
        return ENGINES[name or DEFAULT](program, threads)
    except MissingEngine as error:
        if name is not None:
            raise
        _warn_once(str(error))
        return ENGINES[FALLBACK](program, threads)


@functools.cache
def _warn_once(problem: str) -> None:
    _log.warning("%s; until then the engine '%s' runs, which is several times slower", problem, FALLBACK)
