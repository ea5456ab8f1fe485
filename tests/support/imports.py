"""Who imports whom, read from the source: nothing is run, so it also works where torch is missing."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {  # package -> folder, in the order of the house: a package may import only those above it
    "ecc_model": "model",
    "ecc_broker": "broker",
    "ecc_device": "device",
    "ecc_cloud": "cloud",
    "ecc_snn": "sdk",
    "ecc_tools": "tools",
}


@dataclass(frozen=True)
class Import:
    """One imported name: `from a import b` is `a.b`, which may be a module or something in one."""

    name: str
    line: int
    at_load: bool  # carried out when the module is loaded, not inside a function
    for_types: bool  # under `if TYPE_CHECKING`

    @property
    def package(self) -> str:
        """The first part of the name."""
        return self.name.partition(".")[0]


def sources(package: str | None = None) -> list[Path]:
    """The Python files of one package, or of all."""
    chosen = [package] if package else list(FOLDERS)
    return sorted(path for name in chosen for path in (ROOT / FOLDERS[name] / name).rglob("*.py"))


@functools.cache
def tree(path: Path) -> ast.Module:
    """The file's syntax tree."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def imports(path: Path) -> tuple[Import, ...]:
    """Every import in a file."""
    return tuple(_imports(tree(path), at_load=True, for_types=False))


def _imports(node: ast.AST, *, at_load: bool, for_types: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno, at_load, for_types) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (Import(f"{node.module}.{alias.name}", node.lineno, at_load, for_types) for alias in node.names)
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        at_load = False
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for_types = True
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, at_load=at_load, for_types=for_types)


def loads(path: Path, package: str) -> bool:
    """Whether loading the test module or package module at `path` loads `package`, through whatever else it loads."""
    seen: set[Path] = set()
    waiting = [path, *_conftests(path)]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for found in imports(current):
            if found.at_load and not found.for_types:
                if found.package == package:
                    return True
                waiting += _files(found.name, path.parent)
    return False


def _conftests(path: Path) -> list[Path]:
    """What pytest loads before the test module at `path`."""
    candidates = [folder / "conftest.py" for folder in path.parents if folder.is_relative_to(ROOT / "tests")]
    return [candidate for candidate in candidates if candidate.exists()]


def _files(name: str, beside: Path) -> list[Path]:
    """Our files that importing `name` loads: the packages above it and the module itself."""
    parts = name.split(".")
    folder = FOLDERS.get(parts[0])
    bases = [ROOT / folder] if folder else [ROOT / "tests", beside]
    stems = [base.joinpath(*parts[:depth]) for base in bases for depth in range(1, len(parts) + 1)]
    return [file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.exists()]
