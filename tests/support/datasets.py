"""Small data sets in the official layouts, and a web server that can break off."""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from PIL import Image

from ecc_tools.data.cifar import LAYOUTS, Layout

CIFAR_NAMES = [b"plane", b"car", b"bird"]


def write_image(path: Path, height: int = 10, width: int = 12, *, mode: str = "RGB", seed: int = 0) -> Path:
    """A picture of noise, coarse enough to survive JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((width, height), Image.Resampling.NEAREST).convert(mode).save(path)
    return path


def write_classes(folder: Path, counts: dict[str, int], *, height: int = 10, width: int = 12) -> Path:
    """A folder with so many PNGs of each class."""
    for label, (name, count) in enumerate(counts.items()):
        for index in range(count):
            write_image(folder / name / f"{index:03}.png", height, width, seed=100 * label + index)
    return folder


def cifar_batch(labels: list[int], *, seed: int = 0, key: str = "labels") -> dict[bytes, object]:
    """What an official file holds: pixels by colour, row and column."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    names = [b"image_%d.png" % index for index in range(len(labels))]
    return {b"batch_label": b"a batch", key.encode(): labels, b"data": pixels, b"filenames": names}


def write_cifar(root: Path, *, protocol: int = 2) -> Layout:
    """A CIFAR-10 of three classes and few images; returns its layout, with the MD5 of these files."""
    layout = LAYOUTS["cifar-10"]
    folder = root / layout.folder
    folder.mkdir(parents=True)
    content = {name: cifar_batch([0, 1, 2, 0], seed=index) for index, (name, _) in enumerate(layout.training)}
    content |= {
        layout.test[0]: cifar_batch([2, 1, 0], seed=9),
        layout.meta[0]: {b"label_names": CIFAR_NAMES, b"num_vis": 3072},
    }
    sums = {}
    for name, value in content.items():
        blob = pickle.dumps(value, protocol=protocol)
        (folder / name).write_bytes(blob)
        sums[name] = hashlib.md5(blob, usedforsecurity=False).hexdigest()
    return replace(
        layout,
        training=tuple((name, sums[name]) for name, _ in layout.training),
        test=(layout.test[0], sums[layout.test[0]]),
        meta=(layout.meta[0], sums[layout.meta[0]]),
    )


def write_tiny_imagenet(root: Path) -> Path:
    """Two of four classes of a Tiny ImageNet with three training and two validation images each."""
    folder = root / "tiny-imagenet-200"
    for label, wnid in enumerate(("n02", "n01")):
        for index in range(3):
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{index}.JPEG", 64, 64, seed=10 * label + index)
    (folder / "wnids.txt").write_text("n02\nn04\nn01\nn03\n")
    (folder / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tbanana\nn03\tcrane\nn04\tcrane\n")
    rows = [("val_0.JPEG", "n01"), ("val_1.JPEG", "n02"), ("val_2.JPEG", "n02"), ("val_3.JPEG", "n01")]
    for index, (name, _) in enumerate(rows):
        write_image(folder / "val" / "images" / name, 64, 64, seed=50 + index)
    lines = [f"{name}\t{wnid}\t0\t0\t62\t62\n" for name, wnid in rows]
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    return folder


@dataclass
class WebServer:
    """Files over HTTP. `cut_after`: each answer breaks off after so many bytes, though it promised more."""

    files: dict[str, bytes]
    ranges: bool = True
    cut_after: int | None = None
    asked: list[tuple[str, str | None]] = field(default_factory=list)  # path, and the Range header
    url: str = ""


@contextlib.contextmanager
def web_server(files: dict[str, bytes]) -> Iterator[WebServer]:
    """A running server on a free port of 127.0.0.1."""
    served = WebServer(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers["Range"]
            served.asked.append((self.path, wanted))
            content = served.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and served.ranges else 0
            if wanted and served.ranges and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if wanted and served.ranges else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = len(content) if served.cut_after is None else start + served.cut_after
            self.wfile.write(content[start:end])
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
