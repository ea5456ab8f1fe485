"""Recordings: what is in them, what other programs see of them, and what is left of them after a bad end."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.records import Schema
from mcap.writer import Writer
from mcap_ros2.decoder import DecoderFactory

from ecc_device.device import Device, DeviceConfig
from ecc_device.frame import Frame
from ecc_device.recordings import Recording, recorder
from ecc_device.recordings.channels import SCHEMAS
from ecc_device.recordings.images import SCHEMA, SCHEMA_NAME, decode_image, encode_image, layout
from ecc_device.replay import Replay
from ecc_device.sources import open_source
from ecc_model import bits
from ecc_model.errors import DeviceError, SourceError
from ecc_model.modelfile import read_edge
from support.models import TinyModels
from support.workers import PATIENCE_S, World, answer, frames, silent

CHILD = Path(__file__).with_name("recording_child.py")


def record(world: World, out: Path, count: int = 10, **options: Any) -> list[Any]:
    """A device records `count` frames; their results."""
    device = world.device(record=out, **options)
    results = [device.runtime.classify(frame) for frame in frames(count)]
    device.close()
    return results


def messages(path: Path, topic: str) -> list[dict[str, Any]]:
    """A topic's messages, as the library's own reader gives them."""
    with path.open("rb") as stream:
        return [json.loads(message.data) for _, _, message in make_reader(stream).iter_messages(topics=topic)]


# ---- what is in them ----


def test_the_library_reads_what_was_recorded_with_schemas(world: World, tmp_path: Path) -> None:
    results = record(world, tmp_path / "out.mcap")
    with (tmp_path / "out.mcap").open("rb") as stream:
        reader = make_reader(stream)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        by_topic = {channel.topic: summary.schemas[channel.schema_id] for channel in summary.channels.values()}
        counts = {
            channel.topic: summary.statistics.channel_message_counts.get(number, 0)
            for number, channel in summary.channels.items()
        }
        (about,) = [record.metadata for record in reader.iter_metadata()]
    named = {topic: schema["title"] for topic, schema in SCHEMAS.items() if topic != "/spikes"}
    assert {topic: schema.name for topic, schema in by_topic.items()} == named | {"/frames": "sensor_msgs/msg/Image"}
    assert all(
        schema.encoding == "jsonschema" and json.loads(schema.data)["type"] == "object"
        for topic, schema in by_topic.items()
        if topic != "/frames"
    )
    assert counts == {
        "/frames": 10,
        "/uploads": 10,
        "/decisions": 10,
        "/corrections": 0,
        "/models": 1,
        "/updates": 0,
        "/events": 1,
    }
    assert {name: about[name] for name in ("format", "content", "device", "site")} == {
        "format": "1",
        "content": "frames",
        "device": "device",
        "site": "default",
    }
    assert messages(tmp_path / "out.mcap", "/events") == [{"kind": "link", "detail": "up"}]
    decisions = messages(tmp_path / "out.mcap", "/decisions")
    for result, decision in zip(results, decisions, strict=True):
        assert msgspec.to_builtins(result.to_record()).items() <= decision.items()
        assert (decision["bytes_sent"], decision["truth"]) == (result.bytes_sent, None)
        assert decision["bytes_sent"] > 0


def test_every_message_fits_its_schema(world: World, tmp_path: Path) -> None:
    record(world, tmp_path / "out.mcap")
    kinds: dict[str, tuple[type, ...]] = {
        "integer": (int, type(None)),
        "number": (int, float),
        "string": (str, type(None)),
        "boolean": (bool,),
        "array": (list,),
        "object": (dict, type(None)),
    }
    for topic, schema in SCHEMAS.items():
        for message in messages(tmp_path / "out.mcap", topic):
            for name, kind in schema["properties"].items():
                assert isinstance(message[name], kinds[kind["type"]]), (topic, name)


def test_a_picture_is_a_ros_2_image(world: World, tmp_path: Path) -> None:
    """The ROS 2 library is the referee, and our own source of ROS 2 images."""
    record(world, tmp_path / "out.mcap", 2)
    with (tmp_path / "out.mcap").open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        pictures = [message for *_, message in reader.iter_decoded_messages(topics="/frames")]
    second = pictures[1]
    assert bytes(second.data) == frames(2)[1].pixels.tobytes()
    assert (second.width, second.height, second.step, second.encoding) == (16, 16, 16, "mono8")
    assert (second.header.stamp.sec, second.header.stamp.nanosec) == (0, 100_000_000)
    assert second.header.frame_id == "camera"
    source = open_source(f"{tmp_path}/out.mcap#/frames")
    np.testing.assert_array_equal([frame.pixels for frame in source], [frame.pixels for frame in frames(2)])


@settings(deadline=None)
@given(camera=st.text(max_size=9), steps=st.integers(0, 3), side=st.integers(1, 9), channels=st.integers(1, 3))
def test_every_image_is_read_by_the_ros_2_library(camera: str, steps: int, side: int, channels: int) -> None:
    shape = (*((steps,) if steps else ()), side, 4, channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    message = encode_image(pixels, 7_000_000_009, camera.replace("\0", ""))
    decoded = DecoderFactory().decoder_for("cdr", Schema(1, SCHEMA, "ros2msg", SCHEMA_NAME))(message)
    assert bytes(decoded.data) == layout(pixels).tobytes()
    assert (decoded.header.stamp.sec, decoded.header.stamp.nanosec) == (7, 9)
    assert decoded.step * decoded.height == len(decoded.data)
    np.testing.assert_array_equal(decode_image(message, shape), pixels)


@pytest.mark.parametrize("shape", [(), (5,), (5, 4), (0, 4, 1), (5, 4, 4), (5, 4, 3), (17, 5, 4, 1), (5000, 1, 1)])
def test_another_shape_is_no_frame(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^(a frame of shape|no image of)"):
        decode_image(encode_image(np.zeros((5, 4, 1), np.uint8), 0, ""), shape)


def test_the_model_is_attached_and_named_by_its_hash(world: World, tmp_path: Path) -> None:
    record(world, tmp_path / "out.mcap", 1)
    Recording(tmp_path / "out.mcap").write_models(tmp_path)
    model = read_edge(world.models.edge)
    assert (tmp_path / f"{model.sha256}.pt").read_bytes() == world.models.edge.read_bytes()
    (said,) = messages(tmp_path / "out.mcap", "/models")
    assert (said["no"], said["sha256"], said["features_id"]) == (1, model.sha256, model.program.features_id)


def test_as_spikes_no_picture_is_in_the_file(world: World, tmp_path: Path) -> None:
    record(world, tmp_path / "out.mcap", 5, record_as="spikes")
    assert messages(tmp_path / "out.mcap", "/frames") == []
    said = messages(tmp_path / "out.mcap", "/spikes")
    assert [one["frame"] for one in said] == [0, 1, 2, 3, 4]
    with Replay(tmp_path / "out.mcap") as replay:
        split = replay.device.runtime.engine.head(frames(5)[3].pixels)
    assert base64.b64decode(said[3]["data"]) == bits.pack(split)
    assert said[3]["features_id"] == world.models.program.features_id


def test_time_steps_are_beneath_one_another_and_polarities_side_by_side() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 4, 2), np.uint8)
    picture = layout(pixels)
    assert picture.shape == (15, 8, 1)
    np.testing.assert_array_equal(picture[5:10, 4:, 0], pixels[1, :, :, 1])


def test_a_recording_is_a_source(world: World, tmp_path: Path) -> None:
    device = world.device(record=tmp_path / "out.mcap")
    for frame in frames(4):
        device.runtime.classify(Frame(frame.index, frame.time_s, frame.pixels, "ab"[frame.index % 2]))
    device.close()
    source = Recording(tmp_path / "out.mcap")
    assert (source.shape, source.length, source.labels, source.live) == ((16, 16, 1), 4, ("a", "b"), False)
    assert source.rate_hz == pytest.approx(10.0)
    for _ in range(2):
        read = list(source)
        assert [(frame.index, frame.time_s, frame.label) for frame in read] == [
            (0, 0.0, "a"),
            (1, 0.1, "b"),
            (2, 0.2, "a"),
            (3, 0.3, "b"),
        ]
        for frame, original in zip(read, frames(4), strict=True):
            np.testing.assert_array_equal(frame.pixels, original.pixels)


def test_a_late_answer_stands_behind_its_frame(world: World, tmp_path: Path) -> None:
    world.worker.script = silent
    device = world.device(record=tmp_path / "out.mcap", deadline_s=0.0)
    result = device.runtime.classify(frames(1)[0])
    world.worker.reply(answer(result.row or 0))
    world.settle(device)
    device.close()
    (decision,) = messages(tmp_path / "out.mcap", "/decisions")
    (correction,) = messages(tmp_path / "out.mcap", "/corrections")
    assert (decision["why"], correction["why"], correction["label"]) == ("deadline", "cloud answered", "7")
    assert [upload["bytes_received"] > 0 for upload in messages(tmp_path / "out.mcap", "/uploads")] == [False, True]


# ---- where nothing can be recorded ----


def test_a_recording_is_never_written_over(world: World, tmp_path: Path) -> None:
    (tmp_path / "out.mcap").write_bytes(b"precious")
    with pytest.raises(DeviceError) as caught:
        world.device(record=tmp_path / "out.mcap")
    assert str(caught.value) == (
        f"{tmp_path}/out.mcap: exists already, and recordings are not written over; choose another name"
    )
    assert (tmp_path / "out.mcap").read_bytes() == b"precious"


def test_a_recording_without_a_frame_is_no_file(world: World, tmp_path: Path) -> None:
    """Or the next start would find it in its way."""
    world.device(record=tmp_path / "out.mcap").close()
    assert not (tmp_path / "out.mcap").exists()


def test_a_folder_that_is_not_there_is_named(world: World, tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        world.device(record=tmp_path / "no" / "out.mcap")
    assert str(caught.value) == (
        f"{tmp_path}/no/out.mcap: cannot be recorded to (No such file or directory); choose another place"
    )


def test_only_frames_or_spikes_are_recorded(world: World, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"^nothing is recorded as 'video'; choose one of: frames, spikes$"):
        world.device(record=tmp_path / "out.mcap", record_as="video")


def child(models: TinyModels, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), str(models.edge), str(folder / "s"), str(folder / "out.mcap"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(CHILD.parents[1])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_device_goes_on_when_its_recording_finds_no_room(models: TinyModels, tmp_path: Path) -> None:
    limit = models.edge.stat().st_size + 170_000  # the model's file and one chunk
    out, errors = child(models, tmp_path, str(limit)).communicate(timeout=PATIENCE_S)
    results = [json.loads(line) for line in out.splitlines()]
    assert len(results) == 400
    assert [line for line in errors.splitlines() if line.startswith("record")] == [
        f"record: {tmp_path}/out.mcap: nothing more is recorded (File too large); free some space and start again"
    ]
    left = Recording(tmp_path / "out.mcap")
    assert left.cut_off == "cut off"
    kept = list(left.decisions())
    assert 0 < len(kept) < 400
    assert all(found.items() <= said.items() for found, said in zip(results, kept, strict=False))


def test_a_killed_device_leaves_all_but_its_last_chunk(models: TinyModels, tmp_path: Path) -> None:
    process = child(models, tmp_path)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(600)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.communicate(timeout=PATIENCE_S)
    results = [json.loads(line) for line in lines if line.endswith("\n")]
    left = Recording(tmp_path / "out.mcap")
    assert left.cut_off == "cut off"
    assert left.length is not None
    assert 300 < left.length <= len(results) + 1
    with Replay(tmp_path / "out.mcap", expect=tmp_path / "out.mcap") as replay:
        assert replay.notes == [f"{tmp_path}/out.mcap: cut off; it holds {left.length} whole frames"]
        replayed = [msgspec.to_builtins(result.to_record()) for result in replay]
    assert replayed[: len(results)] == results[: len(replayed)]


# ---- damaged files ----


@pytest.fixture(scope="module")
def whole(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A recording of 30 frames in many small chunks."""
    folder = tmp_path_factory.mktemp("whole")
    size, recorder.CHUNK_BYTES = recorder.CHUNK_BYTES, 3000
    try:
        with Device(DeviceConfig(model=models.edge, state=folder / "s", record=folder / "out.mcap")) as device:
            for frame in frames(30):
                device.runtime.classify(frame)
    finally:
        recorder.CHUNK_BYTES = size
    return (folder / "out.mcap").read_bytes()


