"""Downloading a file that may be interrupted: what has come stays in a `.part` file, and the next try goes on."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecc_tools.data.errors import DataUnreadable, DownloadFailed

CHUNK = 1 << 16
TIMEOUT_S = 30.0  # without a byte
MAX_BYTES = 1 << 30  # the largest archive has 250 MB
_AGAIN = "run the same command again to go on from there"


def download(url: str, target: Path, md5: str, told: Callable[[float], None]) -> None:
    """Bring `url` to `target`, and check it there; `told` hears the finished share.

    `DownloadFailed`: not found, interrupted, larger than `MAX_BYTES`, or not what `md5` says; `DataUnreadable` where
    the disk refuses.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        have = part.stat().st_size if part.exists() else 0
        with part.open("ab") as stream:
            _transfer(url, stream, have, told)
        if md5_of(part) != md5:
            part.unlink()
            raise DownloadFailed(url, "what came has not the official checksum and was removed", "fetch the set again")
        part.replace(target)
    except OSError as exc:
        raise DataUnreadable(part, exc) from exc


def md5_of(path: Path) -> str:
    """MD5 of a file, as hex."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _transfer(url: str, stream: Any, have: int, told: Callable[[float], None]) -> None:
    """Append to `stream` what is missing after `have` bytes, or all of it if the server does not know ranges."""
    response = _ask(url, have)
    if response is None:
        return
    with response:
        if response.status != http.client.PARTIAL_CONTENT:
            have = 0
            stream.truncate(0)
        length = response.headers.get("Content-Length")
        total = have + int(length) if length is not None and length.isdigit() else None
        while have <= MAX_BYTES:
            try:
                chunk = response.read(CHUNK)
            except (OSError, http.client.HTTPException) as exc:
                raise DownloadFailed(url, f"interrupted after {have:,} bytes ({_reason(exc)})", _AGAIN) from exc
            if not chunk:
                break
            stream.write(chunk)
            have += len(chunk)
            told(have / total if total else 0.0)
    if have > MAX_BYTES:
        raise DownloadFailed(url, f"more than {MAX_BYTES:,} bytes", "its server sends something else today")
    if total is not None and have < total:
        raise DownloadFailed(url, f"interrupted after {have:,} of {total:,} bytes", _AGAIN)


def _ask(url: str, have: int) -> Any:
    """The server's answer from byte `have` on; None where nothing is left to send."""
    headers = {"User-Agent": "ecc-snn"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)
    except urllib.error.HTTPError as exc:
        with exc:
            if have and exc.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                return None
            raise DownloadFailed(url, f"the server answers {exc.code} {exc.reason}", "try again later") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise DownloadFailed(url, f"cannot be reached ({_reason(exc)})", "check the network, then try again") from exc


def _reason(error: Exception) -> str:
    cause = getattr(error, "reason", error)
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__)
