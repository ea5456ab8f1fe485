"""Two clients with one id throw each other out for ever, and most brokers do not say why. A link that notices keeps
away for a while.

Each link leaves a retained claim, eight bytes of its own, on `ecc/1/clients/<client id>` and reads it when it
connects again. Another claim in that place, where its own was before, says that another client used the id in
between. (amqtt throws nobody out: it leaves the first client connected, and deaf. Nothing can tell that one.)
"""

from __future__ import annotations

import os
from collections import deque

from ecc_broker.link import Message
from ecc_broker.topics import check_topic, claim_topic

LIMIT = 3  # take-overs ...
WITHIN_S = 60.0  # ... in this time
PAUSE_S = 60.0  # and the link keeps away for this long


class TakeoverGuard:
    """Counts how often a link lost its connection to another client with its id. `topic` is where claims are left."""

    def __init__(self, client_id: str) -> None:
        self.topic = claim_topic(client_id)
        check_topic(self.topic)
        self.claim = os.urandom(8)
        self._client_id = client_id
        self._claimed = False
        self._times: deque[float] = deque(maxlen=LIMIT)

    def heard(self, message: Message, now: float) -> str | None:
        """Note what was on `topic` at `now` (monotonic seconds). The problem in words once it is time to pause."""
        if message.payload == self.claim:
            self._claimed = True
        # without a claim of our own before it, a retained one is from an earlier life of this client
        elif message.payload and message.retained and self._claimed:
            return self.record(now)
        return None

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
