"""SDK: classify on the device, ask the cloud when unsure, learn while charging.

with Edge("vgg9.pt", broker="mqtt://127.0.0.1:1883") as edge:
    print(edge.classify(pixels).label)
"""

from __future__ import annotations

from importlib.metadata import version

from ecc_device.results import Answer, Result
from ecc_model.errors import EccError
from ecc_snn.edge import Edge

__all__ = ["Answer", "EccError", "Edge", "Result", "__version__"]

__version__ = version("ecc-snn")
