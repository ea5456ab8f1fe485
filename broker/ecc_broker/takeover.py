"""Two clients with one id throw each other out for ever; a link that notices stops taking part."""

from __future__ import annotations

import socket
from collections import deque

from ecc_broker.address import Address

LIMIT = 3  # take-overs ...
WITHIN_S = 60.0  # ... in this time
PAUSE_S = 60.0  # and the link keeps away for this long
PROBE_TIMEOUT_S = 1.0


class TakeoverGuard:
    """Counts how often a link lost its connection to another client with its id."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._times: deque[float] = deque(maxlen=LIMIT)

    def record(self, now: float) -> str | None:
        """Note a take-over at `now` (monotonic seconds). The problem in words once it is time to pause."""
        self._times.append(now)
        if len(self._times) < LIMIT or now - self._times[0] > WITHIN_S:
            return None
        self._times.clear()
        return (
            f"another client with the id {self._client_id!r} took over the connection {LIMIT} times within a minute; "
            f"give each device its own name (next try in {PAUSE_S:.0f} s)"
        )


def still_accepts(address: Address) -> bool:
    """Whether a broker that just hung up still listens: then it did not die, but has seen our id again.

    For MQTT 3.1.1, which tells no reason; on MQTT 5 the broker says "session taken over".
    """
    try:
        socket.create_connection((address.host, address.port), timeout=PROBE_TIMEOUT_S).close()
    except OSError:
        return False
    return True
