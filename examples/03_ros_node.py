"""A ROS 2 node that says what a camera shows.

    sensor_msgs/Image on `image`                 the newest one is classified, older ones that wait are dropped
    vision_msgs/Classification on `classification`  with the image's header; once more if the cloud answers late
    sensor_msgs/BatteryState on `battery_state`  charging: learn; discharging: stop learning

python examples/03_ros_node.py --model vgg9.pt --broker mqtt://127.0.0.1:1883 --ros-args -r image:=/camera/image_raw
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_snn import EccError, Edge, Result

HERE = Path(__file__).parent
# encoding -> bytes of a pixel, and which of them are red, green and blue (or grey)
ENCODINGS = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0,)),
    "mono16": (2, (1,)),  # the upper byte, where the lower one comes first
}
REMEMBERED = 256  # headers of images that the cloud may still answer


def to_pixels(image: Any) -> NDArray[np.uint8]:
    """The picture (H, W, C) in a sensor_msgs/Image, RGB where C is 3. `ValueError`: an image that is not readable."""
    if image.encoding not in ENCODINGS:
        raise ValueError(f"images in '{image.encoding:.20}' are not read; publish one of {', '.join(ENCODINGS)}")
    size, chosen = ENCODINGS[image.encoding]
    if image.encoding == "mono16" and image.is_bigendian:
        chosen = (0,)
    height, width, step = image.height, image.width, image.step
    if not height or not width or step < width * size or len(image.data) < height * step:
        found = f"{height} lines of {step} bytes for {width} pixels, {len(image.data)} bytes in all"
        raise ValueError(f"an image of {found}, is damaged; check the camera's driver")
    lines = np.frombuffer(image.data, np.uint8)[: height * step].reshape(height, step)
    return np.ascontiguousarray(lines[:, : width * size].reshape(height, width, size)[:, :, chosen])


def to_event(battery: Any) -> str | None:
    """What a sensor_msgs/BatteryState means for learning; None where it says nothing about the charger."""
    if battery.power_supply_status in (battery.POWER_SUPPLY_STATUS_CHARGING, battery.POWER_SUPPLY_STATUS_FULL):
        return "charging"
    return "undocked" if battery.power_supply_status == battery.POWER_SUPPLY_STATUS_DISCHARGING else None


def to_hypotheses(result: Result) -> list[tuple[str, float]]:
    """class_id and score of each vision_msgs/ObjectHypothesis, the best first; none for a frame that failed."""
    return sorted(zip(result.answer.labels, result.probabilities, strict=True), key=lambda pair: -pair[1])


class Classifier:
    """Between the node's topics and an `Edge`. Callbacks return at once; results come on a thread of the Edge."""

    def __init__(self, edge: Edge, publish: Callable[[Any, Result], None], warn: Callable[[str], None]) -> None:
        self._edge, self._publish, self._warn = edge, publish, warn
        self._lock = threading.Lock()
        self._headers: dict[int, Any] = {}  # frame -> its image's header
        self._said = "undocked"
        edge.on_result(self.answered)

    def image(self, image: Any) -> None:
        """An image came."""
        try:
            pixels = to_pixels(image)
        except ValueError as error:
            self._warn(str(error))
            return
        with self._lock:
            self._headers[self._edge.submit(pixels)] = image.header
            if len(self._headers) > REMEMBERED:
                del self._headers[next(iter(self._headers))]

    def battery(self, battery: Any) -> None:
        """The battery's state came; the Edge is told what changed."""
        event = to_event(battery)
        if event is not None and event != self._said:
            self._said = event
            self._edge.notify(event)

    def answered(self, result: Result) -> None:
        """A result came, or a late answer to an earlier frame."""
        with self._lock:
            header = self._headers.get(result.frame)
        if header is not None:
            self._publish(header, result)


def main() -> None:
    """Run the node until it is told to stop."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default=HERE / "models" / "vgg9.pt", help="the edge model")
    options.add_argument("--broker", help="mqtt://host:port; without: alone")
    options.add_argument("--state", help="folder of the buffer and the learnt models")
    options.add_argument("--device", default="robot", help="this robot's name on its site")
    options.add_argument("--deadline-ms", type=float, default=100.0, help="how long an image waits for the cloud")
    cut = sys.argv.index("--ros-args") if "--ros-args" in sys.argv else len(sys.argv)
    chosen = options.parse_args(sys.argv[1:cut])
    try:
        import rclpy
        from rclpy.executors import ExternalShutdownException
        from rclpy.qos import qos_profile_sensor_data
        from sensor_msgs.msg import BatteryState, Image
        from vision_msgs.msg import Classification, ObjectHypothesis
    except ModuleNotFoundError as error:
        sys.exit(f"error: there is no {error.name} here; source ROS 2, and install its vision-msgs")

    rclpy.init(args=sys.argv[cut:])
    node = rclpy.create_node("ecc_snn")
    publisher = node.create_publisher(Classification, "classification", 10)

    def publish(header: Any, result: Result) -> None:
        if rclpy.ok():
            found = [ObjectHypothesis(class_id=label, score=score) for label, score in to_hypotheses(result)]
            publisher.publish(Classification(header=header, results=found))

    def warn(text: str) -> None:
        node.get_logger().warning(text, throttle_duration_sec=10.0)

    with Edge(
        chosen.model,
        chosen.broker,
        state=chosen.state,
        device=chosen.device,
        deadline_ms=chosen.deadline_ms,
        strict=False,
    ) as edge:
        classifier = Classifier(edge, publish, warn)
        node.create_subscription(Image, "image", classifier.image, qos_profile_sensor_data)
        node.create_subscription(BatteryState, "battery_state", classifier.battery, 10)
        with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
            rclpy.spin(node)


if __name__ == "__main__":
    try:
        main()
    except EccError as error:
        sys.exit(f"error: {error}")
