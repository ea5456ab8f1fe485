"""Where frames come from: images, videos, recordings, event cameras, cameras.

| what                              | as                                          | needs the extra |
|-----------------------------------|---------------------------------------------|-----------------|
| images, one folder for each class | `photos/`                                   | `images`        |
| frames of numpy                   | `stream.npz`                                |                 |
| video                             | `drive.mp4` and other suffixes              | `video`         |
| a recording of this software      | `out.mcap`                                  | `mcap`          |
| images of a ROS 2 recording       | `bag.mcap` or `bag.mcap#/camera/image_raw`  | `mcap`          |
| events: N-MNIST, EVT 2            | `hand.raw#steps=4,ms=50`, `digits/#steps=4` |                 |
| a camera                          | `camera:0`                                  | `camera`        |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ecc_device.frame import Frame, Source
from ecc_device.recordings.recording import Recording, is_recording
from ecc_device.sources.camera import Camera
from ecc_device.sources.events import EVENT_SUFFIXES, EventFolder, EventRecording, parse_slicing
from ecc_device.sources.imagefolder import ImageFolder
from ecc_device.sources.listing import holds
from ecc_device.sources.npz import NpzRecording, save_npz
from ecc_device.sources.rosimages import RosImages
from ecc_device.sources.video import VIDEO_SUFFIXES, VideoFile
from ecc_model.errors import SourceError

__all__ = ["ACCEPTED", "Camera", "Frame", "ImageFolder", "NpzRecording", "Source", "open_source", "save_npz"]

_CAMERA = "camera:"
_OTHER_CAMERA = re.compile(r"(?:/dev/video)?([0-9]+)")  # as OpenCV and Linux call it
ACCEPTED = "a folder of images or events, a video, .npz, .mcap, .raw or .bin file, or camera:N"
_ACCEPTED = f"a source is {ACCEPTED}"


def open_source(spec: str) -> Source:
    """Open what `spec` names. Raises `SourceError`, and `MissingPackage` where a kind of source needs an extra."""
    if spec.startswith(_CAMERA):
        number = spec[len(_CAMERA) :]
        if not (number.isascii() and number.isdigit()):
            raise SourceError(f"{spec}: '{number}' is not a camera number; {_ACCEPTED}")
        return Camera(int(number))
    named = _OTHER_CAMERA.fullmatch(spec)
    if named is not None and not Path(spec).is_dir():
        raise SourceError(f"{spec}: a camera is given as {_CAMERA}{named[1]}")
    if "://" in spec:
        raise SourceError(
            f"{spec}: cameras behind a network are not read; read them in a program of yours, which calls "
            "ecc_snn.Edge.classify for each frame"
        )
    name, _, how = (spec, "", "") if Path(spec).exists() else spec.partition("#")
    path = Path(name)
    if path.is_dir():
        return _folder(path, how)
    if not path.exists():
        raise SourceError(f"{spec}: no such file or folder; {_ACCEPTED}")
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        raise SourceError(f"{spec}: not a known kind of source; {_ACCEPTED}")
    if how and path.suffix.lower() in _PLAIN:
        raise SourceError(f"{spec}: nothing is to be said about a {path.suffix} file; leave out '#{how:.40}'")
    return opener(path, how)


def _folder(path: Path, how: str) -> Source:
    if holds(path, EVENT_SUFFIXES):
        return EventFolder(path, parse_slicing(how))
    return ImageFolder(path)


def _mcap(path: Path, topic: str) -> Source:
    return RosImages(path, topic or None) if topic or not is_recording(path) else Recording(path)


_PLAIN = (".npz", *VIDEO_SUFFIXES)
_OPENERS: dict[str, Callable[[Path, str], Source]] = {
    ".npz": lambda path, _: NpzRecording(path),
    ".mcap": _mcap,
    **dict.fromkeys(EVENT_SUFFIXES, lambda path, how: EventRecording(path, parse_slicing(how))),
    **dict.fromkeys(VIDEO_SUFFIXES, lambda path, _: VideoFile(path)),
}
