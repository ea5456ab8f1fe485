"""Writes docs/reference.md from the docstrings of the public modules; run by `make reference`.

Only the source is read, so neither torch nor any other package is needed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "reference.md"
FOLDERS = {"ecc_model": "model", "ecc_broker": "broker", "ecc_device": "device", "ecc_snn": "sdk"}
# What programs outside of this repository may build on, in reading order.
PUBLIC = (
    "ecc_snn",
    "ecc_snn.testing",
    "ecc_device.frame",
    "ecc_device.sources",
    "ecc_device.sources.npz",
    "ecc_device.recordings.recording",
    "ecc_device.replay",
    "ecc_device.linkprofiles",
    "ecc_device.results",
    "ecc_device.explain",
    "ecc_device.budget",
    "ecc_device.evidence",
    "ecc_device.filters",
    "ecc_device.store",
    "ecc_model.errors",
    "ecc_model.frames",
    "ecc_model.modelfile",
    "ecc_broker.topics",
    "ecc_broker.messages",
    "ecc_broker.link",
)
HEAD = """# Reference

Written by `make reference` from the docstrings; change those, not this page.
"""

Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def render() -> str:
    """The whole page."""
    return "\n".join([HEAD, *(line for module in PUBLIC for line in _module(module))])


def _path(module: str) -> Path:
    stem = (ROOT / FOLDERS[module.partition(".")[0]]).joinpath(*module.split("."))
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


def _module(module: str) -> Iterator[str]:
    tree = ast.parse(_path(module).read_text(encoding="utf-8"))
    yield f"## {module}\n"
    yield f"{_text(tree)}\n"
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and _path(module).name == "__init__.py":
            yield from _brought_in(node)
        elif isinstance(node, Documented) and not node.name.startswith("_"):
            yield from _described(node, level=3)


def _brought_in(node: ast.ImportFrom) -> Iterator[str]:
    """What a package hands on from its own modules: described once, where it is listed, else by a pointer."""
    origin = node.module or ""
    for alias in node.names:
        if origin in PUBLIC:
            yield f"- `{alias.name}`: see {origin}\n"
        elif origin.partition(".")[0] in FOLDERS:
            tree = ast.parse(_path(origin).read_text(encoding="utf-8"))
            for found in tree.body:
                if isinstance(found, Documented) and found.name == alias.name:
                    yield from _described(found, level=3)


def _described(node: Documented, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{_signature(node)}`\n"
    yield f"{_text(node)}\n"
    if isinstance(node, ast.ClassDef):
        fields = [f"- `{ast.unparse(item)}`" for item in node.body if isinstance(item, ast.AnnAssign) and _public(item)]
        if fields:
            yield "\n".join(fields) + "\n"
        for item in node.body:
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)) and not item.name.startswith("_"):
                yield from _described(item, level + 1)


def _public(field: ast.AnnAssign) -> bool:
    return isinstance(field.target, ast.Name) and not field.target.id.startswith("_")


def _signature(node: Documented) -> str:
    """A function's arguments without `self`; a class's are those of its constructor."""
    function: ast.AST | None = node
    if isinstance(node, ast.ClassDef):
        constructors = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        function = constructors[0] if constructors else None
    if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.name
    if any(ast.unparse(decorator) == "property" for decorator in function.decorator_list):
        return f"{node.name} -> {ast.unparse(function.returns)}" if function.returns else node.name
    arguments = ast.unparse(function.args).removeprefix("self, ").removeprefix("cls, ")
    arguments = "" if arguments in ("self", "cls") else arguments
    returns = f" -> {ast.unparse(function.returns)}" if function.returns and function is node else ""
    prefix = "async " if isinstance(function, ast.AsyncFunctionDef) else ""
    return f"{prefix}{node.name}({arguments}){returns}"


def _text(node: ast.Module | Documented) -> str:
    """The docstring; indented drawings become code."""
    lines = (ast.get_docstring(node) or "").splitlines()
    tree = any(line.startswith(("├", "└", "│")) for line in lines)
    if not tree:
        return "\n".join(lines)
    marks = ("├", "└", "│")
    first = next(index for index, line in enumerate(lines) if line.startswith(marks)) - 1
    last = max(index for index, line in enumerate(lines) if line.startswith(marks))
    return "\n".join([*lines[:first], "```", *lines[first : last + 1], "```", *lines[last + 1 :]])


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    print(f"wrote {TARGET.relative_to(ROOT)}", file=sys.stderr)
