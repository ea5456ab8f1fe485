"""Folders of images, recordings and cameras, good ones and bad ones."""

from __future__ import annotations

import io
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from ecc_device.sources import Frame, Source, open_source, save_npz
from ecc_model.errors import MissingPackage, SourceError

ACCEPTED = "a source is a folder of images or events, a video, .npz, .mcap, .raw or .bin file, or camera:N"


def picture(seed: int, height: int = 6, width: int = 5, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def error_of(spec: object) -> str:
    with pytest.raises(SourceError) as caught:
        list(open_source(str(spec)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what is a source -------------------------------------------------------------------------------------------


def test_a_missing_path_lists_what_is_accepted(tmp_path: Path) -> None:
    assert error_of(tmp_path / "none") == f"{tmp_path / 'none'}: no such file or folder; {ACCEPTED}"


def test_an_unknown_file_lists_what_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "film.txt"
    path.write_bytes(b"")
    assert error_of(path) == f"{path}: not a known kind of source; {ACCEPTED}"


@pytest.mark.parametrize("spec", ["/dev/video9", "0", "7"])
def test_a_camera_by_another_name_is_told_its_own(spec: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(spec)
    assert str(caught.value) == f"{spec}: a camera is given as camera:{spec[-1]}"


@pytest.mark.parametrize("spec", ["rtsp://10.0.0.7/live", "http://camera.local/stream.mjpg"])
def test_a_network_camera_is_said_to_be_none(spec: str) -> None:
    with pytest.raises(SourceError) as caught:
        open_source(spec)
    assert str(caught.value) == (
        f"{spec}: cameras behind a network are not read; read them in a program of yours, which calls "
        "ecc_snn.Edge.classify for each frame"
    )


def test_a_folder_with_the_name_of_a_camera_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").mkdir()
    with pytest.raises(SourceError, match=r"^0: holds no images"):
        open_source("0")


@pytest.mark.parametrize("number", ["", "x", "-1", "1.5", "²"])
def test_a_camera_wants_a_number(number: str) -> None:
    assert error_of(f"camera:{number}") == f"camera:{number}: '{number}' is not a camera number; {ACCEPTED}"


# --- folders of images ------------------------------------------------------------------------------------------


def test_a_folder_gives_its_images_by_name(tmp_path: Path) -> None:
    for name, seed in (("b.png", 2), ("a.bmp", 1), ("c.PNG", 3)):
        Image.fromarray(picture(seed, 4 + seed)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    source = open_source(str(tmp_path))
    frames = list(source)
    assert [(frame.index, frame.time_s, frame.label) for frame in frames] == [
        (0, 0.0, None),
        (1, 0.1, None),
        (2, 0.2, None),
    ]
    for seed, frame in zip((1, 2, 3), frames, strict=True):
        np.testing.assert_array_equal(frame.pixels, picture(seed, 4 + seed))
    assert (source.shape, source.rate_hz, source.length, source.labels) == ((5, 5, 3), 10.0, 3, None)
    assert not source.live
    assert [frame.index for frame in source] == [0, 1, 2]  # a recording starts again


def test_sub_folders_are_classes(tmp_path: Path) -> None:
    for label, seed in (("dog", 0), ("cat", 1), ("cat", 2)):
        (tmp_path / label).mkdir(exist_ok=True)
        Image.fromarray(picture(seed)).save(tmp_path / label / f"{seed}.png")
    (tmp_path / "empty").mkdir()
    source = open_source(str(tmp_path))
    assert source.labels == ("cat", "dog")
    assert [frame.label for frame in source] == ["cat", "cat", "dog"]


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", ".png"), ("RGBA", ".webp"), ("P", ".png"), ("1", ".bmp"), ("CMYK", ".jpg")]
)
def test_every_image_becomes_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    Image.new("RGB", (5, 4), (200, 200, 200)).convert(mode).save(tmp_path / f"a{suffix}", lossless=True)
    (frame,) = open_source(str(tmp_path))
    assert (frame.pixels.shape, frame.pixels.dtype) == ((4, 5, 3), np.uint8)
    if mode != "1":
        assert abs(frame.pixels.astype(int) - 200).max() <= 8


@pytest.mark.parametrize("keep", [0, 10, 60], ids=["empty", "header only", "cut"])
def test_a_broken_image_is_named_when_its_turn_comes(tmp_path: Path, keep: int) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    broken = tmp_path / "b.png"
    Image.fromarray(picture(1)).save(broken)
    broken.write_bytes(broken.read_bytes()[:keep])
    frames = iter(open_source(str(tmp_path)))
    assert next(frames).index == 0
    with pytest.raises(SourceError) as caught:
        next(frames)
    assert str(caught.value) == f"{broken}: not a readable image; remove it or copy it again"


@pytest.mark.parametrize("side", [4097, 10_000, 20_000])
def test_an_image_that_claims_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    """Pillow itself only warns from 89 megapixels on, and raises from 179 on."""
    Image.new("1", (side, side)).save(tmp_path / "huge.png")
    with pytest.raises(
        SourceError, match=rf"huge\.png: ({side} x {side} pixels; sides are at most 4096|not a readable)"
    ):
        open_source(str(tmp_path))


def test_a_16_bit_image_is_not_guessed_at(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "a.png")
    assert error_of(tmp_path) == f"{tmp_path}/a.png: more than 8 bits a channel (mode I;16); convert it to 8 bits"


def test_a_folder_without_images_says_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    assert error_of(tmp_path) == f"{tmp_path}: holds no images; put .png, .jpg, .jpeg, .bmp, .webp files there"


def test_images_beside_classes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    for path in (tmp_path / "a.png", tmp_path / "cat" / "b.png"):
        Image.fromarray(picture(0)).save(path)
    advice = "keep either images, or one folder for each class"
    assert error_of(tmp_path) == f"{tmp_path}: holds images (a.png) beside class folders (cat); {advice}"


# --- recordings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "yielded"),
    [
        ((7, 5, 4), (5, 4, 1)),
        ((7, 5, 4, 3), (5, 4, 3)),
        ((7, 2, 5, 4, 3), (2, 5, 4, 3)),
        ((7, 3, 5, 4, 1), (3, 5, 4, 1)),
    ],
)
def test_a_recording_comes_back_as_it_was_saved(
    tmp_path: Path, stored: tuple[int, ...], yielded: tuple[int, ...]
) -> None:
    frames = np.random.default_rng(0).integers(0, 256, stored, dtype=np.uint8)
    labels = np.array([0, 1, 1, 0, 2, 2, 2])
    times = np.array([0.0, 0.5, 0.5, 1.0, 2.0, 2.5, 3.0])
    path = tmp_path / "stream.npz"
    save_npz(path, frames, labels, ["nul", "één", "two"], times)
    source = open_source(str(path))
    assert (source.name, source.shape, source.length, source.live) == (str(path), yielded, 7, False)
    assert (source.labels, source.rate_hz) == (("nul", "één", "two"), 2.0)
    for _ in range(2):
        read = list(source)
        np.testing.assert_array_equal(np.stack([frame.pixels for frame in read]), frames.reshape(7, *yielded))
        assert [frame.index for frame in read] == list(range(7))
        assert [frame.time_s for frame in read] == times.tolist()
        assert [frame.label for frame in read] == ["nul", "één", "één", "nul", "two", "two", "two"]


def test_a_recording_of_the_other_byte_order_reads_the_same(tmp_path: Path) -> None:
    big = {
        "labels": np.array([0, 1, 1], ">i4"),
        "names": np.array(["é", "bb"], ">U2"),
        "times": np.arange(3.0).astype(">f8"),
    }
    np.savez(tmp_path / "a.npz", **(GOOD | big))
    frames = list(open_source(str(tmp_path / "a.npz")))
    assert [(frame.label, frame.time_s) for frame in frames] == [("é", 0.0), ("bb", 1.0), ("bb", 2.0)]


def test_a_recording_of_frames_only_runs_at_ten_hertz(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", frames=np.zeros((3, 2, 2), np.uint8))
    source = open_source(str(tmp_path / "a.npz"))
    assert [(frame.time_s, frame.label) for frame in source] == [(0.0, None), (0.1, None), (0.2, None)]
    assert (source.labels, source.rate_hz) == (None, 10.0)


def test_frames_are_read_one_at_a_time(tmp_path: Path) -> None:
    """A recording of 200 MB of zeros costs no 200 MB."""
    import tracemalloc

    path = tmp_path / "long.npz"
    save_npz(path, np.zeros((800, 500, 500), np.uint8))
    tracemalloc.start()
    try:
        assert sum(int(frame.pixels[0, 0, 0]) + 1 for frame in open_source(str(path))) == 800
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


GOOD: dict[str, Any] = {
    "frames": np.zeros((3, 4, 4), np.uint8),
    "labels": np.array([0, 1, 1]),
    "names": np.array(["a", "b"]),
    "times": np.array([0.0, 1.0, 2.0]),
}
SHAPES = "(N, H, W), (N, H, W, C) or (N, T, H, W, C) with C 1 to 3, T up to 16, H and W up to 4096"
NAMES = "'names' must be 1 to 4096 texts of 1 to 64 characters; save them so"

BAD_ARRAYS = {
    "no frames": ({"frames": None}, "has no array 'frames' (it holds: labels, names, times); save it with that name"),
    "float frames": (
        {"frames": np.zeros((3, 4, 4))},
        "'frames' must be uint8, it is float64; convert it to 0-255 and save it again",
    ),
    "flat frames": ({"frames": np.zeros((3, 16), np.uint8)}, f"'frames' must be {SHAPES}; it is (3, 16)"),
    "four channels": ({"frames": np.zeros((3, 4, 4, 4), np.uint8)}, f"'frames' must be {SHAPES}; it is (3, 4, 4, 4)"),
    "no width": ({"frames": np.zeros((3, 4, 0), np.uint8)}, f"'frames' must be {SHAPES}; it is (3, 4, 0)"),
    "too wide": ({"frames": np.zeros((1, 1, 4097), np.uint8)}, f"'frames' must be {SHAPES}; it is (1, 1, 4097)"),
    "zero frames": ({"frames": np.zeros((0, 4, 4), np.uint8)}, "'frames' holds no frames; record some"),
    "no names": ({"names": None}, "has 'labels' but no 'names'; save the class names as 'names'"),
    "byte names": (
        {"names": np.array([b"a", b"b"])},
        "'names' has type '|S1'; save plain numbers (names as plain text)",
    ),
    "number names": ({"names": np.array([1, 2])}, NAMES),
    "empty name": ({"names": np.array(["", "b"])}, NAMES),
    "long name": ({"names": np.array(["a", "b" * 65])}, NAMES),
    "no name at all": ({"names": np.array([], dtype="<U1")}, NAMES),
    "a name twice": ({"names": np.array(["a", "a"])}, "'names' has a name twice; give each class its own"),
    "label too high": (
        {"labels": np.array([0, 2, 1])},
        "'labels' has 2, but 'names' has only 0 to 1; save it again",
    ),
    "label negative": (
        {"labels": np.array([0, -1, 1], np.int8)},
        "'labels' has -1, but 'names' has only 0 to 1; save it again",
    ),
    "float labels": (
        {"labels": np.zeros(3)},
        "'labels' must be 3 integers, one a frame; it is float64 of shape (3,)",
    ),
    "labels missing": (
        {"labels": np.array([0, 1])},
        "'labels' must be 3 integers, one a frame; it is int64 of shape (2,)",
    ),
    "times too many": (
        {"times": np.zeros(4)},
        "'times' must be 3 float64 seconds, one a frame; it is float64 of shape (4,)",
    ),
    "times float32": (
        {"times": np.zeros(3, np.float32)},
        "'times' must be 3 float64 seconds, one a frame; it is float32 of shape (3,)",
    ),
    "times nan": ({"times": np.array([0.0, np.nan, 1.0])}, "'times' holds NaN or infinity; save it again"),
    "times back": ({"times": np.array([0.0, 2.0, 1.0])}, "'times' goes back at frame 2; sort the frames by time"),
    "fortran order": (
        {"frames": np.asfortranarray(np.zeros((3, 4, 5), np.uint8))},
        "'frames' is in Fortran order; save it through numpy.ascontiguousarray",
    ),
    "records": (
        {"times": np.zeros(3, dtype=[("s", "<f8")])},
        "'times' has type [('s', '<f8')]; save plain numbers (names as plain text)",
    ),
}


@pytest.mark.parametrize(("change", "problem"), BAD_ARRAYS.values(), ids=BAD_ARRAYS.keys())
def test_a_recording_with_wrong_arrays_says_which(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    arrays = {name: array for name, array in (GOOD | change).items() if array is not None}
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    assert error_of(path) == f"{path}: {problem}"


@pytest.mark.parametrize("case", ["float frames", "four channels", "no names", "label too high", "times back"])
def test_what_cannot_be_read_is_not_written(tmp_path: Path, case: str) -> None:
    change, problem = BAD_ARRAYS[case]
    arrays = GOOD | change
    path = tmp_path / "a.npz"
    with pytest.raises(SourceError) as caught:
        save_npz(path, **arrays)
    assert str(caught.value) == f"{path}: {problem}"
    assert not path.exists()


def test_a_recording_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a.npz"
    with pytest.raises(SourceError, match=r"a\.npz: cannot be written \(No such file or directory\); check the folder"):
        save_npz(path, np.zeros((1, 2, 2), np.uint8))


class Bomb:
    """Fails the test when unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return pytest.fail, ("a pickle was loaded",)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, frames=np.zeros((1, 2, 2), np.uint8), names=np.array([Bomb()], dtype=object))
    advice = "holds pickled Python objects, which are never loaded; save plain numbers"
    assert error_of(path) == f"{path}: 'names' {advice}"


def npz_of(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return out.getvalue()


def npy(header: str, body: bytes = b"") -> bytes:
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


NOT_NUMPYS = "the header of 'frames' is not numpy's; save the file again with numpy.savez"


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (
            npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000, 4096, 4096, 3)}", bytes(48)),
            "'frames' claims 50331648000000 bytes and holds 48; copy the file again",
        ),
        (
            npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({2**40}, {2**40})}}"),
            f"'frames' claims {2**80} bytes and holds 0; copy the file again",
        ),
        (
            npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 2, 2)}", bytes(5)),
            "'frames' claims 4 bytes and holds 5; copy the file again",
        ),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 2, 2)}"), NOT_NUMPYS),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (True, 2, 2)}"), NOT_NUMPYS),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': 4}"), NOT_NUMPYS),
        (npy("{'descr': '|u1'}"), NOT_NUMPYS),
        (npy("{'descr': '<i3', 'fortran_order': False, 'shape': (1,)}"), NOT_NUMPYS),
        (npy("[" * 3000), NOT_NUMPYS),
        (npy("__import__('os').abort()"), NOT_NUMPYS),
        (npy(""), NOT_NUMPYS),
        (npy("x" * 5000), NOT_NUMPYS),
        (b"\x93NUMPY\x09\x00" + bytes(100), NOT_NUMPYS),
        (b"\x93NUMPY\x02\x00\x01", NOT_NUMPYS),
        (b"", NOT_NUMPYS),
    ],
)
def test_a_lying_header_is_caught_before_memory_is_asked_for(tmp_path: Path, member: bytes, problem: str) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(npz_of(frames=member))
    assert error_of(path) == f"{path}: {problem}"


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for code in (0x110000, 0xD800):  # beyond Unicode; half a character
        names = npy("{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}", code.to_bytes(4, "little"))
        frames = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 1, 1)}", b"x")
        path.write_bytes(npz_of(frames=frames, names=names))
        assert error_of(path) == f"{path}: 'names' is not Unicode text; save the file again"


DAMAGED = "truncated, damaged or no .npz at all; copy it again"


@pytest.mark.parametrize("keep", [0, 1, 100, 400, -1])
def test_a_truncated_recording_says_so(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.npz"
    save_npz(path, **GOOD)
    path.write_bytes(path.read_bytes()[:keep])
    assert error_of(path) == f"{path}: {DAMAGED}"


def test_another_compression_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("frames.npy", b"x")
    assert error_of(path) == f"{path}: 'frames' is compressed in another way than numpy does; save it with numpy.savez"


def good_npz() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **GOOD)
    return out.getvalue()


GOOD_NPZ = good_npz()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(GOOD_NPZ) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_damaged_bytes_raise_one_error_or_change_nothing(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD_NPZ)
    for place, mask in flips:
        data[place] ^= mask
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    try:
        sums = [int(frame.pixels.sum()) for frame in open_source(str(path))]
    except SourceError:
        return
    assert sums == [0, 0, 0]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=120).map(lambda tail: b"\x93NUMPY\x01\x00" + tail)))
@example(npy("{'descr': '|u1', 'fortran_order': False, 'shape': (" + "(" * 1000))
def test_any_bytes_as_an_array_raise_one_error(tmp_path: Path, member: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(npz_of(frames=member))
    assert error_of(path).startswith(f"{path}: ")


# --- cameras ----------------------------------------------------------------------------------------------------


class FakeCapture:
    """OpenCV's VideoCapture of a camera that gives `frames` BGR frames and then ends."""

    def __init__(self, frames: int, fps: float) -> None:
        self.left, self.fps, self.released = frames, fps, False

    def isOpened(self) -> bool:
        return self.left >= 0

    def read(self) -> tuple[bool, NDArray[np.uint8] | None]:
        if self.left <= 0:
            return False, None
        self.left -= 1
        return True, np.full((4, 6, 3), (1, 2, 3), np.uint8)

    def get(self, _: int) -> float:
        return self.fps

    def release(self) -> None:
        self.released = True


def plug_in(monkeypatch: pytest.MonkeyPatch, capture: FakeCapture) -> None:
    cv2 = types.ModuleType("cv2")
    vars(cv2).update(
        VideoCapture=lambda number: capture,
        CAP_PROP_FPS=5,
        COLOR_BGR2RGB=4,
        cvtColor=lambda image, code: image[..., ::-1],
    )
    monkeypatch.setitem(sys.modules, "cv2", cv2)


def test_a_camera_gives_rgb_frames_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    capture = FakeCapture(frames=3, fps=25.0)
    plug_in(monkeypatch, capture)
    source: Source = open_source("camera:2")
    assert (source.name, source.shape, source.rate_hz, source.length, source.labels, source.live) == (
        "camera:2",
        (4, 6, 3),
        25.0,
        None,
        None,
        True,
    )
    frames: list[Frame] = []
    with pytest.raises(SourceError, match=r"^camera:2: no frame after 3 frames; check its cable and start again$"):
        frames.extend(source)
    assert [frame.index for frame in frames] == [0, 1, 2]
    source.close()
    assert capture.released


def test_camera_frames_are_counted_and_stamped(monkeypatch: pytest.MonkeyPatch) -> None:
    plug_in(monkeypatch, FakeCapture(frames=3, fps=0.0))
    source = open_source("camera:0")
    assert source.rate_hz == 30.0
    seen = [frame for frame, _ in zip(source, range(2), strict=False)]
    assert [frame.index for frame in seen] == [0, 1]
    assert 0 <= seen[0].time_s <= seen[1].time_s
    assert seen[0].pixels[0, 0].tolist() == [3, 2, 1]
    assert seen[0].label is None


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (-1, "camera 0 cannot be opened; check that it is plugged in and that no other program uses it"),
        (0, "camera:0: no frame after 0 frames; check its cable and start again"),
    ],
)
def test_a_camera_that_does_not_work_is_given_back(monkeypatch: pytest.MonkeyPatch, frames: int, text: str) -> None:
    capture = FakeCapture(frames=frames, fps=30.0)
    plug_in(monkeypatch, capture)
    assert error_of("camera:0") == text
    assert capture.released


def test_images_without_pillow_name_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "a.png")
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingPackage) as caught:
        open_source(str(tmp_path))
    assert str(caught.value) == (
        "reading images needs the package 'pillow'; install it with: pip install 'ecc-snn[images]'"
    )


def test_a_camera_without_opencv_names_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        MissingPackage, match=r"^camera 0 needs the package 'opencv-python-headless'; install it with: "
    ):
        open_source("camera:0")
