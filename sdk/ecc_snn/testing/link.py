"""A link that loses, delays, duplicates and reorders, to a cloud in the same process."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from functools import partial

from ecc_broker import topics
from ecc_broker.link import ConnectionListener, Handler, Message, Subscribers, check_outgoing
from ecc_device.linkprofiles import LinkProfile, LinkSchedule, link_profile
from ecc_model.errors import LinkError
from ecc_snn.testing.clock import SchedulingClock
from ecc_snn.testing.cloud import TableCloud

PERFECT = LinkProfile(name="perfect", delay_s=0.0, jitter_s=0.0)


class SimulatedLink:
    """A `Link` of one device to `cloud`, on the time of `clock`; give both to `Edge(link=, clock=)`.

    profile: a `LinkProfile` or the name of one in `PROFILES`; without one the link is perfect. In its outages the link
    is not connected. Messages that take unequally long overtake each other. The same `seed` makes the same run.
    counts: `lost` messages.
    """

    def __init__(
        self,
        cloud: TableCloud,
        clock: SchedulingClock,
        profile: LinkProfile | str = PERFECT,
        *,
        seed: int = 0,
        site: str = "default",
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._cloud, self._clock, self._site = cloud, clock, site
        self._schedule = LinkSchedule(link_profile(profile) if isinstance(profile, str) else profile, seed)
        self._subscribers = Subscribers(self.counts)
        self._listeners: list[ConnectionListener] = []
        self._numbers = itertools.count()
        self._start_s = 0.0
        self._started = self._connected = False

    @property
    def connected(self) -> bool:
        """Whether the link stands now."""
        return self._connected

    @property
    def problem(self) -> str | None:
        """Why it does not; None while it does."""
        return None if self._connected else "the simulated link is down"

    def start(self) -> None:
        """Connect at once; from here on the profile's outages count."""
        if self._started:
            raise LinkError("a link is started once; make a new one")
        self._started, self._start_s = True, self._clock.monotonic()
        self._turn(True)

    def subscribe(self, filter_: str, handler: Handler) -> None:
        """See `Link.subscribe`."""
        self._subscribers.add(filter_, handler)

    def publish(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False, expiry_s: int | None = None
    ) -> bool:
        """See `Link.publish`; False in an outage."""
        check_outgoing(topic, payload, topics.MAX_PAYLOAD_BYTES)
        if not self._connected:
            return False
        self._travel(len(payload), partial(self._at_the_cloud, topic, payload))
        return True

    def on_connection(self, listener: ConnectionListener) -> None:
        """See `Link.on_connection`."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Carry nothing more."""
        self._connected = False
        self._start_s = math.inf  # what is under way arrives nowhere

    def _turn(self, connected: bool) -> None:
        """The link comes or goes, and will go or come again when the profile says so."""
        if self._start_s == math.inf:
            return
        self._connected = connected
        for listener in self._listeners:
            self._subscribers.call(listener, connected, "a connection listener")
        if connected:
            topic, payload = self._cloud.announcement(self._site)
            self._subscribers.dispatch(Message(topic, payload, retained=True))
        profile, now_s = self._schedule.profile, self._clock.monotonic() - self._start_s
        if math.isfinite(profile.outage_every_s):
            outages = math.floor(now_s / profile.outage_every_s + 1e-9)
            down_s = outages * profile.outage_every_s + profile.outage_s
            next_s = (outages + 1) * profile.outage_every_s if connected else down_s
            self._clock.after(next_s - now_s, partial(self._turn, not connected))

    def _travel(self, size: int, arrive: partial[None]) -> None:
        """Let the copies of a message arrive when the profile says so."""
        now_s = self._clock.monotonic() - self._start_s
        arrivals = self._schedule.arrivals(next(self._numbers), now_s, size)
        self.counts["lost"] += not arrivals
        for arrival_s in arrivals:
            self._clock.after(arrival_s - now_s, arrive)

    def _at_the_cloud(self, topic: str, payload: bytes) -> None:
        answer = self._cloud.answer(topic, payload)
        if answer is not None:
            delay_s, reply_topic, reply = answer
            self._clock.after(delay_s, partial(self._reply, reply_topic, reply))

    def _reply(self, topic: str, payload: bytes) -> None:
        if self._connected:
            message = Message(topic, payload, retained=False)
            self._travel(len(payload), partial(self._subscribers.dispatch, message))