def read(path: Path, data: bytes) -> Recording:
    path.write_bytes(data)
    return Recording(path)


def test_a_recording_that_is_cut_anywhere_holds_its_whole_chunks(whole: bytes, tmp_path: Path) -> None:
    wanted = list(read(tmp_path / "whole.mcap", whole).decisions())
    assert len(wanted) == 30
    lengths, before, refusals = set(), 0, set()
    for size in [*range(0, len(whole), 211), *range(len(whole) - 40, len(whole))]:
        path = tmp_path / "cut.mcap"
        try:
            left = read(path, whole[:size])
        except SourceError as error:
            refusals.add(str(error).removeprefix(f"{path}: "))
            assert before == 0
            continue
        assert list(left.decisions()) == wanted[: len(list(left.decisions()))]
        assert left.length is not None
        assert left.length >= before
        assert [frame.index for frame in left] == list(range(left.length))
        before = left.length
        lengths.add(left.length)
    assert refusals == {
        "no MCAP file, or its first bytes are damaged; copy it again",
        "cut off before its first frame; record again",
        "a recording without a whole frame; record again",
    }
    assert before == 30
    assert len(lengths) > 8, "many places, many lengths"


def test_a_recording_that_is_not_there_is_no_matter_of_its_owner(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        Recording(tmp_path / "nope.mcap")
    assert str(caught.value) == f"{tmp_path}/nope.mcap: no such file; check the path"


def test_zeros_after_a_power_cut_are_no_frames(whole: bytes, tmp_path: Path) -> None:
    half = read(tmp_path / "half.mcap", whole[:-12_000])
    left = read(tmp_path / "zeros.mcap", whole[:-12_000] + bytes(5000))
    assert left.cut_off is not None
    assert half.length is not None
    assert 0 < half.length < 30
    assert left.length == half.length


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_end_in_a_typed_error_or_fewer_frames(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(SourceError):
        left = read(tmp_path / "damaged.mcap", bytes(damaged))
        list(left)
        list(left.decisions())


# ---- recordings of others ----


def written(path: Path, write: Callable[[Writer], object]) -> Path:
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        write(writer)
        writer.finish()
    return path


def test_a_recording_of_another_version_says_which(tmp_path: Path) -> None:
    path = written(tmp_path / "a.mcap", lambda w: w.add_metadata("ecc-snn", {"format": "2", "software": "9.1"}))
    with pytest.raises(SourceError) as caught:
        Recording(path)
    assert str(caught.value) == (
        f"{path}: a recording in format 2, this version of ecc-snn reads format 1; "
        "replay it with the version that made it (9.1)"
    )


def test_a_model_cannot_name_a_file_elsewhere(tmp_path: Path) -> None:
    def write(writer: Writer) -> None:
        writer.add_metadata("ecc-snn", {"format": "1", "content": "frames"})
        writer.add_attachment(0, 0, "../evil.pt", "", b"evil")
        said = {"no": 1, "sha256": "../evil", "features_id": "", "labels": [], "temperature": 1.0, "threshold": 0.5}
        channel = writer.register_channel("/models", "json", 0)
        writer.add_message(channel, 0, json.dumps(said).encode(), 0)

    with pytest.raises(SourceError, match=r"a message on /models is not one of ours \(Expected `str` matching regex"):
        Recording(written(tmp_path / "a.mcap", write))


@pytest.mark.parametrize(
    ("was", "now", "problem"),
    [
        (b'"seed":0', b'"sEEd":0', "sEEd"),
        (b'"deadline_s":0.1', b'"deadline_s":"1"', "Expected `float`, got `str`"),
        (b'"send":"features"', b'"record":"f.mcap"', "record"),
    ],
)
def test_options_that_are_none_are_refused(whole: bytes, tmp_path: Path, was: bytes, now: bytes, problem: str) -> None:
    assert whole.count(was) == 1
    path = tmp_path / "a.mcap"
    path.write_bytes(whole.replace(was, now))
    with pytest.raises(SourceError) as caught, Replay(path):
        pass
    assert str(caught.value) == (
        f"{path}: recorded with options that this version of ecc-snn does not know ({problem}); "
        "replay it with the version that made it"
    )


def test_a_model_that_is_damaged_is_named(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    at = whole.index(b"program.safetensors") + 2000
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(SourceError) as caught, Replay(path):
        pass
    assert str(caught.value) == f"{path}: the file of model 1 is not in it, or is damaged; give it with --model"


def test_metadata_that_is_damaged_is_told(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.mcap"
    path.write_bytes(whole.replace(b'"seed":0', b'"seed"#0'))
    with pytest.raises(SourceError) as caught:
        Recording(path)
    assert str(caught.value) == f"{path}: its metadata is damaged; copy it again"


def test_a_message_that_is_none_of_ours_is_named_with_its_topic(tmp_path: Path) -> None:
    def write(writer: Writer) -> None:
        writer.add_metadata("ecc-snn", {"format": "1", "content": "frames"})
        schema = writer.register_schema("x", "jsonschema", b"{}")
        channel = writer.register_channel("/decisions", "json", schema)
        writer.add_message(channel, 0, b'{"frame": "one"}', 0)

    path = written(tmp_path / "a.mcap", write)
    with pytest.raises(SourceError, match=r"a\.mcap: a message on /decisions is not one of ours \(Expected `int`"):
        Recording(path)
