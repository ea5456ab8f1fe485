"""Every error that ecc-snn raises on purpose, in one tree.

EccError
├── MissingPackage          an optional package is not installed
├── MissingEngine           an engine whose library is not installed
├── FrameError              a frame of another size, type or channel count
├── ModelError              a model file that cannot be used
│   ├── ModelNotFound
│   ├── ModelCorrupt        truncated, altered, or not a model file at all
│   ├── ModelFormat         written in another format version
│   ├── WrongKind           a worker's model given to a device, or a device's to a worker
│   ├── ProgramMissing      a plain PyTorch checkpoint: no integer program inside
│   └── CompileError        a network that cannot become an integer program
├── WireError               bytes that are not a valid message
├── LinkError               broker address, connection or start of a broker
│   └── IncompatibleFeatures  no worker can read what this device sends
├── SourceError             frames cannot be read
├── StoreError              the device's database cannot be opened or written
│   ├── StoreFull
│   ├── StoreLocked
│   └── RowRefused          a row larger than the whole buffer
├── DeviceError             a command that a device cannot carry out
│   ├── DeviceNotRunning    no device runs in the state folder
│   └── ReplayDiffers       a replay is not what was expected
└── UpdateError             an update that could not be made

Each error states the fact and then the remedy, in one line. Foreign errors are wrapped (`raise ... from exc`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class EccError(Exception):
    """Base of all errors above; `str(error)` is one line: what, where, remedy."""


class MissingPackage(EccError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs the package '{package}'; install it with: pip install 'ecc-snn[{extra}]'")


class MissingEngine(EccError):
    """An engine is asked for whose library is not installed."""

    def __init__(self, engine: str, library: str, command: str) -> None:
        super().__init__(f"the engine '{engine}' needs {library}, which is not installed; install it with: {command}")


class FrameError(EccError):
    """A frame does not fit the network."""


class ModelError(EccError):
    """Base of all errors about model files."""


class ModelNotFound(ModelError):
    """There is no such file."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(f"{path}: no such model file; check the path, or make one with: ecc-tools demo-train")


class ModelCorrupt(ModelError):
    """The file is damaged or is no model file."""

    def __init__(self, path: Path | str, problem: str) -> None:
        super().__init__(f"{path}: not a usable model file ({problem}); copy it again from where it was made")


class ModelFormat(ModelError):
    """The file is a model file, but in a format that this version cannot read."""

    def __init__(self, path: Path | str, found: str, wanted: str) -> None:
        super().__init__(f"{path}: model file of {found}, this version reads {wanted}; update ecc-snn or compile again")


class WrongKind(ModelError):
    """The file is a model file, but for the other side of the link."""

    def __init__(self, path: Path | str, found: str, wanted: str) -> None:
        super().__init__(
            f"{path}: a model of kind {found[:20]!r} where one of kind '{wanted}' is needed; "
            "give vgg9.pt to ecc-device and cloud.pt to ecc-cloud"
        )


class ProgramMissing(ModelError):
    """A PyTorch checkpoint without an integer program."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            f"{path}: a PyTorch checkpoint without an integer program; compile it with: "
            f"ecc-tools compile {path} --data VALIDATION.npz --steps T --out vgg9.pt"
        )


class CompileError(ModelError):
    """A network that cannot become an integer program."""


class WireError(EccError):
    """Bytes that are not a valid message, or spikes that do not fit their shape."""


class LinkError(EccError):
    """The broker's address, connection or start."""


class IncompatibleFeatures(LinkError):
    """The cloud's workers read other features than this device sends."""

    def __init__(self, have: str, want: Sequence[str]) -> None:
        readable = ", ".join(want) or "none"
        super().__init__(
            f"the cloud cannot read features {have} (it reads: {readable}); "
            "start ecc-cloud with the cloud.pt made together with this device's model"
        )


class SourceError(EccError):
    """Frames cannot be read from a source."""


class StoreError(EccError):
    """The device's database cannot be opened, read or written."""


class StoreFull(StoreError):
    """No room on the disk for another row."""


class StoreLocked(StoreError):
    """Another process owns the state folder."""


class RowRefused(StoreError):
    """A row larger than the whole buffer; the store has counted it already."""


class DeviceError(EccError):
    """A command that a device cannot carry out now."""


class DeviceNotRunning(DeviceError):
    """No device runs in a state folder."""

    def __init__(self, folder: Path | str) -> None:
        super().__init__(f"no device is running in {folder}; start one with: ecc-device start --model vgg9.pt")


class ReplayDiffers(DeviceError):
    """A replay's result is not the expected one. Values as text."""

    def __init__(self, frame: int, field: str, found: str, expected: str, golden: str) -> None:
        super().__init__(
            f"frame {frame}: {field} is {found}, expected {expected} (as in {golden}); "
            f"see how it came to that with: ecc-device why {frame} --recording {golden}"
        )
        self.frame, self.field, self.found, self.expected = frame, field, found, expected


class UpdateError(EccError):
    """An update that could not be made."""
