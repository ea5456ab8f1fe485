"""Events of N-MNIST and EVT 2 files as frames: by time, by count, one frame a file; good files and bad ones."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ecc_device.sources import open_source
from ecc_device.sources.eventfiles import Evt2File, open_events
from ecc_device.sources.events import GAIN, Slicing, parse_slicing
from ecc_model.errors import SourceError
from support.imports import ROOT

SAMPLES = ROOT / "examples" / "streams"
HEADER = b"% evt 2.0\n% geometry 20x10\n"
Event = tuple[int, int, int, int]  # microseconds, x, y, polarity


def nmnist(events: Sequence[Event]) -> bytes:
    return b"".join(bytes([x, y, on << 7 | t >> 16, t >> 8 & 255, t & 255]) for t, x, y, on in events)


def evt2(events: Sequence[Event], header: bytes = HEADER) -> bytes:
    words, high = [], None
    for t, x, y, on in events:
        if t >> 6 != high:
            high = t >> 6
            words.append(0x8 << 28 | high & 0xFFFFFFF)
        words.append(on << 28 | (t & 63) << 22 | x << 11 | y)
    return header + struct.pack(f"<{len(words)}I", *words)


def write(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def error_of(spec: object) -> str:
    with pytest.raises(SourceError) as caught:
        list(open_source(str(spec)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


events = st.lists(
    st.tuples(st.integers(0, (1 << 23) - 1), st.integers(0, 19), st.integers(0, 9), st.integers(0, 1)),
    min_size=1,
    max_size=60,
).map(sorted)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=events)
@example(events=[(ord("%") << 6, 0, 0, 0)])  # its time word begins with the byte that header lines begin with
def test_both_formats_give_back_the_events(tmp_path: Path, events: list[Event]) -> None:
    for path, data in ((tmp_path / "a.bin", nmnist(events)), (tmp_path / "a.raw", evt2(events))):
        path.write_bytes(data)
        pieces = list(open_events(path).pieces())
        found = [row for p in pieces for row in zip(p.time_us, p.x, p.y, p.on, strict=True)]
        assert [tuple(map(int, row)) for row in found] == events


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400), header=st.sampled_from([b"", HEADER, b"% evt 2.0\n", b"%"]))
def test_any_bytes_are_events_or_a_typed_error(tmp_path: Path, data: bytes, header: bytes) -> None:
    for path in (tmp_path / "a.bin", tmp_path / "a.raw"):
        path.write_bytes(header + data)
        try:
            source = open_source(f"{path}#count=7,steps=2")
        except SourceError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert sum(1 for _ in source) == source.length


def test_one_file_is_one_frame_of_equal_times(tmp_path: Path) -> None:
    spec = write(tmp_path / "a.bin", nmnist([(100, 1, 1, 1), (199, 1, 1, 1), (200, 33, 33, 0), (499, 32, 32, 0)]))
    source = open_source(f"{spec}#steps=4")
    (frame,) = source
    assert (source.shape, source.length, source.labels, source.rate_hz) == ((4, 32, 32, 2), 1, None, 10.0)
    expected = np.zeros((4, 32, 32, 2), np.uint8)
    expected[0, 0, 0, 1] = 2 * GAIN  # 100 to 199 us; the outermost pixels are cropped
    expected[3, 31, 31, 0] = GAIN
    np.testing.assert_array_equal(frame.pixels, expected)


def test_frames_by_time_keep_their_places_where_nothing_happened(tmp_path: Path) -> None:
    spec = write(tmp_path / "a.raw", evt2([(5_000, 3, 4, 1), (5_600, 3, 4, 0), (8_999, 19, 9, 1)]))
    source = open_source(f"{spec}#steps=2,ms=1")
    frames = list(source)
    assert (source.shape, source.length, source.rate_hz) == ((2, 10, 20, 2), 4, 1000.0)
    assert [frame.time_s for frame in frames] == [0.0, 0.001, 0.002, 0.003]
    assert [int(frame.pixels.sum()) for frame in frames] == [2 * GAIN, 0, 0, GAIN]
    assert frames[0].pixels[0, 4, 3, 1] == frames[0].pixels[1, 4, 3, 0] == frames[3].pixels[1, 9, 19, 1] == GAIN


def test_frames_by_count_hold_equally_many_events(tmp_path: Path) -> None:
    spec = write(tmp_path / "a.raw", evt2([(1000 * k, k % 20, 0, 1) for k in range(11)]))
    source = open_source(f"{spec}#steps=2,count=4")
    frames = list(source)
    assert (source.length, [frame.time_s for frame in frames]) == (2, [0.0, 0.004])
    assert [np.argwhere(frame.pixels)[:, (0, 2)].tolist() for frame in frames] == [
        [[0, 0], [0, 1], [1, 2], [1, 3]],
        [[0, 4], [0, 5], [1, 6], [1, 7]],
    ]


def test_counts_stop_at_255(tmp_path: Path) -> None:
    spec = write(tmp_path / "a.bin", nmnist([(1, 5, 5, 1)] * 9))
    (frame,) = open_source(f"{spec}#steps=1")
    assert frame.pixels[0, 4, 4].tolist() == [0, 255]


def test_a_folder_of_classes_gives_one_labelled_frame_a_file(tmp_path: Path) -> None:
    for name, column in (("one/b.bin", 3), ("one/a.bin", 2), ("two/c.bin", 4)):
        write(tmp_path / name, nmnist([(1, column + 1, 1, 0)]))
    source = open_source(f"{tmp_path}#steps=1")
    frames = list(source)
    assert (source.shape, source.length, source.labels) == ((1, 32, 32, 2), 3, ("one", "two"))
    assert [(frame.label, int(np.argwhere(frame.pixels)[0, 2])) for frame in frames] == [
        ("one", 2),
        ("one", 3),
        ("two", 4),
    ]
    assert [frame.time_s for frame in source] == [0.0, 0.1, 0.2]


def test_the_time_of_evt_2_goes_on_when_its_upper_bits_start_again(tmp_path: Path) -> None:
    whole = 1 << 34
    path = tmp_path / "a.raw"
    path.write_bytes(evt2([(whole - 100, 1, 1, 1), (whole - 1, 2, 2, 1), (whole + 5, 3, 3, 0)]))
    (piece,) = Evt2File(path).pieces()
    assert piece.time_us.tolist() == [whole - 100, whole - 1, whole + 5]


def test_the_samples_are_what_their_readme_says() -> None:
    digits = open_source(f"{SAMPLES / 'nmnist'}#steps=2")
    assert (digits.length, digits.labels, digits.shape) == (29, tuple("0123456789"), (2, 32, 32, 2))
    assert all(frame.pixels.any() for frame in digits)
    seven = open_source(f"{SAMPLES / 'seven.raw'}#steps=2,ms=100")
    assert (seven.shape, sum(1 for _ in seven), seven.length) == ((2, 34, 34, 2), 4, 4)
    (same,), (piece,) = (open_events(SAMPLES / name).pieces() for name in ("nmnist/7/60001.bin", "seven.raw"))
    assert len(piece.x) == 3330
    for field in ("time_us", "x", "y", "on"):
        np.testing.assert_array_equal(getattr(piece, field), getattr(same, field))


# ---- bad input ----


@pytest.mark.parametrize(
    ("text", "slicing"),
    [
        ("", Slicing()),
        ("steps=2", Slicing(2)),
        ("ms=20,steps=1", Slicing(1, 20)),
        ("count=500", Slicing(4, None, 500)),
    ],
)
def test_what_makes_a_frame_is_said_behind_the_name(text: str, slicing: Slicing) -> None:
    assert parse_slicing(text) == slicing


ALLOWED = "allowed are steps=1..16, ms=1..3600000, count=1..100000000, each once"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("fast", f"'fast' does not say how events become frames; {ALLOWED}"),
        ("steps=0", f"'steps=0' does not say how events become frames; {ALLOWED}"),
        ("steps=17", f"'steps=17' does not say how events become frames; {ALLOWED}"),
        ("ms=-1", f"'ms=-1' does not say how events become frames; {ALLOWED}"),
        ("ms=1,ms=2", f"'ms=2' does not say how events become frames; {ALLOWED}"),
        ("ms=1,count=2", "events become frames by ms or by count; give one of the two"),
        ("steps=4,count=3", "3 events for 4 steps; give more events"),
    ],
)
def test_what_makes_no_frame_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    assert error_of(f"{write(tmp_path / 'a.bin', nmnist([(1, 1, 1, 1)]))}#{text}") == problem


BAD = {
    "a.bin": [
        (b"", "holds no events; record some"),
        (b"1234", "ends inside an event; copy it again"),
        (nmnist([(1, 34, 2, 0)]), "an event at (34, 2) of 34 x 34 pixels; no N-MNIST file"),
    ],
    "a.raw": [
        (b"", "a .raw file with no header; convert it to EVT 2, or to .npz frames"),
        (b"% evt 3.0\n1234", "a .raw file with EVT 3; convert it to EVT 2, or to .npz frames"),
        (HEADER, "holds no events; record some"),
        (evt2([(1, 1, 1, 1)])[:-1], "ends inside an event; copy it again"),
        (evt2([(1, 20, 1, 1)]), "an event at (20, 1) of 20 x 10 pixels; copy it again"),
        (b"% evt 2.0\n% geometry 5000x2\n", "a sensor of 5000 x 2 pixels; sides are 1 to 4096"),
        (b"%" * 70_000, "a header without end; copy it again"),
    ],
}


@pytest.mark.parametrize(("name", "data", "problem"), [(name, *case) for name, cases in BAD.items() for case in cases])
def test_what_are_no_events_is_said(tmp_path: Path, name: str, data: bytes, problem: str) -> None:
    spec = write(tmp_path / name, data)
    assert error_of(spec) == f"{spec}: {problem}"


def test_a_folder_of_events_has_no_windows(tmp_path: Path) -> None:
    write(tmp_path / "a.bin", nmnist([(1, 1, 1, 1)]))
    assert error_of(f"{tmp_path}#ms=5") == (
        f"{tmp_path}: a folder gives one frame for each file; leave ms and count out"
    )


def test_a_file_that_needs_no_word_behind_its_name_says_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", frames=np.zeros((1, 2, 2), np.uint8))
    assert error_of(f"{tmp_path}/a.npz#steps=2") == (
        f"{tmp_path}/a.npz#steps=2: nothing is to be said about a .npz file; leave out '#steps=2'"
    )


def test_long_streams_cost_no_memory(tmp_path: Path) -> None:
    """Four million events in 16 MB are read piece by piece."""
    import tracemalloc

    words = np.full(4_000_000, 1 << 28 | 3 << 11 | 4, np.uint32)
    words[::1000] = 0x8 << 28 | np.arange(4000, dtype=np.uint32) * 100
    (tmp_path / "a.raw").write_bytes(HEADER + words.astype("<u4").tobytes())
    tracemalloc.start()
    try:
        source = open_source(f"{tmp_path}/a.raw#steps=2,ms=100")
        assert sum(int(frame.pixels.any()) for frame in source) == source.length == 256
        assert tracemalloc.get_traced_memory()[1] < 80e6
    finally:
        tracemalloc.stop()
