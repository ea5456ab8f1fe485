"""Where frames come from: a folder of images, an .npz recording, a camera."""

from __future__ import annotations

from pathlib import Path

from ecc_device.camera import Camera
from ecc_device.frame import Frame, Source
from ecc_device.imagefolder import IMAGE_SUFFIXES, ImageFolder
from ecc_device.recording import NpzRecording, save_npz
from ecc_model.errors import SourceError

__all__ = ["Camera", "Frame", "ImageFolder", "NpzRecording", "Source", "open_source", "save_npz"]

_CAMERA = "camera:"
_ACCEPTED = f"a source is a folder of images ({', '.join(IMAGE_SUFFIXES)}), an .npz of frames, or camera:N"


def open_source(spec: str) -> Source:
    """Open what `spec` names. Raises `SourceError`, and `MissingPackage` for a camera without OpenCV."""
    if spec.startswith(_CAMERA):
        number = spec[len(_CAMERA) :]
        if not (number.isascii() and number.isdigit()):
            raise SourceError(f"{spec}: '{number}' is not a camera number; {_ACCEPTED}")
        return Camera(int(number))
    path = Path(spec)
    if path.is_dir():
        return ImageFolder(path)
    if not path.exists():
        raise SourceError(f"{spec}: no such file or folder; {_ACCEPTED}")
    if path.suffix.lower() == ".npz":
        return NpzRecording(path)
    raise SourceError(f"{spec}: not a known kind of source; {_ACCEPTED}")
