"""The former place of the engines, for imports that are not moved yet."""

from __future__ import annotations

from ecc_device.engines import Engine, NumpyEngine, ReferenceEngine
from ecc_device.engines.numpy import FLOAT32_EXACT

__all__ = ["FLOAT32_EXACT", "Engine", "NumpyEngine", "ReferenceEngine"]
