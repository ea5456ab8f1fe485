"""The optional C library: found, checked and loaded in one place.

`library()` is None where the package was installed without a compiler; each caller then takes its twin in Python or
numpy, which gives the same bits. The functions are plain C (`native/*.h` says what they do); ctypes releases the GIL
while one runs.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
from pathlib import Path
from typing import Any

ABI = 1
SWITCH = "ECC_NATIVE"  # environment: 0 leaves the library out
FILE = Path(__file__).with_name("_native.abi3.so")

_log = logging.getLogger("ecc_model")

# name -> arguments; all return 0 or a negative error number
_POINTER, _SIZE, _UINT32 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32
_RUN = (_POINTER, _SIZE, ctypes.c_char_p, _SIZE, ctypes.c_int, ctypes.c_int, _POINTER, _SIZE)
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "ecc_native_abi": (),
    "ecc_range_encode": (_POINTER, _POINTER, _POINTER, _SIZE, _POINTER),
    "ecc_range_decode": (_POINTER, _POINTER, ctypes.c_char_p, _SIZE),
    "ecc_events_isa": (ctypes.c_int, _POINTER),
    "ecc_events_measure": (_POINTER, _POINTER),
    "ecc_events_load": (_POINTER, _POINTER, _SIZE),
    "ecc_events_run": _RUN,
    "ecc_events_profile": (*_RUN, _POINTER, _SIZE),
    "ecc_events_limit": (ctypes.c_int, _POINTER, _SIZE, _UINT32, _POINTER, _SIZE, _UINT32, _UINT32, _POINTER),
}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The C library, its functions declared; None if it is not installed, switched off, or of another version."""
    if os.environ.get(SWITCH) == "0":
        return None
    return load(FILE)


def load(file: Path) -> ctypes.CDLL | None:
    """The library in `file`; None, and a warning, if there is one that cannot be used."""
    if not file.exists():
        return None
    try:
        found = ctypes.CDLL(str(file))
        abi = found.ecc_native_abi()
        if abi != ABI:
            raise OSError(f"its interface has number {abi}, this version needs {ABI}")
        for name, arguments in _PROTOTYPES.items():
            function = getattr(found, name)
            function.argtypes, function.restype = arguments, ctypes.c_int
    except (OSError, AttributeError) as exc:
        _log.warning("%s is left out, all works more slowly (%s); install ecc-snn again", file.name, exc)
        return None
    return found
