"""A worker of another model, messages beyond every limit, hostile requests: cases 14 and 23 to 26 of the catalogue."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zstandard
from commands import Command, Robot, assert_invariants, assert_said, eventually

from ecc_broker import codec, topics
from ecc_broker.messages import FeaturesRequest, encode
from ecc_broker.mqtt import MqttLink
from support.asker import Asker, features_request, frame_request
from support.brokers import BrokerProcess
from support.models import TinyModels, write_tiny_models

StartCloud = Callable[..., Command]
FLIPS = 300
COPIES = 5  # of one largest message, in the hands of paho and of ours, at the same time
FRAME = np.random.default_rng(2).integers(0, 256, (16, 16, 1), np.uint8)


# ---- case 14 ----


def test_a_worker_of_another_model_leaves_the_device_alone_until_a_fitting_one_comes(
    mosquitto: BrokerProcess, models: TinyModels, stream: Path, robot: Robot, cloud: StartCloud, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = write_tiny_models(tmp_path / "other", seed=5)
    misfit = cloud(other.cloud, mosquitto)
    robot.start(stream, "--broker", mosquitto.url)
    robot.run.wait_error("incompatible")
    robot.wait_results(10)
    assert robot.results[-1]["why"] == "incompatible"
    assert robot.status()["connected"] is True
    waiting = robot.rows("waiting")
    assert misfit.end() == 0
    assert json.loads(misfit.output[-1])["received"] == 0  # it was never asked

    fitting = cloud(models.cloud, mosquitto)
    eventually(lambda: not waiting.keys() & robot.rows("waiting").keys(), "answers to the rows of that time")
    eventually(lambda: robot.results[-1]["why"] == "cloud answered", "an answer in time")
    assert robot.status()["health"] == {}
    assert robot.run.end() == 0
    ours, theirs = (name.program.features_id[:8] for name in (models, other))
    assert_invariants(robot, {rf"incompatible: .*{ours}.*{theirs}.*": 1})
    assert fitting.end() == 0
    assert_said(misfit.errors + fitting.errors, {})


# ---- hostile requests to a worker: cases 24 to 26 ----


@pytest.fixture
def asker(mosquitto: BrokerProcess) -> Iterator[Asker]:
    asker = Asker(MqttLink(mosquitto.url, "robot-1"), "robot-1")
    yield asker
    asker.close()


def spikes_of(models: TinyModels) -> np.ndarray:
    return np.random.default_rng(1).random(models.program.code_shape) < 0.3


def check_worker(worker: Command, asker: Asker, models: TinyModels, hostile: dict[str, list[bytes]]) -> None:
    """Each request gets one reply; after them a good one of each kind is answered, and all are accounted for."""
    sent = 0
    outcomes: dict[str, int] = {}
    for name, payloads in hostile.items():
        for payload in payloads:
            asker.send(name, payload)
            reason = asker.reply().reason
            outcomes[reason] = outcomes.get(reason, 0) + 1
            sent += 1
    reply = asker.ask("features", features_request(2**62, spikes_of(models), models.program.features_id))
    assert (reply.id, reply.reason) == (2**62, "")
    reply = asker.ask("frame", frame_request(2**62 + 1, FRAME))
    assert (reply.id, reply.reason) == (2**62 + 1, "")
    assert worker.end() == 0
    record = json.loads(worker.output[-1])
    assert record["received"] == sent + 2
    assert record["answered"] == outcomes.pop("", 0) + 2
    assert record["refused"] == outcomes
    assert record["dropped"] == {}
    assert_said(worker.errors, {})


def test_a_worker_survives_damaged_requests(
    mosquitto: BrokerProcess, models: TinyModels, cloud: StartCloud, asker: Asker
) -> None:
    """Cut at every byte, single bytes flipped, random bytes."""
    worker = cloud(models.cloud, mosquitto)
    chance = random.Random(24)
    features = encode(features_request(1, spikes_of(models), models.program.features_id))
    frame = encode(frame_request(1, FRAME))
    hostile = {
        "features": [features[:length] for length in range(len(features))],
        "frame": [frame[:length] for length in (*range(20), *range(20, len(frame), 11))],
    }
    for name, good in (("features", features), ("frame", frame)):
        for _ in range(FLIPS):
            at = chance.randrange(min(len(good), 40))
            hostile[name].append(good[:at] + bytes([good[at] ^ chance.randrange(1, 256)]) + good[at + 1 :])
        hostile[name] += [chance.randbytes(chance.randrange(100)) for _ in range(50)]
        hostile[name].append(good + b"\0")
    check_worker(worker, asker, models, hostile)


def bomb(size: int, *, declared: bool) -> bytes:
    """Zeros that unpack to `size` bytes, as codec byte and zstd frame."""
    if declared:
        return b"\x01" + zstandard.compress(bytes(size))
    packer = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    chunk = bytes(1 << 20)
    return b"\x01" + b"".join(packer.compress(chunk) for _ in range(size >> 20)) + packer.flush()


def liar(shape: tuple[int, ...], pixels: bytes) -> bytes:
    """A frame request that says any shape of any pixels, past our own checks."""
    steps, height, width, channels = shape
    return msgspec.msgpack.encode([1, 0, steps, height, width, channels, pixels])


def test_a_worker_unpacks_no_bomb_and_believes_no_shape(
    mosquitto: BrokerProcess, models: TinyModels, cloud: StartCloud, asker: Asker
) -> None:
    worker = cloud(models.cloud, mosquitto)
    prefix = bytes.fromhex(models.program.features_id)[:4]
    good = codec.encode_spikes(spikes_of(models))
    assert asker.ask("features", FeaturesRequest(1, prefix, 2, 0, good)).reason == ""
    assert asker.ask("frame", frame_request(1, FRAME)).reason == ""
    before = worker.peak_bytes()

    def features(steps: object, spikes: bytes) -> bytes:
        return msgspec.msgpack.encode([1, prefix, steps, 0, spikes])

    raw = bytes(1 + 16 * 16)
    bombs = [bomb(1 << 30, declared=False), bomb(64 << 20, declared=True), bomb(1 << 20, declared=False)]
    assert max(map(len, bombs)) < topics.BY_NAME["features"].max_bytes
    nested = b"\x01" + zstandard.compress(bombs[0])
    hostile = {
        "features": [
            *(features(2, spikes) for spikes in (*bombs, nested)),
            *(features(steps, good) for steps in (0, 1, 3, 16, 17, 2**31, -1, 2**63, 2.0, None)),
            *(features(2, spikes) for spikes in (b"", b"\0", good[:-1], good + b"\0", b"\x02" + good[1:])),
            features(2, b"\0" + b"\xff" * 200_000),
        ],
        "frame": [
            *(liar((0, 16, 16, 1), pixels) for pixels in (*bombs, nested)),
            *(
                liar(shape, raw)
                for shape in (
                    (16, 4096, 4096, 3),
                    (0, 4096, 4096, 3),
                    (0, 2**31, 2**31, 3),
                    (0, 2**32, 2**32, 1),
                    (0, -16, -16, 1),
                    (0, 0, 16, 1),
                    (0, 16, 16, 4),
                    (17, 16, 16, 1),
                    (2**31, 16, 16, 1),
                    (0, 16, 17, 1),
                )
            ),
            *(liar((0, 16, 16, 1), pixels) for pixels in (b"", raw[:-1], raw + b"\0", b"\xff" + raw[1:])),
        ],
    }
    for name, payloads in hostile.items():
        for payload in payloads:
            asker.send(name, payload)
            assert asker.reply().reason == "bad-request", (name, payload[:40])
    assert worker.peak_bytes() - before < 2 * codec.MAX_PIXELS
    check_worker_after(worker, asker, models, received=2 + sum(map(len, hostile.values())))


def check_worker_after(worker: Command, asker: Asker, models: TinyModels, received: int) -> None:
    """It answers the next good request and accounts for all."""
    reply = asker.ask("features", features_request(7, spikes_of(models), models.program.features_id))
    assert (reply.id, reply.reason) == (7, "")
    assert worker.end() == 0
    record = json.loads(worker.output[-1])
    assert (record["received"], record["answered"]) == (received + 1, 3)
    assert record["refused"] == {"bad-request": received - 2}
    assert_said(worker.errors, {})


# ---- messages beyond the limits: case 23 ----


def announce(broker: BrokerProcess, topic: str, size: int) -> bytes:
    """Tell the broker of a message of `size` bytes and send some of it; what the broker answers before it hangs up."""
    connect = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05enemy"
    length = 2 + len(topic) + size
    head = b"\x30" + bytes((length >> 7 * k) & 0x7F | 0x80 for k in range(3)) + bytes([length >> 21])
    with socket.create_connection(("127.0.0.1", broker.port)) as enemy:
        enemy.settimeout(30)
        enemy.sendall(connect)
        answer = enemy.recv(4)
        try:
            enemy.sendall(head + len(topic).to_bytes(2, "big") + topic.encode() + bytes(1 << 20))
            while chunk := enemy.recv(65_536):
                answer += chunk
        except ConnectionError:  # it hung up with our bytes unread
            pass
    return answer


def test_messages_beyond_every_limit_cost_no_memory(
    mosquitto: BrokerProcess, models: TinyModels, stream: Path, robot: Robot, cloud: StartCloud, asker: Asker
) -> None:
    """100 MB announced, and as much as the broker carries, to the worker and to the device."""
    worker = cloud(models.cloud, mosquitto)
    robot.start(stream, "--broker", mosquitto.url)
    robot.wait_count("answered", 20)
    requests = [topics.topic(name, "default", "device") for name in ("features", "frame")]
    replies = [topics.topic("reply", "default", "device"), topics.topic("labels", "default")]
    peaks = [worker.peak_bytes(), robot.run.peak_bytes()]

    for topic in (*requests, *replies):
        assert announce(mosquitto, topic, 100 << 20) == b"\x20\x02\x00\x00"  # connected, then nothing more
    for size in 3 * [topics.MAX_PAYLOAD_BYTES - 100, 300_000]:
        for name in ("features", "frame"):
            asker.send(name, bytes(size))
            assert asker.reply().reason == "bad-request"
        for name, device in (("reply", "device"), ("labels", "cloud")):
            before = robot.count(f"bad-{name}")
            asker.send(name, bytes(size), device)
            robot.wait_count(f"bad-{name}", before + 1)
    answered = robot.count("answered")
    robot.wait_count("answered", answered + 20)
    for process, before in zip((worker, robot.run), peaks, strict=True):
        assert process.peak_bytes() - before < COPIES * topics.MAX_PAYLOAD_BYTES
    assert robot.run.end() == 0
    kind, size = "(Labels|Reply)", r"\d+"
    said = rf"worker: a {kind} of {size} bytes; at most {size} are allowed; check .*"
    assert_invariants(robot, {said: 1})
    assert worker.end() == 0
    record = json.loads(worker.output[-1])
    assert record["refused"] == {"bad-request": 12}
    assert_said(worker.errors, {})
