"""Optional packages are asked for here, and only here."""

from __future__ import annotations

import importlib
from types import ModuleType

from ecc_model.errors import MissingPackage

# import name -> (distribution, extra of ecc-snn that brings it)
_OPTIONAL = {
    "torch": ("torch", "learn"),
    "spikingjelly": ("spikingjelly", "tools"),
    "sklearn": ("scikit-learn", "tools"),
    "matplotlib": ("matplotlib", "tools"),
    "transformers": ("transformers", "vit"),
    "amqtt": ("amqtt", "broker"),
    "PIL": ("pillow", "images"),
    "cv2": ("opencv-python-headless", "camera"),
    "av": ("av", "video"),
    "mcap": ("mcap", "mcap"),
    "mcap_ros2": ("mcap-ros2-support", "mcap"),
    "lz4": ("lz4", "mcap"),
    "tflite": ("tflite", "tflite"),
    "flatbuffers": ("flatbuffers", "tflite"),
    "ai_edge_litert": ("ai-edge-litert", "tflite"),
    "tflite_runtime": ("tflite-runtime", "tflite-runtime"),
    "onnx": ("onnx", "bench"),
    "onnxruntime": ("onnxruntime", "bench"),
}


def require(module: str, purpose: str) -> ModuleType:
    """Import `module` (dotted names allowed) or raise `MissingPackage`, which names the one install command.

    `purpose` starts the sentence: "camera 0", "on-device learning".
    """
    root = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is None or exc.name.partition(".")[0] != root:
            raise
        package, extra = _OPTIONAL[root]
        raise MissingPackage(package, purpose, extra) from exc
