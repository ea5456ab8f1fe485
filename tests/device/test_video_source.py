"""Video files: what PyAV writes comes back, and what is none is refused."""

from __future__ import annotations

import sys
import wave
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from ecc_device.sources import open_source
from ecc_model.errors import MissingPackage, SourceError

av = pytest.importorskip("av")


def film(path: Path, count: int = 12, *, codec: str = "mpeg4", rate: int = 5) -> Path:
    """Grey frames that become brighter, 64 x 32 pixels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index in range(count):
            pixels = np.full((32, 64, 3), 20 * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def error_of(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        list(open_source(str(path)))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".MOV"])
def test_a_video_gives_its_frames_at_their_times(tmp_path: Path, suffix: str) -> None:
    source = open_source(str(film(tmp_path / f"a{suffix}")))
    assert (source.shape, source.rate_hz, source.labels, source.live) == ((32, 64, 3), 5.0, None, False)
    assert source.length in (12, None)
    for _ in range(2):
        frames = list(source)
        assert [frame.index for frame in frames] == list(range(12))
        np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(12) / 5, atol=2e-3)
        assert all(abs(frame.pixels.astype(int) - 20 * frame.index).max() <= 6 for frame in frames)


def test_a_video_cut_off_gives_what_can_be_decoded(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mpg", codec="mpeg2video", rate=25)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert 0 < sum(1 for _ in open_source(str(path))) < 12


@pytest.mark.parametrize("data", [b"", b"no video", bytes(4096)])
def test_what_is_no_video_is_said(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    assert error_of(path) == f"{path}: truncated, damaged or no video at all; copy it again"


def test_a_file_of_sound_has_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    assert error_of(path) == f"{path}: holds no video stream; choose another file"


def test_an_unknown_codec_is_said(tmp_path: Path) -> None:
    path = film(tmp_path / "a.avi")
    data = path.read_bytes()
    assert data.count(b"FMP4") == 2
    path.write_bytes(data.replace(b"FMP4", b"ZZZ9"))
    assert error_of(path) == f"{path}: its video codec is not known here; convert it to H.264"


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingPackage) as caught:
        open_source(str(path))
    assert str(caught.value) == (
        "the video a.mp4 needs the package 'av'; install it with: pip install 'ecc-snn[video]'"
    )


def test_a_damaged_frame_is_named_by_its_number(tmp_path: Path) -> None:
    path = film(tmp_path / "a.avi", codec="mjpeg", count=6)
    data = bytearray(path.read_bytes())
    starts = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xd8"]
    assert len(starts) == 6
    data[starts[3] : starts[4] - 8] = bytes(starts[4] - 8 - starts[3])
    path.write_bytes(bytes(data))
    assert error_of(path) == f"{path}: frame 3 cannot be decoded; copy the file again"
