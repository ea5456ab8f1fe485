"""SDK: classify on the device, ask the cloud when unsure, learn while charging.

with Edge("vgg9.pt", broker="mqtt://127.0.0.1:1883") as edge:
    print(edge.classify(pixels).label)
"""

from __future__ import annotations

from importlib.metadata import version

from ecc_device.explain import Explanation
from ecc_device.results import Answer, Result
from ecc_model.errors import EccError
from ecc_snn.async_edge import AsyncEdge
from ecc_snn.edge import Edge
from ecc_snn.failures import EccWarning
from ecc_snn.stream import Stream

__all__ = ["Answer", "AsyncEdge", "EccError", "EccWarning", "Edge", "Explanation", "Result", "Stream", "__version__"]

__version__ = version("ecc-snn")
