"""Choosing an engine: by name, by default, and what is said when one is not installed."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ecc_device import engines
from ecc_device.engines import ENGINES, EventEngine, NumpyEngine, arena, make_engine
from ecc_model import native
from ecc_model.errors import DeviceError, EccError, MissingEngine
from support.engines import installed_engines
from support.processes import run
from support.programs import small_program

if TYPE_CHECKING:
    from support.models import TinyModels

MISSING = (
    "the engine 'event' needs ecc-snn's C library, which is not installed; "
    "install it with: pip install --force-reinstall --no-deps . (in the checkout, with a C compiler)"
)


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where the package was installed without a compiler."""
    monkeypatch.setattr(arena, "library", lambda: None)
    engines._warn_once.cache_clear()
    yield
    engines._warn_once.cache_clear()


@pytest.mark.skipif(native.library() is None, reason="the C library is not built")
def test_the_event_engine_runs_by_default() -> None:
    assert isinstance(make_engine(None, small_program()), EventEngine)


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_is_called_as_it_is_chosen(name: str) -> None:
    if name not in installed_engines():
        pytest.skip(f"the engine '{name}' is not installed")
    assert make_engine(name, small_program()).name == name


def test_an_unknown_engine_is_named_with_the_known_ones() -> None:
    with pytest.raises(DeviceError) as caught:
        make_engine("quantum", small_program())
    assert str(caught.value) == "there is no engine 'quantum'; choose one of: event, numpy, reference, tflite, torch"


@pytest.mark.parametrize("threads", [0, 65])
def test_a_number_of_threads_that_makes_no_sense_is_refused(threads: int) -> None:
    with pytest.raises(DeviceError, match=rf"^an engine has 1 to 64 threads, not {threads}$"):
        make_engine("event", small_program(), threads)


@pytest.mark.parametrize("name", ["numpy", "reference", "torch"])
def test_an_engine_that_cannot_be_told_its_threads_is_refused_more(name: str) -> None:
    with pytest.raises(DeviceError, match=rf"^the engine '{name}' has as many threads as its library takes; "):
        make_engine(name, small_program(), 2)


@pytest.mark.usefixtures("no_library")
def test_an_engine_that_is_asked_for_and_missing_names_the_command_that_installs_it() -> None:
    with pytest.raises(MissingEngine) as caught:
        make_engine("event", small_program())
    assert str(caught.value) == MISSING
    assert isinstance(caught.value, EccError)


@pytest.mark.usefixtures("no_library")
def test_without_the_library_numpy_runs_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ecc_device"):
        made = [make_engine(None, small_program()) for _ in range(3)]
    assert [type(engine) for engine in made] == [NumpyEngine] * 3
    assert caplog.messages == [f"{MISSING}; until then the engine 'numpy' runs, which is several times slower"]


def test_a_device_says_it_once_and_goes_on(models: TinyModels, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from ecc_model.modelfile import read_edge\n"
        "from ecc_device.engines import make_engine\n"
        "program = read_edge(sys.argv[1]).program\n"
        "print([make_engine(None, program).name for _ in range(2)])\n"
    )
    command = [sys.executable, "-c", script, str(models.edge)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60, env={"ECC_NATIVE": "0", "OMP_NUM_THREADS": "1"}
    )
    assert done.stdout == "['numpy', 'numpy']\n"
    assert done.stderr.splitlines() == [f"{MISSING}; until then the engine 'numpy' runs, which is several times slower"]


def test_a_replay_gives_the_same_results_with_every_engine(models: TinyModels, tmp_path: Path) -> None:
    names = installed_engines()
    np.savez(tmp_path / "stream.npz", frames=np.random.default_rng(0).integers(0, 256, (5, 16, 16, 1), np.uint8))
    for name in names:
        done = run(
            *("ecc-device", "replay", "stream.npz", "--engine", name, "--model", models.edge, "--results", name),
            cwd=tmp_path,
            ECC_STATE=str(tmp_path / f"state-{name}"),
        )
        told = [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]  # TensorFlow Lite's own
        assert (done.returncode, told) == (0, ["offline: no broker given; working alone"])
    results = {(tmp_path / name).read_text() for name in names}
    assert len(results) == 1
    assert len(results.pop().splitlines()) == 5


@pytest.mark.parametrize("command", ["start", "replay"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("guess", "there is no engine 'guess'; choose one of: event, numpy, reference, tflite, torch"),
        ("event", MISSING),
    ],
)
def test_commands_tell_of_an_engine_that_is_not_there(
    command: str, name: str, text: str, models: TinyModels, tmp_path: Path
) -> None:
    np.savez(tmp_path / "one.npz", frames=np.zeros((1, 16, 16, 1), np.uint8))
    source = ["one.npz"] if command == "replay" else ["--source", "one.npz"]
    done = run(
        "ecc-device",
        command,
        *source,
        "--model",
        models.edge,
        "--engine",
        name,
        cwd=tmp_path,
        ECC_NATIVE="0",
        ECC_STATE=str(tmp_path / "state"),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == f"error: {text}"
