"""Where a learner was when it was stopped, so that it goes on from there to the same bits."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from ecc_model import safetensors
from ecc_model.errors import ModelError

EVERY_S = 5.0  # of learning that a killed process may have to repeat
STOPPED = 3  # exit code of a learner that was told to stop
Arrays = Mapping[str, NDArray[Any]]


class Checkpoint:
    """One file of named arrays: a SHA-256, then the arrays; whole or not there, and never a reason to fail.

    path: None keeps nothing. A power cut may cost it, not the bits: what is damaged is as good as not there.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._saved_s = time.monotonic()
        self._stepping = self._stopping = False

    @contextlib.contextmanager
    def steps(self) -> Iterator[None]:
        """While the block runs, `stop` waits for the end of a step."""
        self._stepping = True
        try:
            yield
        finally:
            self._stepping = False
        self._end_if_stopping()

    def stop(self, *_: object) -> None:
        """Save at the end of the step under way and end this process, or end it now; a handler of signals."""
        self._stopping = True
        if not self._stepping:
            self._end_if_stopping()

    def due(self) -> bool:
        """Whether the step that has just ended should be saved."""
        late = time.monotonic() - self._saved_s >= EVERY_S
        return self._path is not None and (self._stopping or late)

    def save(self, arrays: Arrays) -> None:
        """Keep the state between two steps; on a full disk the earlier one stays."""
        if self._path is not None:
            data = safetensors.dump(arrays)
            partial = self._path.with_name(self._path.name + ".partial")
            with contextlib.suppress(OSError):
                partial.write_bytes(hashlib.sha256(data).digest() + data)
                partial.replace(self._path)
            self._saved_s = time.monotonic()
        self._end_if_stopping()

    def load(self) -> dict[str, NDArray[Any]] | None:
        """What was saved last; None for nothing, or nothing whole."""
        if self._path is None:
            return None
        try:
            saved = self._path.read_bytes()
            digest, data = saved[:32], saved[32:]
            return safetensors.load(data) if hashlib.sha256(data).digest() == digest else None
        except (OSError, ModelError):
            return None

    def _end_if_stopping(self) -> None:
        if self._stopping:
            raise SystemExit(STOPPED)
