"""What the tests of the running device share. Nothing here loads torch: the other tests of this folder need none."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.models import TinyModels
    from support.workers import World


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Every frame is ambiguous to this edge model, which torch writes."""
    pytest.importorskip("torch")
    from support.models import write_tiny_models

    return write_tiny_models(Path(tmp_path_factory.mktemp("models")), threshold=0.0)


@pytest.fixture
def world(models: TinyModels, tmp_path: Path) -> Iterator[World]:
    """A broker, a worker whose answers the test decides, and devices, in one process."""
    from support.workers import World

    world = World(models, tmp_path)
    yield world
    world.close()


@pytest.fixture
def small_disk() -> Iterator[Callable[[str], list[str]]]:
    """Wraps a shell command so that `$D` is a file system of 4 MiB of its own."""
    with tempfile.TemporaryDirectory() as mount:

        def wrap(shell: str) -> list[str]:
            return ["unshare", "-rm", "sh", "-c", f"D={mount}; mount -t tmpfs -o size=4m tmpfs $D && {shell}"]

        try:
            possible = subprocess.run(wrap("true"), capture_output=True, check=False).returncode == 0
        except FileNotFoundError:
            possible = False
        if not possible:
            pytest.skip("unshare cannot mount a file system of its own here")
        yield wrap
