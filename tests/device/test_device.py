"""A whole device: opened and closed together, whatever fails; what it tells its site, what it is told."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecc_broker.link import Message
from ecc_broker.memory import MemoryBroker, MemoryLink
from ecc_broker.messages import Command, Event, Status, WireMessage, decode, encode
from ecc_device import control
from ecc_device.device import Device, DeviceConfig
from ecc_device.models import add_model, install
from ecc_device.store import Store
from ecc_model.errors import DeviceError, EccError, LinkError, ModelNotFound, StoreLocked
from ecc_model.modelfile import GuardSet, read_edge
from ecc_model.nets.checkpoint import load_edge, save_edge
from ecc_model.nets.neuron import Lif
from support.models import TinyModels, write_tiny_models
from support.rows import fill_answered
from support.workers import PATIENCE_S, World, frames

FRAME = frames(1)[0]


@pytest.fixture
def config(models: TinyModels, tmp_path: Path) -> DeviceConfig:
    return DeviceConfig(model=models.edge, state=tmp_path / "state")


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


# ---- opening and closing ----


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"send": "smoke"}, DeviceError, "nothing is sent as 'smoke'; choose one of: features, frames"),
        ({"learner": "guess"}, DeviceError, "there is no learner 'guess'; choose one of: auto, analytic, lwf, both, "),
        ({"filter": "guess"}, DeviceError, "'guess' is not a filter; choose one of: entropy, energy, margin, "),
        ({"ca": Path("x.crt")}, DeviceError, "certificates are given and no broker; give a broker, or leave them out"),
        ({"site": "Lab 1"}, LinkError, "site name 'Lab 1' cannot be used; take 1 to 16 characters of a-z, 0-9 and -"),
        ({"device": "a/b"}, LinkError, "device name 'a/b' cannot be used; take 1 to 16 characters of a-z, 0-9 and -"),
        ({"device": "cloud"}, LinkError, "device name 'cloud' is the workers' own; take another one"),
        ({"broker": "http://x"}, LinkError, "broker address 'http://x' cannot be used; write it as mqtt://host:port"),
        ({"model": Path("none.pt")}, ModelNotFound, "none.pt: no such model file; check the path"),
    ],
)
def test_a_device_that_cannot_be_made_leaves_its_folder_free(
    config: DeviceConfig, change: dict[str, Any], kind: type[EccError], text: str
) -> None:
    with pytest.raises(kind) as caught:
        Device(replace(config, **change))
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    Store.open(config.state).close()


def test_a_filter_that_the_model_cannot_serve_leaves_the_folder_free(config: DeviceConfig, tmp_path: Path) -> None:
    model, path = read_edge(config.model), tmp_path / "judges.pt"
    save_edge(
        path,
        load_edge(config.model, Lif),
        model.program,
        GuardSet(model.guard.bits, model.guard.labels, np.ones_like(model.guard.judge)),
        labels=model.labels,
        temperature=1.0,
        threshold=0.5,
        provenance={},
    )
    with pytest.raises(DeviceError, match="has no rows to replay, which the filter 'novelty' compares with"):
        Device(replace(config, model=path, filter="novelty"))
    Device(replace(config, model=path)).close()


def test_two_devices_cannot_share_a_folder(config: DeviceConfig) -> None:
    with Device(config), pytest.raises(StoreLocked, match="in use by process"):
        Device(config)
    Device(config).close()


def test_a_start_that_fails_gives_everything_back(config: DeviceConfig) -> None:
    config.state.mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(config.state / "control.sock"))
        other.listen()
        before = threads()
        for start in (lambda device: device.start(), lambda device: device.__enter__()):
            device = Device(config, link=MemoryLink(MemoryBroker(), "device"))
            with pytest.raises(DeviceError, match=f"^a device runs in {config.state} already; stop it, or choose anot"):
                start(device)
            Store.open(config.state).close()
            assert threads() == before
    with Device(config) as device:
        assert control.ask(config.state, "status")["frames"] == 0


def test_nothing_runs_after_the_end(world: World) -> None:
    before = threads()
    device = world.device()
    device.runtime.classify(FRAME)
    device.close()
    device.close()
    assert threads() == before
    with pytest.raises(DeviceError, match="no device is running in "):
        control.ask(device.config.state, "status")
    with Store.open(device.config.state) as store:
        assert store.counts() == {"answered": 1, "sent": 1}


def test_a_device_that_was_never_started_closes(config: DeviceConfig) -> None:
    Device(config, link=MemoryLink(MemoryBroker(), "device")).close()
    Store.open(config.state).close()


def test_a_damaged_buffer_is_said_and_the_device_runs(config: DeviceConfig, caplog: pytest.LogCaptureFixture) -> None:
    Device(config).close()
    (config.state / "store.sqlite").write_bytes(b"not a database" * 1000)
    with Device(config) as device:
        said = device.health.current()["store"]
        assert said.startswith(f"the buffer was damaged; it was moved to {config.state}/store.sqlite.corrupt-")
        assert device.runtime.classify(FRAME).row is not None
    assert len([record for record in caplog.records if "damaged" in record.getMessage()]) == 1


def test_the_watch_ends_with_the_device(config: DeviceConfig) -> None:
    before = threads()
    with Device(config):
        assert "ecc-watch" in threads()
    assert threads() == before


# ---- what it tells ----


class Listener:
    """Hears one topic of a broker."""

    def __init__(self, broker: MemoryBroker, topic: str, kind: type[WireMessage]) -> None:
        self._heard: queue.Queue[Any] = queue.Queue()
        self._kind = kind
        self.link = MemoryLink(broker, f"listener-{id(self)}")
        self.link.subscribe(topic, self._hear)
        self.link.start()

    def next(self) -> Any:
        return self._heard.get(timeout=PATIENCE_S)

    def _hear(self, message: Message) -> None:
        self._heard.put(decode(self._kind, message.payload))


def test_its_status_says_what_it_runs_and_when_it_left(world: World) -> None:
    listener = Listener(world.broker, "ecc/1/default/device/status", Status)
    device = world.device()
    online = listener.next()
    assert (online.state, online.features_id, online.model_no) == ("online", world.features[:4], 0)
    device.close()
    assert listener.next() == replace_status(online, "offline")
    listener.link.close()


def replace_status(status: Status, state: str) -> Status:
    return Status(state, status.features_id, status.model_no, status.version)  # type: ignore[arg-type]


def test_the_site_hears_of_new_health_in_one_printable_line(world: World) -> None:
    listener = Listener(world.broker, "ecc/1/default/device/event", Event)
    device = world.device()
    device.health.say("disk", "a\nfolder: " + "x" * 300)
    event = listener.next()
    assert (event.kind, event.detail) == ("health", ("disk: a folder: " + "x" * 300)[:200])
    device.health.say("disk", "again")
    device.health.say("other", "news")
    assert listener.next().detail == "other: news"
    listener.link.close()


def test_status_and_control_socket_agree(world: World) -> None:
    device = world.device()
    device.runtime.classify(FRAME)
    world.settle(device)
    status = control.ask(device.config.state, "status")
    assert status == device.status()
    wanted = {
        "frames": 1,
        "uploads": 1,
        "model_no": 1,
        "device": "device",
        "site": "default",
        "connected": True,
        "worker": True,
        "drops": {},
        "counts": {"answered": 1, "sent": 1},
        "health": {},
        "link": {},
    }
    assert {name: status[name] for name in wanted} == wanted
    world.broker.stop()
    assert device.status()["connected"] is False
    assert device.status()["worker"] is False


# ---- what it is told ----


@pytest.fixture
def told(world: World) -> tuple[Device, Callable[..., None], list[str]]:
    """A device, how an operator tells it something, and the events that it heard."""
    device = world.device()
    heard: list[str] = []
    device.runtime.on_event(heard.append)

    def tell(payload: bytes, *, retain: bool = False) -> None:
        world.worker.publish("command", payload, retain=retain)
        world.settle(device)

    return device, tell, heard


def test_an_operators_command_is_an_event(told: tuple[Device, Callable[..., None], list[str]]) -> None:
    _, tell, heard = told
    tell(encode(Command("undocked")))
    assert heard == ["undocked"]


def test_a_command_from_long_ago_does_not_happen_now(world: World) -> None:
    world.worker.publish("command", encode(Command("undocked")), retain=True)
    heard: list[str] = []
    device = Device(
        DeviceConfig(model=world.models.edge, state=world.folder / "s"), link=MemoryLink(world.broker, "device")
    )
    device.runtime.on_event(heard.append)
    with device:
        assert device.offload is not None
        assert device.offload.wait_ready(PATIENCE_S)
        world.settle(device)
        world.worker.publish("command", encode(Command("online")))
        world.settle(device)
    assert heard == ["online"]


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91\xa5lunch", bytes(1000)])
def test_a_command_that_is_none_is_said_once(
    told: tuple[Device, Callable[..., None], list[str]], caplog: pytest.LogCaptureFixture, payload: bytes
) -> None:
    device, tell, heard = told
    tell(payload)
    tell(payload)
    assert heard == []
    assert device.health.current()["command"].endswith("; check who publishes on ecc/1/default/device/command")
    assert len(caplog.records) == 1


def test_rollback_answers_with_the_model_before(world: World) -> None:
    device = world.device()
    learnt = world.folder / "learnt.pt"
    learnt.write_bytes(write_learnt(world).read_bytes())
    no = install(device.store, device.config.state, read_edge(learnt), 1, {"reason": "test"}, 0.0)
    device.runtime.swap(read_edge(learnt), no)
    assert device.runtime.classify(FRAME).model_no == 2
    assert control.ask(device.config.state, "rollback") == {"model_no": 1}
    assert device.runtime.classify(FRAME).model_no == 1
    with pytest.raises(DeviceError, match="there is no earlier model to go back to"):
        control.ask(device.config.state, "rollback")


@pytest.mark.parametrize("event", ["charging", "offline"])
def test_a_device_that_does_not_learn_starts_no_update_and_says_so(world: World, event: str) -> None:
    device = world.device(learner="none")
    fill_answered(device.store, world.models.program)
    why = "this device does not learn, its learner is 'none'; start it with another one"
    assert control.ask(device.config.state, "notify", event=event) == why
    assert control.ask(device.config.state, "notify", event="undocked") is None
    assert "ecc-update" not in threads()
    with pytest.raises(DeviceError, match=f"^{why}$"):
        control.ask(device.config.state, "wait-update")
    assert device.status()["update"]["last"] is None
    assert device.runtime.classify(FRAME).why == "cloud answered", "everything else goes on"
    assert device.store.summary().rows["labelled"] == 145


def test_a_device_that_does_not_learn_leaves_a_candidate_in_its_shadow_run_as_it_is(world: World) -> None:
    device = world.device(state="robot")
    figures = {"accepted": True, "reason": "better", "clear_entropy": 0.5, "clear_rows": 9, "clear_changed": 0}
    add_model(device.store, device.config.state, read_edge(write_learnt(world)), 1, figures, 0.0)
    device.close()
    for learner, shadow in (("none", None), ("auto", {"no": 2, "seen": 0, "frames": 100})):
        device = world.device(state="robot", learner=learner)
        assert device.status()["update"]["shadow"] == shadow
        device.close()


def test_a_rollback_that_is_refused_lets_a_running_update_go_on(world: World) -> None:
    device = world.device(learner="analytic")
    fill_answered(device.store, world.models.program)
    device.updates.start()
    with pytest.raises(DeviceError, match="there is no earlier model to go back to"):
        device.rollback()
    decision = device.updates.wait(PATIENCE_S)
    assert decision is not None
    assert decision.reason.startswith("the learner failed (exit 1): the model file has no statistics to learn from")


def write_learnt(world: World) -> Path:
    """A model with the same head and encoder in another file."""
    folder = world.folder / "again"
    folder.mkdir()
    return write_tiny_models(folder, threshold=0.25).edge


def test_waiting_for_an_update_that_nobody_started_is_an_error(world: World) -> None:
    device = world.device()
    with pytest.raises(DeviceError, match="no update was made since the device started; start one with: ecc-device n"):
        control.ask(device.config.state, "wait-update")


def test_an_update_without_rows_says_why_and_the_site_hears_it(world: World) -> None:
    listener = Listener(world.broker, "ecc/1/default/device/event", Event)
    device = world.device()
    control.ask(device.config.state, "notify", event="charging")
    decision = control.ask(device.config.state, "wait-update", timeout_s=PATIENCE_S)
    assert (decision["accepted"], decision["reason"]) == (False, "0 labelled rows to learn from; an update needs 20")
    event = listener.next()
    assert (event.kind, event.detail) == ("update", f"not made: {decision['reason']}")
    listener.link.close()
