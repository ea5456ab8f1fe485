"""Builds the optional C library `ecc_model._native`; everything else is said in pyproject.toml.

The library is plain C behind ctypes, without Python's own headers, so one build serves every Python. Where no compiler
is found, or the sources do not compile, one warning says so and the package installs without it: its twins in Python
and numpy give the same bits, more slowly.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

NATIVE = "model/ecc_model/native"
# loops aligned: without it any edit may cost a layer some percent, by where it moves another layer's loop
FLAGS = ["-O3", "-pthread", "-falign-loops=32", "-std=c11", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wconversion"]


class BuildIfPossible(build_ext):
    """Builds the library, or warns once."""

    def build_extension(self, ext: Extension) -> None:
        """One extension; a compiler that is missing or fails leaves it out."""
        try:
            super().build_extension(ext)
        except (BaseError, CCompilerError, OSError) as exc:
            reason = (str(exc).splitlines() or [type(exc).__name__])[0][:120]
            print(
                f"WARNING: ecc-snn installs without its C library ({reason}); all works, more slowly. "
                "Install a C compiler and install again to have it.",
                file=sys.stderr,
            )


class AnyPython(bdist_wheel):
    """A wheel with the library fits one platform and every Python 3."""

    def get_tag(self) -> tuple[str, str, str]:
        """Python, ABI and platform of the wheel."""
        return ("py3", "none", super().get_tag()[2])


def posix(paths: list[Path]) -> list[str]:
    """Paths relative to this file, as setuptools wants them."""
    root = Path(__file__).parent
    return [path.relative_to(root).as_posix() for path in sorted(paths)]


folder = Path(__file__).parent / NATIVE
setup(
    ext_modules=[
        Extension(
            "ecc_model._native",
            posix(list(folder.glob("*.c"))),
            depends=posix(list(folder.glob("*.h"))),
            extra_compile_args=FLAGS,
            extra_link_args=["-pthread"],
            py_limited_api=True,  # the file is called _native.abi3.so whatever Python builds it
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildIfPossible, "bdist_wheel": AnyPython},
)
