"""Unpacking one folder of an archive that nobody trusts: plain files only, inside of it, up to a size."""

from __future__ import annotations

import functools
import hashlib
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from ecc_tools.data.errors import DataCorrupt, DataUnreadable

CHUNK = 1 << 16
MAX_BYTES = 2 << 30  # unpacked; the largest set has 0.5 GB
MAX_FILES = 250_000  # Tiny ImageNet has 120,206
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    RuntimeError,
    KeyError,
)
Members = Iterator[tuple[str, Callable[[], IO[bytes] | None] | None]]  # name, and its content unless it is no file


def unpack(archive: Path, folder: str, into: Path, told: Callable[[float], None], *, inner: str = "") -> dict[str, str]:
    """Unpack `folder` of a .zip or .tar.gz to `into`; returns the SHA-256 (hex) of each file by its path.

    inner: an archive inside the archive that holds the folder. `told` hears the finished share. Nothing appears at
    `into / folder` before all is unpacked. `DataCorrupt`: damaged, without the folder, or holding links, paths
    that lead out of it, or too much.
    """
    waiting = into / f".{folder}.unpacking"
    shutil.rmtree(waiting, ignore_errors=True)
    try:
        with archive.open("rb") as stream:
            size = archive.stat().st_size
            members = _members(stream, archive.name, inner)
            sums = _write_all(members, archive, folder, waiting, lambda: told(stream.tell() / size))
        if not sums:
            raise DataCorrupt(archive, f"no folder '{folder}' in it")
        (waiting / folder).rename(into / folder)
    except _DAMAGED as exc:
        raise DataCorrupt(archive, f"damaged ({str(exc) or type(exc).__name__})") from exc
    except OSError as exc:
        raise DataUnreadable(archive if exc.filename is None else Path(exc.filename), exc) from exc
    finally:
        shutil.rmtree(waiting, ignore_errors=True)
    return sums


def _members(stream: IO[bytes], name: str, inner: str) -> Members:
    """All members but folders."""
    if not name.endswith(".zip"):
        with tarfile.open(fileobj=stream, mode="r|gz") as tar:
            for entry in tar:
                if not entry.isdir():
                    yield entry.name, functools.partial(tar.extractfile, entry) if entry.isreg() else None
        return
    with zipfile.ZipFile(stream) as packed:
        if inner:
            with packed.open(inner) as content:
                yield from _members(content, inner, "")
            return
        for info in packed.infolist():
            if not info.is_dir():
                kind = stat.S_IFMT(info.external_attr >> 16)
                plain = kind in (0, stat.S_IFREG) and info.compress_type in _ZIP_METHODS
                yield info.filename, functools.partial(packed.open, info) if plain else None


def _write_all(
    members: Members, archive: Path, folder: str, waiting: Path, written: Callable[[], None]
) -> dict[str, str]:
    sums: dict[str, str] = {}
    left = MAX_BYTES
    for name, content in members:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            raise DataCorrupt(archive, f"{name!r} in it leads out of its folder")
        if path.parts[:1] != (folder,):
            continue
        stream = content() if content else None
        if stream is None:
            raise DataCorrupt(archive, f"{name!r} in it is no plain file")
        if path.as_posix() in sums:
            raise DataCorrupt(archive, f"{name!r} is in it twice")
        if len(sums) == MAX_FILES:
            raise DataCorrupt(archive, f"more than {MAX_FILES:,} files in it")
        target = waiting / path
        target.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with stream, target.open("xb") as out:
            while chunk := stream.read(CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise DataCorrupt(archive, f"more than {MAX_BYTES:,} bytes in it")
                digest.update(chunk)
                out.write(chunk)
        sums[path.as_posix()] = digest.hexdigest()
        written()
    return sums
