"""Leading time steps of codes whose rest may come: a worker's short memory between two messages."""

from __future__ import annotations

from collections import OrderedDict

from ecc_cloud.requests import Request
from ecc_model.bits import Spikes

MAX_CODES = 4096
MAX_BYTES = 16 << 20


class StartedCodes:
    """The leading steps that were last asked to go on, at most `MAX_CODES` and `MAX_BYTES`; for one thread.

    A code stays when its rest has come: the rest may come twice. One that has gone costs its device a whole message.
    """

    def __init__(self, max_codes: int = MAX_CODES, max_bytes: int = MAX_BYTES) -> None:
        self._max_codes, self._max_bytes = max_codes, max_bytes
        self._codes: OrderedDict[tuple[str, int, bytes], Spikes] = OrderedDict()
        self._bytes = 0

    def keep(self, request: Request, leading: Spikes) -> None:
        """The leading steps (t, C, H, W) of a request."""
        self._forget(_key(request))
        self._codes[_key(request)] = leading
        self._bytes += leading.nbytes
        while len(self._codes) > self._max_codes or self._bytes > self._max_bytes:
            self._forget(next(iter(self._codes)))

    def find(self, request: Request) -> Spikes | None:
        """The steps in front of a request's, None when they are not here."""
        found = self._codes.get(_key(request))
        return found if found is not None and len(found) == request.known else None

    def _forget(self, key: tuple[str, int, bytes]) -> None:
        gone = self._codes.pop(key, None)
        self._bytes -= 0 if gone is None else gone.nbytes


def _key(request: Request) -> tuple[str, int, bytes]:
    return request.reply_topic, request.id, request.features_id
