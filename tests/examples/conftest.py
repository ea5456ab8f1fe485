"""Examples as modules, and small models for them. Making models needs torch."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from support.imports import ROOT

if TYPE_CHECKING:
    from support.models import TinyModels


@pytest.fixture(scope="session")
def example() -> Callable[[str], ModuleType]:
    """Loads an example, whose name is no module's, by its path below `examples`."""

    def load(path: str) -> ModuleType:
        file = ROOT / "examples" / path
        spec = importlib.util.spec_from_file_location(f"example_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where typed structs look up what their fields are
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def unsure(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    """Models whose edge is unsure about every frame."""
    pytest.importorskip("torch")
    from support.models import write_tiny_models

    return write_tiny_models(tmp_path_factory.mktemp("unsure"), threshold=0.0)
