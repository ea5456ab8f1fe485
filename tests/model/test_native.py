"""The optional C library: built where there is a compiler, missed quietly where there is none, refused if another's."""

from __future__ import annotations

import ctypes
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ecc_model import native
from support.imports import ROOT

HEADERS = "\n".join(path.read_text() for path in sorted((ROOT / "model/ecc_model/native").glob("*.h")))
COMPILER = shutil.which(os.environ.get("CC", "cc"))

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")


def build(folder: Path, compiler: str | None) -> tuple[subprocess.CompletedProcess[str], Path]:
    """`setup.py build_ext` on the smallest part of the library; the result and where it should be."""
    pytest.importorskip("setuptools", minversion="77")
    (folder / "model/ecc_model/native").mkdir(parents=True)
    sources = ("model/ecc_model/native/native.c", "model/ecc_model/native/native.h")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", *sources):
        shutil.copy(ROOT / name, folder / name)
    (folder / "model/ecc_model/__init__.py").touch()
    environment = {key: value for key, value in os.environ.items() if key not in ("CC", "CFLAGS", "LDSHARED")}
    if compiler is not None:
        environment["CC"] = compiler
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    return done, folder / "model/ecc_model" / native.FILE.name


@needs_compiler
def test_a_compiler_builds_a_library_of_this_interface(tmp_path: Path) -> None:
    done, file = build(tmp_path, None)
    assert (done.returncode, done.stderr) == (0, "")
    assert ctypes.CDLL(str(file)).ecc_native_abi() == native.ABI


def test_the_installed_library_is_of_this_version() -> None:
    assert native.FILE.exists() == (native.load(native.FILE) is not None)


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", "false"])
def test_without_a_compiler_one_warning_and_the_rest_is_built(compiler: str, tmp_path: Path) -> None:
    done, file = build(tmp_path, compiler)
    assert (done.returncode, file.exists()) == (0, False)
    warnings = [line for line in (done.stdout + done.stderr).splitlines() if "warning" in line.lower()]
    assert len(warnings) == 1
    assert re.fullmatch(
        r"WARNING: ecc-snn installs without its C library \(.+\); all works, more slowly\. "
        r"Install a C compiler and install again to have it\.",
        warnings[0],
    )


def compiled(folder: Path, source: str) -> Path:
    file = folder / "other.so"
    (folder / "other.c").write_text(source)
    subprocess.run([str(COMPILER), "-shared", "-fPIC", "-o", file, folder / "other.c"], check=True, timeout=60)
    return file


@needs_compiler
@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("int ecc_native_abi(void) { return 0; }", f"its interface has number 0, this version needs {native.ABI}"),
        (f"int ecc_native_abi(void) {{ return {native.ABI}; }}", "undefined symbol: ecc_range_encode"),
        ("int other(void) { return 0; }", "undefined symbol: ecc_native_abi"),
    ],
)
def test_another_library_is_left_out_with_one_warning(
    source: str, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert native.load(compiled(tmp_path, source)) is None
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("ecc_model", logging.WARNING)
    message = record.getMessage()
    assert message.startswith("other.so is left out, all works more slowly (")
    assert reason in message
    assert message.endswith("); install ecc-snn again")


def test_a_file_that_is_no_library_is_left_out_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "_native.abi3.so"
    file.write_bytes(b"no library")
    assert native.load(file) is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_no_library_is_nothing_to_speak_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert native.load(tmp_path / "missing.so") is None
    assert caplog.records == []


def test_the_library_is_loaded_once_and_can_be_switched_off() -> None:
    code = "from ecc_model import native; print(native.library() is None, native.library() is native.library())"
    for switch, expected in (("0", "True True"), ("1", f"{native.load(native.FILE) is None} True")):
        environment = os.environ | {native.SWITCH: switch}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_python_and_headers_agree_on_the_interface() -> None:
    assert re.findall(r"#define ECC_NATIVE_ABI (\d+)", HEADERS) == [str(native.ABI)]
    declared = {
        name: 0 if arguments.strip() == "void" else arguments.count(",") + 1
        for name, arguments in re.findall(r"ECC_API int (\w+)\(([^)]*)\);", HEADERS)
    }
    assert declared == {name: len(arguments) for name, arguments in native._PROTOTYPES.items()}
