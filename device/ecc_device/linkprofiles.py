"""What links of robots are like, as numbers: delay, loss, duplicates, outages, over the time of a recording.

| name      | what it is like                           | one way, at least + mean | lost | twice | gone              |
|-----------|-------------------------------------------|--------------------------|------|-------|-------------------|
| wifi-drop | good Wi-Fi that roams between two cells   | 2 ms + 3 ms              | 0 %  | 0 %   | 4 s every 30 s    |
| lte-m     | LTE-M at a cell's edge, 375 kbit/s        | 60 ms + 60 ms            | 1 %  | 0 %   | never             |
| tunnel    | LTE, and a tunnel on the way              | 25 ms + 10 ms            | 0 %  | 0 %   | 20 s every 60 s   |
| lossy     | a crowded radio channel                   | 5 ms + 20 ms             | 20 % | 5 %   | never             |

The numbers are assumptions in the range of what such links do, not measurements. Nothing here sends anything: a
schedule says when a message would arrive, the same for the same seed on every machine.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from ecc_model import numerics
from ecc_model.errors import DeviceError

MAX_JITTERS = 8.0  # times its mean: what an exponential would exceed once in 3000 messages


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkProfile:
    """One kind of link, the same in both directions. Times in seconds, shares from 0 to 1."""

    name: str
    delay_s: float  # one way, at least
    jitter_s: float  # mean of what comes on top, exponential
    loss: float = 0.0  # share of messages that never arrive
    duplicate: float = 0.0  # share of messages that arrive twice
    bytes_per_s: float = math.inf
    outage_every_s: float = math.inf  # from one outage's start to the next; the first one starts after as long
    outage_s: float = 0.0


PROFILES = {
    profile.name: profile
    for profile in (
        LinkProfile(name="wifi-drop", delay_s=0.002, jitter_s=0.003, outage_every_s=30.0, outage_s=4.0),
        LinkProfile(name="lte-m", delay_s=0.060, jitter_s=0.060, loss=0.01, bytes_per_s=375_000 / 8),
        LinkProfile(name="tunnel", delay_s=0.025, jitter_s=0.010, outage_every_s=60.0, outage_s=20.0),
        LinkProfile(name="lossy", delay_s=0.005, jitter_s=0.020, loss=0.20, duplicate=0.05),
    )
}


def link_profile(name: str) -> LinkProfile:
    """The profile of that name; `DeviceError` for one that is not in `PROFILES`."""
    if name not in PROFILES:
        raise DeviceError(f"there is no link profile '{name:.20}'; choose one of: {', '.join(PROFILES)}")
    return PROFILES[name]


class LinkSchedule:
    """When messages arrive: a function of profile, seed and arguments alone, so any thread may ask in any order.

    Times count from the start of the link.
    """

    def __init__(self, profile: LinkProfile, seed: int = 0) -> None:
        self.profile, self._seed = profile, seed

    def up(self, time_s: float) -> bool:
        """Whether the link stands at `time_s`."""
        return self.back_at(time_s) == time_s

    def back_at(self, time_s: float) -> float:
        """The first moment from `time_s` on at which the link stands."""
        every_s = self.profile.outage_every_s
        if time_s < every_s:
            return time_s
        return max(time_s, math.floor(time_s / every_s) * every_s + self.profile.outage_s)

    def arrivals(self, number: int, time_s: float, size: int) -> tuple[float, ...]:
        """When the copies of message `number` arrive, sent at `time_s` with `size` bytes: earliest first, () if lost.

        The number decides its fate. What is sent or would arrive in an outage is lost.
        """
        loss, duplicate, first, second = self._dice(number)
        if not self.up(time_s) or loss < self.profile.loss:
            return ()
        chances = (first, second) if duplicate < self.profile.duplicate else (first,)
        sent_s = time_s + self.profile.delay_s + size / self.profile.bytes_per_s
        arriving = sorted(sent_s + self._jitter_s(chance) for chance in chances)
        return tuple(arrival for arrival in arriving if self.up(arrival))

    def _jitter_s(self, chance: float) -> float:
        return self.profile.jitter_s * min(MAX_JITTERS, -numerics.log(1.0 - chance))

    def _dice(self, number: int) -> tuple[float, ...]:
        """Four uniform numbers in [0, 1), each from 32 bits of a hash."""
        digest = hashlib.sha256(f"{self._seed}:{number}".encode()).digest()
        return tuple(math.ldexp(int.from_bytes(digest[4 * k : 4 * k + 4], "big"), -32) for k in range(4))
