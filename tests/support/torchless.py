"""A pytest plugin for a Python without torch, as devices have it: tests that need torch are left out, and named."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from support.imports import ROOT, loads

NOT_ON_DEVICES = ("cloud", "tools")  # folders of tests
HAS_TORCH = importlib.util.find_spec("torch") is not None
_left_out: list[str] = []


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out test files that load torch, folders whose conftest.py does, and `NOT_ON_DEVICES`."""
    if HAS_TORCH or not _needs_torch(collection_path):
        return None
    _left_out.append(str(collection_path.relative_to(config.rootpath)))
    return True


def _needs_torch(path: Path) -> bool:
    if path.is_dir():
        conftest = path / "conftest.py"
        left_out = [ROOT / "tests" / name for name in NOT_ON_DEVICES]
        return path in left_out or (conftest.exists() and loads(conftest, "torch"))
    return path.name.startswith("test_") and path.suffix == ".py" and loads(path, "torch")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was left out."""
    if _left_out:
        terminalreporter.write_line(f"left out, torch is not installed: {', '.join(sorted(_left_out))}")
