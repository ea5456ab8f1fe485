"""A robot's loop that slows down when it is unsure what it sees.

python examples/01_robot_loop.py --broker mqtt://127.0.0.1:1883
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
from pathlib import Path

from ecc_device.sources import open_source
from ecc_snn import EccError, Edge, Result

HERE = Path(__file__).parent
FULL, CRAWL = 1.0, 0.1  # metres per second
GAIN = 0.2  # share of the missing speed that is won back with each frame


def next_speed(speed: float, result: Result) -> float:
    """Brake at once, speed up gently. Entropy 0: sure, full speed; 1: no idea, crawl."""
    wanted = max(CRAWL, FULL * (1.0 - result.entropy))
    return wanted if wanted < speed else speed + GAIN * (wanted - speed)


def main() -> None:
    """Drive through the frames of a source and print each decision."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default=HERE / "models" / "vgg9.pt", help="the edge model")
    options.add_argument(
        "--source", default=str(HERE / "streams" / "second.npz"), help="an .npz, a folder of images, or camera:N"
    )
    options.add_argument("--broker", help="mqtt://host:port; without: alone")
    options.add_argument("--state", default="runs/robot", help="folder of the buffer and the learnt models")
    options.add_argument("--frames", type=int, help="stop after so many")
    chosen = options.parse_args()

    speed, unsure = FULL, 0
    # a frame that fails has entropy 1, so the robot crawls; strict=True would end the loop
    edge = Edge(chosen.model, chosen.broker, state=chosen.state, device="robot", deadline_ms=50, strict=False)
    with contextlib.closing(open_source(chosen.source)) as source, edge, edge.stream(source) as results:
        for result in itertools.islice(results, chosen.frames):
            before, speed = speed, next_speed(speed, result)
            decision = "slower" if speed < before else "faster" if speed > before else "steady"
            print(f"{result.frame:4}  {result.label:10}  {result.why:14}  {speed:.2f} m/s  {decision}")
            unsure += result.ambiguous
        print(f"unsure about {unsure} frames, {edge.status()['uploads']} went up")


if __name__ == "__main__":
    try:
        main()
    except EccError as error:
        sys.exit(f"error: {error}")
