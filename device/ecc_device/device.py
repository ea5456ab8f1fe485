"""One whole device: model, store, runtime, link, learner, watchers and control socket, opened and closed together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import msgspec

from ecc_broker import messages, topics
from ecc_broker.link import Link, Message, Will
from ecc_device.budget import parse_budget
from ecc_device.clock import Clock, SystemClock
from ecc_device.control import ControlServer
from ecc_device.engines import check_engine
from ecc_device.events import Health
from ecc_device.filters import check_filter
from ecc_device.learning.manager import STARTS, UpdateManager
from ecc_device.learning.recipes import CHOICES, DEFAULT, NONE
from ecc_device.learning.shadow import SHADOW_FRAMES
from ecc_device.models import earlier_model, open_active, rollback
from ecc_device.offload import Offload
from ecc_device.power import LinkWatcher, PowerWatcher, Watch, battery_charge
from ecc_device.recent import RecentDecisions
from ecc_device.recordings.recorder import Recorder, check_content
from ecc_device.runtime import Runtime
from ecc_device.store import DEFAULT_MAX_BYTES, Store
from ecc_device.tickets import Asked
from ecc_model.errors import DeviceError, LinkError, WireError
from ecc_model.modelfile import EdgeModel

SENDS = ("features", "frames")
ROLLBACK_PAUSE_S = 60.0
# of `DeviceConfig`: where things are, and what a replay decides anew; the rest stands in a recording's metadata
NOT_REPEATED = frozenset(
    {
        *("model", "state", "broker", "site", "device", "patience_s", "shadow", "engine", "threads", "ca", "insecure"),
        *("record", "record_as"),
    }
)
MAX_DETAIL = 200  # characters of an event's text
NOT_LEARNING = "this device does not learn, its learner is 'none'; start it with another one"


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """How a device runs. Times in seconds, sizes in bytes."""

    model: Path
    state: Path
    broker: str | None = None  # mqtt://host:port or mqtts://user@host:port; None: alone
    site: str = "default"
    device: str = "device"
    deadline_s: float = 0.1
    patience_s: float | None = None  # a replay's: wait for a live worker instead of a deadline
    filter: str = "entropy"
    budget: str | None = None  # of uploads: "5%" of the frames, or "2MB/h"; None: what the threshold says
    send: str = "features"
    encoder: str | None = None  # of the model's, by name; None: what `choosing` says
    learner: str = DEFAULT
    shadow: int = SHADOW_FRAMES  # frames that a learnt model answers silently before it takes over; 0: none
    engine: str | None = None  # None: the fastest one that is installed
    threads: int = 1  # for a frame
    max_bytes: int = DEFAULT_MAX_BYTES
    record: Path | None = None  # out.mcap: a recording, from start to close
    record_as: str = "frames"  # what it keeps of a frame: "frames" (pixels) or "spikes" (no picture)
    ca: Path | None = None
    insecure: bool = False
    seed: int = 0


class Device:
    """Everything between a frame and its result; a context manager.

    `link` replaces the one that `config.broker` names (for tests and for one process with its own broker). `around`
    gives what the status says of the program around the device.
    """

    def __init__(
        self,
        config: DeviceConfig,
        *,
        clock: Clock | None = None,
        link: Link | None = None,
        around: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        if config.send not in SENDS:
            raise DeviceError(f"nothing is sent as '{config.send}'; choose one of: {', '.join(SENDS)}")
        if config.learner not in CHOICES:
            raise DeviceError(f"there is no learner '{config.learner}'; choose one of: {', '.join(CHOICES)}")
        if config.ca is not None and config.broker is None and link is None:
            raise DeviceError("certificates are given and no broker; give a broker, or leave them out")
        if not isinstance(config.shadow, int) or config.shadow < 0:
            raise DeviceError(f"a shadow run of {config.shadow!s:.20} frames; give 0 (none) or more")
        self.clock, self._around = clock or SystemClock(), around
        self.health = Health()
        topics.check_name("site", config.site)
        topics.check_name("device", config.device)
        check_filter(config.filter)
        check_engine(config.engine)
        check_content(config.record_as)
        budget = None if config.budget is None else parse_budget(config.budget)
        self.store = Store.open(config.state, config.max_bytes)
        # absolute: the program around us may change its working directory
        self.config = config = replace(config, state=config.state.absolute())
        try:
            model, no = open_active(config.model, self.store, config.state, self.clock.now())
            check_encoder(config.encoder, model)
            features = bytes.fromhex(model.program.features_id)
            self._offline = messages.Status("offline", features[:4], no - 1, version("ecc-snn"))
            self.link = link if link is not None or config.broker is None else self._mqtt_link(config.broker)
            self.runtime = Runtime(
                model,
                no,
                self.store,
                config.filter,
                self.clock,
                self.health,
                seed=config.seed,
                deadline_s=config.deadline_s,
                patience_s=config.patience_s,
                engine=config.engine,
                threads=config.threads,
                budget=budget,
            )
        except BaseException:
            self.store.close()
            raise
        if self.store.quarantined is not None:
            self.health.say("store", f"the buffer was damaged; it was moved to {self.store.quarantined}")
        self.updates = UpdateManager(
            self.store,
            config.state,
            self.clock,
            self.swap,
            shadow=self.runtime.shadow,
            shadow_frames=config.shadow,
            learner=config.learner,
            seed=config.seed,
        )
        self._learns = config.learner != NONE
        if self._learns:
            self.runtime.on_event(self.updates.handle)
        self.updates.on_decision(self._tell_update)
        self.offload: Offload | None = None
        self._control = ControlServer(config.state, self._handlers())
        self._watch: Watch | None = None
        self._recorder: Recorder | None = None
        self._recent = RecentDecisions()
        self.runtime.on_frame(self._recent.add)
        self.runtime.on_result(self._recent.correct)

    def start(self, *, watch: bool = True, asked: Asked | None = None) -> Device:
        """Connect, listen on the control socket, and (`watch`) follow battery and link; closed again if that fails.

        asked: who is asked instead of a worker behind a link: a replay's recorded answers.
        """
        try:
            self._start(watch, asked)
        except BaseException:
            self.close()
            raise
        return self

    def _start(self, watch: bool, asked: Asked | None) -> None:
        if self.config.record is not None:
            self._recorder = self._record(self.config.record)
        if asked is not None:
            self.runtime.use(asked)
        elif self.link is None:
            self.health.say("offline", "no broker given; working alone")
        else:
            self.offload = Offload(
                self.link,
                self.store,
                self.clock,
                self.health,
                self.runtime.engine,
                self.runtime.model,
                site=self.config.site,
                device=self.config.device,
                send=self.config.send,
                budget=self.runtime.budget,
                encoder=self.config.encoder,
            )
            self.runtime.use(self.offload)
            self.link.subscribe(self._topic("command"), self._on_command)
            self.link.on_connection(self._on_connection)
        self.health.on_event(lambda cause, detail: self._publish_event("health", f"{cause}: {detail}"))
        if asked is None and self._learns:  # a recording says itself which model answers
            self.updates.open()
        self._control.start()
        watcher = self._watchers() if watch else None
        if self.link is not None:
            self.link.start()
        if watcher is not None:
            self._watch = watcher
            watcher.start()

    def stop(self) -> None:
        """Wake a frame that waits for the cloud: its edge answer stands. From any thread; `close` does the rest."""
        if self.offload is not None:
            self.offload.close()

    def close(self) -> None:
        """Stop the learner, say goodbye to the broker, close the store; closing twice is fine."""
        if self._watch is not None:
            self._watch.close()
        self.updates.stop("the device stops")  # first, so that whoever waits for its end hears of it
        self._control.close()
        self.updates.close()
        self.stop()
        if self.link is not None:
            self._publish_status("offline")
            self.link.close()
        if self._recorder is not None:
            self._recorder.close()
        with contextlib.suppress(OSError):  # on a full disk why is the least of it
            self._recent.write(self.config.state)
        self.store.close()

    def __enter__(self) -> Device:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def rollback(self) -> tuple[EdgeModel, int]:
        """Go back to the model before the active one, and answer with it from the next frame on."""
        earlier_model(self.store, self.config.state)  # a rollback that is refused stops nothing
        self.updates.stop("rollback")
        self.updates.wait(ROLLBACK_PAUSE_S)
        self.updates.drop_shadow()
        model, no = rollback(self.store, self.config.state)
        self.swap(model, no)
        return model, no

    def status(self) -> dict[str, Any]:
        """What `ecc-device status` shows of a running device."""
        link = self.link
        of_device = {
            "device": self.config.device,
            "site": self.config.site,
            "broker": self.config.broker,
            "connected": link is not None and link.connected,
            "link": {} if link is None else dict(link.counts),
            "worker": self.offload is not None and self.offload.obstacle is None,
            "update": self.updates.status(),
            "counts": self.store.counts(),
            "drops": self.store.drops(),
        }
        return self.runtime.status() | of_device | self._around()

    def _handlers(self) -> Mapping[str, Any]:
        return {
            "status": lambda _: self.status(),
            "notify": lambda request: self._notify(str(request.get("event"))),
            "wait-update": lambda _: self._decision(),
            "rollback": lambda _: {"model_no": self.rollback()[1]},
            "why": lambda request: self._recent.facts(request.get("frame")),
        }

    def _notify(self, event: str) -> str | None:
        """Tell everything in the device; the answer is why nothing is learnt then, if so."""
        self.runtime.notify(event)
        return NOT_LEARNING if event in STARTS and not self._learns else None

    def _decision(self) -> dict[str, Any]:
        if not self._learns:
            raise DeviceError(NOT_LEARNING)
        decision = self.updates.wait()
        if decision is None:
            raise DeviceError("no update was made since the device started; start one with: ecc-device notify charging")
        return decision.to_dict()

    def swap(self, model: EdgeModel, no: int) -> None:
        """Answer with another model from the next frame on."""
        if self._recorder is not None:
            self._recorder.model(model, no)
        self.runtime.swap(model, no)
        self._publish_status("online")

    def _record(self, path: Path) -> Recorder:
        options = {name: value for name, value in vars(self.config).items() if name not in NOT_REPEATED}
        about = {
            "software": version("ecc-snn"),
            "device": self.config.device,
            "site": self.config.site,
            "options": msgspec.json.encode(options).decode(),
        }
        failed = partial(self.health.say, "record")
        recorder = Recorder(path, self.config.record_as, self.clock, self.store, about, failed)
        recorder.model(self.runtime.model, self.runtime.model_no)
        self.runtime.on_frame(recorder.frame)
        self.runtime.on_result(recorder.correction)
        self.runtime.on_event(partial(recorder.event, "robot"))
        self.health.on_event(lambda cause, detail: recorder.event("health", f"{cause}: {detail}"))
        self.updates.on_decision(recorder.update)
        if self.link is not None:
            self.link.on_connection(lambda up: recorder.event("link", "up" if up else "down"))
        return recorder

    def _watchers(self) -> Watch:
        checks = [PowerWatcher(self.runtime.notify).check]
        if self.link is not None and self.offload is not None:
            watcher = LinkWatcher(self.runtime.notify, self.clock)
            self.link.on_connection(watcher.connection)
            checks += [watcher.tick, self._read_battery, self.offload.drain]
        return Watch(checks)

    def _read_battery(self) -> None:
        if self.offload is not None:
            self.offload.battery = battery_charge()

    def _on_connection(self, connected: bool) -> None:
        if connected:
            self._publish_status("online")

    def _on_command(self, message: Message) -> None:
        if message.retained:  # what an operator said long ago does not happen now
            return
        try:
            command = messages.decode(messages.Command, message.payload)
        except WireError as error:
            self.health.say("command", f"{error}; check who publishes on {message.topic}")
        else:
            self.runtime.notify(command.event)

    def _topic(self, name: str) -> str:
        return topics.topic(name, self.config.site, self.config.device)

    def _mqtt_link(self, broker: str) -> Link:
        from ecc_broker.mqtt import MqttLink  # paho only where there is a broker

        config = self.config
        will = Will(self._topic("status"), messages.encode(self._offline))
        return MqttLink(broker, config.device, will=will, insecure=config.insecure, ca_file=config.ca)

    def _publish_status(self, state: Literal["online", "offline"]) -> None:
        if self.link is not None and self.link.connected:
            status = msgspec.structs.replace(self._offline, state=state, model_no=self.runtime.model_no - 1)
            self.link.publish(self._topic("status"), messages.encode(status), retain=True)

    def _publish_event(self, kind: str, detail: str) -> None:
        if self.link is not None and self.link.connected:
            line = "".join(c if c.isprintable() else " " for c in detail)[:MAX_DETAIL]
            event = messages.Event(kind, self.clock.now(), line)
            with contextlib.suppress(LinkError):  # a broker that takes nothing of this size: no reason to stop a frame
                self.link.publish(
                    self._topic("event"), messages.encode(event), expiry_s=topics.BY_NAME["event"].expiry_s
                )

    def _tell_update(self, accepted: bool, reason: str) -> None:
        self._publish_event("update", f"{'accepted' if accepted else 'not made'}: {reason}")


def check_encoder(name: str | None, model: EdgeModel) -> None:
    """`DeviceError` if the model has no encoder of this name; None is the device's own choice."""
    if name is not None and name not in model.encoders:
        known = ", ".join(model.encoders)
        raise DeviceError(f"{model.path}: has no encoder '{name:.20}'; choose one of: {known}")
