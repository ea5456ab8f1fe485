"""The ROS 2 node, without ROS: messages are made by the published definitions and go over the wire's bytes."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ecc_snn import Edge, Result
from ecc_snn.testing import RealtimeClock, SimulatedLink
from support.clouds import HeldCloud
from support.edges import PATIENCE_S, Inbox, frames
from support.imports import ROOT

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

    from support.models import TinyModels

typesys = pytest.importorskip("rosbags.typesys")

# the fields of vision_msgs 4 (Humble and later), which is not among ROS 2's common interfaces
VISION = {
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/Classification": "std_msgs/Header header\nObjectHypothesis[] results\n",
}
RELEASES = ["ROS2_HUMBLE", "ROS2_JAZZY", "ROS2_KILTED"]


@pytest.fixture(scope="session", params=RELEASES)
def ros(request: pytest.FixtureRequest) -> Typestore:
    """The message definitions of a ROS 2 release."""
    store = typesys.get_typestore(typesys.Stores[request.param])
    for name, text in VISION.items():
        store.register(typesys.get_types_from_msg(text, name))
    return store


@pytest.fixture(scope="session")
def node(example: Callable[[str], ModuleType]) -> ModuleType:
    """The example."""
    return example("03_ros_node.py")


def sent(ros: Typestore, message: Any, *, little: bool = True) -> Any:
    """A message as its receiver gets it."""
    raw = ros.serialize_cdr(message, message.__msgtype__, little_endian=little)
    return ros.deserialize_cdr(raw, message.__msgtype__)


def header(ros: Typestore, number: int = 0) -> Any:
    stamp = ros.types["builtin_interfaces/msg/Time"](sec=1_700_000_000 + number, nanosec=7)
    return ros.types["std_msgs/msg/Header"](stamp=stamp, frame_id="front")


def image(ros: Typestore, lines: np.ndarray, width: int, encoding: str, number: int = 0, /, **changes: Any) -> Any:
    """An image message of lines (H, step) of bytes."""
    fields = {
        "header": header(ros, number),
        "height": len(lines),
        "width": width,
        "encoding": encoding,
        "is_bigendian": 0,
        "step": lines.shape[1],
        "data": lines.reshape(-1),
    }
    return ros.types["sensor_msgs/msg/Image"](**fields | changes)


def battery(ros: Typestore, status: int) -> Any:
    fields = dict.fromkeys(("voltage", "temperature", "current", "charge", "capacity", "design_capacity"), 0.0)
    kinds = dict.fromkeys(("power_supply_health", "power_supply_technology"), 0)
    texts = dict.fromkeys(("location", "serial_number"), "")
    cells = dict.fromkeys(("cell_voltage", "cell_temperature"), np.zeros(3, np.float32))
    return ros.types["sensor_msgs/msg/BatteryState"](
        header=header(ros),
        percentage=0.5,
        power_supply_status=status,
        present=True,
        **fields,
        **kinds,
        **texts,
        **cells,
    )


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("is_bigendian", [0, 1])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_pixels_of_bytes(
    node: ModuleType, ros: Typestore, encoding: str, padding: int, little: bool, is_bigendian: int
) -> None:
    """Byte order, of the message as of the image, means nothing where a channel is one byte."""
    channels = encoding.removesuffix("8")
    picture = np.random.default_rng(1).integers(0, 256, (5, 3, len(channels) if channels != "mono" else 1), np.uint8)
    lines = np.pad(picture.reshape(5, -1), ((0, 0), (0, padding)), constant_values=99)
    message = sent(ros, image(ros, lines, 3, encoding, is_bigendian=is_bigendian), little=little)
    found = node.to_pixels(message)
    wanted = picture if channels == "mono" else picture[:, :, [channels.index(colour) for colour in "rgb"]]
    assert found.dtype == np.uint8
    assert found.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("is_bigendian", "order"), [(0, "<u2"), (1, ">u2")])
def test_sixteen_bits_of_grey_keep_the_upper_eight(
    node: ModuleType, ros: Typestore, is_bigendian: int, order: str
) -> None:
    values = np.array([[0x1234, 0xFF00], [0x00FF, 0xABCD]])
    lines = values.astype(order).view(np.uint8).reshape(2, 4)
    message = sent(ros, image(ros, lines, 2, "mono16", is_bigendian=is_bigendian))
    np.testing.assert_array_equal(node.to_pixels(message)[:, :, 0], values >> 8)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"encoding": "yuv422"}, "images in 'yuv422' are not read; publish one of rgb8, bgr8, "),
        ({"encoding": ""}, "images in '' are not read"),
        ({"step": 11}, "an image of 4 lines of 11 bytes for 4 pixels, 48 bytes in all, is damaged; check the camera's"),
        ({"height": 5}, "an image of 5 lines of 12 bytes for 4 pixels, 48 bytes in all, is damaged"),
        ({"height": 0}, "an image of 0 lines"),
        ({"width": 0}, "an image of 4 lines of 12 bytes for 0 pixels"),
        ({"data": np.zeros(0, np.uint8)}, "0 bytes in all, is damaged"),
    ],
)
def test_images_that_are_not_readable(node: ModuleType, ros: Typestore, changes: dict[str, Any], error: str) -> None:
    message = sent(ros, image(ros, np.zeros((4, 12), np.uint8), 4, "rgb8", **changes))
    with pytest.raises(ValueError, match="^.*" + error.replace("(", r"\(")):
        node.to_pixels(message)


@pytest.mark.parametrize(
    ("status", "event"),
    [
        ("UNKNOWN", None),
        ("CHARGING", "charging"),
        ("DISCHARGING", "undocked"),
        ("NOT_CHARGING", None),  # on the charger or not: nobody knows
        ("FULL", "charging"),
    ],
)
def test_the_battery_tells_what_happens(node: ModuleType, ros: Typestore, status: str, event: str | None) -> None:
    kind = ros.types["sensor_msgs/msg/BatteryState"]
    message = sent(ros, battery(ros, getattr(kind, f"POWER_SUPPLY_STATUS_{status}")))
    assert node.to_event(message) == event


@pytest.fixture
def told() -> Inbox:
    """What was published: (header, result)."""
    return Inbox()


@pytest.fixture
def edge(unsure: TinyModels, tmp_path: Path) -> Iterator[Edge]:
    """An Edge that works alone."""
    with Edge(unsure.edge, state=tmp_path / "state", strict=False) as edge:
        yield edge


def test_answers_and_late_ones_have_their_images_header(
    node: ModuleType, ros: Typestore, unsure: TinyModels, tmp_path: Path, told: Inbox
) -> None:
    cloud, pictures = HeldCloud(unsure.edge, "9"), [pixels[:, :, 0] for pixels in frames(3)]
    options = {"state": tmp_path / "state", "deadline_ms": 0, "strict": False}
    with RealtimeClock() as clock, Edge(unsure.edge, link=SimulatedLink(cloud, clock), clock=clock, **options) as edge:
        classifier = node.Classifier(edge, lambda header, result: told((header, result)), pytest.fail)
        for number, picture in enumerate(pictures):
            classifier.image(sent(ros, image(ros, picture, 16, "mono8", number)))
            told.wait(number + 1)
        cloud.may_answer.set()
        told.wait(6)
    assert [(head.stamp.sec - 1_700_000_000, head.stamp.nanosec, head.frame_id) for head, _ in told.results] == [
        (number, 7, "front") for number in (0, 1, 2, 0, 1, 2)
    ]
    assert [(result.frame, result.why) for _, result in told.results[:3]] == [(n, "deadline") for n in range(3)]
    assert [(result.frame, result.label) for _, result in told.results[3:]] == [(n, "9") for n in range(3)]


def test_hypotheses_fill_the_published_message(node: ModuleType, ros: Typestore, edge: Edge) -> None:
    result = edge.classify(frames(1)[0])
    kinds = ros.types
    found = [
        kinds["vision_msgs/msg/ObjectHypothesis"](class_id=label, score=score)
        for label, score in node.to_hypotheses(result)
    ]
    message = sent(ros, kinds["vision_msgs/msg/Classification"](header=header(ros, 5), results=found))
    assert message.header == header(ros, 5)
    scores = [hypothesis.score for hypothesis in message.results]
    assert scores == sorted(result.probabilities, reverse=True)
    assert message.results[0].class_id == result.label
    assert {hypothesis.class_id: hypothesis.score for hypothesis in message.results} == dict(
        zip(result.answer.labels, result.probabilities, strict=True)
    )


@pytest.mark.filterwarnings("ignore::ecc_snn.EccWarning")
def test_a_frame_that_failed_has_no_hypotheses(node: ModuleType, edge: Edge) -> None:
    assert node.to_hypotheses(edge.classify(np.zeros((4, 4, 2), np.uint8))) == []


def test_a_damaged_image_is_a_warning_and_the_next_one_is_classified(
    node: ModuleType, ros: Typestore, edge: Edge, told: Inbox
) -> None:
    said: list[str] = []
    classifier = node.Classifier(edge, lambda header, result: told((header, result)), said.append)
    picture = frames(1)[0][:, :, 0]
    classifier.image(image(ros, picture, 16, "jpeg"))
    classifier.image(image(ros, picture, 16, "mono8"))
    (_, result), *_ = told.wait(1)
    assert (result.frame, len(said)) == (0, 1)
    assert said[0].startswith("images in 'jpeg' are not read")


def test_the_edge_is_told_what_changes_on_the_charger(node: ModuleType, ros: Typestore, edge: Edge) -> None:
    events: list[str] = []
    edge._device.runtime.on_event(events.append)
    classifier = node.Classifier(edge, pytest.fail, pytest.fail)
    kind = ros.types["sensor_msgs/msg/BatteryState"]
    for status in ("DISCHARGING", "CHARGING", "CHARGING", "FULL", "UNKNOWN", "DISCHARGING", "DISCHARGING", "FULL"):
        classifier.battery(battery(ros, getattr(kind, f"POWER_SUPPLY_STATUS_{status}")))
    assert events == ["charging", "undocked", "charging"]


def test_headers_do_not_pile_up(node: ModuleType, ros: Typestore, edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "REMEMBERED", 4)
    classifier = node.Classifier(edge, lambda header, result: None, pytest.fail)
    for pixels in frames(20):
        classifier.image(image(ros, pixels[:, :, 0], 16, "mono8"))
    assert list(classifier._headers) == [16, 17, 18, 19]


class Ros:
    """What the node uses of rclpy: it plays `bag`, and waits for a message on each of its own."""

    def __init__(self, kinds: Any, bag: list[tuple[str, Any]]) -> None:
        self.published: list[tuple[str, Any]] = []
        self.warned: list[str] = []
        self.subscribed: dict[str, tuple[type, Callable[[Any], None], Any]] = {}
        self.arguments: list[str] | None = None
        self._bag = bag
        self._changed = threading.Condition()
        node = SimpleNamespace(
            create_publisher=lambda kind, topic, depth: SimpleNamespace(
                publish=lambda m: self._publish(topic, kind, m)
            ),
            create_subscription=lambda kind, topic, call, qos: self.subscribed.update({topic: (kind, call, qos)}),
            get_logger=lambda: SimpleNamespace(warning=lambda text, throttle_duration_sec: self.warned.append(text)),
        )
        shutdown = type("ExternalShutdownException", (Exception,), {})
        self.modules = {
            "rclpy": {"init": self._init, "create_node": lambda name: node, "spin": self._spin, "ok": lambda: True},
            "rclpy.executors": {"ExternalShutdownException": shutdown},
            "rclpy.qos": {"qos_profile_sensor_data": "sensor data"},
            "sensor_msgs.msg": {name: kinds[f"sensor_msgs/msg/{name}"] for name in ("BatteryState", "Image")},
            "vision_msgs.msg": {
                name: kinds[f"vision_msgs/msg/{name}"] for name in ("Classification", "ObjectHypothesis")
            },
        }

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, content in self.modules.items():
            module = ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)

    def _init(self, args: list[str]) -> None:
        self.arguments = args

    def _publish(self, topic: str, kind: type, message: Any) -> None:
        assert isinstance(message, kind)
        with self._changed:
            self.published.append((topic, message))
            self._changed.notify_all()

    def _spin(self, node: Any) -> None:
        for number, (topic, message) in enumerate(self._bag, 1):
            self.subscribed[topic][1](message)
            with self._changed:
                assert self._changed.wait_for(lambda number=number: len(self.published) >= number, PATIENCE_S)
        raise self.modules["rclpy.executors"]["ExternalShutdownException"]


def test_the_node_is_wired_to_its_topics(
    node: ModuleType, ros: Typestore, unsure: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = frames(4)
    bag = [("image", image(ros, pixels[:, :, 0], 16, "mono8", n)) for n, pixels in enumerate(pictures)]
    world = Ros(ros.types, bag)
    world.install(monkeypatch)
    options = ["--model", str(unsure.edge), "--state", str(tmp_path / "state")]
    monkeypatch.setattr(sys, "argv", ["node", *options, "--ros-args", "-r", "image:=/camera"])
    node.main()
    assert world.arguments == ["--ros-args", "-r", "image:=/camera"]
    assert {topic: (kind.__name__.rpartition("__")[2], qos) for topic, (kind, _, qos) in world.subscribed.items()} == {
        "image": ("Image", "sensor data"),
        "battery_state": ("BatteryState", 10),
    }
    with Edge(unsure.edge, state=tmp_path / "again") as edge:
        results: list[Result] = [edge.classify(pixels) for pixels in pictures]
    assert [(topic, message.header.stamp.sec) for topic, message in world.published] == [
        ("classification", 1_700_000_000 + n) for n in range(4)
    ]
    assert [[(h.class_id, h.score) for h in message.results] for _, message in world.published] == [
        node.to_hypotheses(result) for result in results
    ]
    assert world.warned == []


def test_without_ros_the_node_says_what_is_missing(
    node: ModuleType, unsure: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rclpy", None)
    monkeypatch.setattr(sys, "argv", ["node", "--model", str(unsure.edge)])
    with pytest.raises(SystemExit, match=r"^error: there is no rclpy here; source ROS 2, and"):
        node.main()


def test_the_page_prints_the_command_of_the_node(node: ModuleType) -> None:
    (block,) = re.findall(
        r"^```sh\n(.*)\n```$", (ROOT / "docs/how-to/ros.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert block in node.__doc__
