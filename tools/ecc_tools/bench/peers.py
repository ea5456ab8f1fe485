"""What the event engine is timed against beyond the engines: other runtimes, set up as their users would at best.

`onnxruntime` and `ann` are ONNX graphs with QuantizeLinear and DequantizeLinear around their products, which ONNX
Runtime turns into int8 kernels. `onnxruntime` and `spikingjelly` are the program but for rounding: the one rounds sums
to bytes, the other computes in floats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecc_model.errors import DeviceError
from ecc_model.frames import Pixels, fit
from ecc_model.layers import Conv, Linear, MaxPool, Readout
from ecc_model.optional import require
from ecc_model.program import Program
from ecc_tools.bench.dense import LEVELS, DenseLayer, DenseLayers, Vector, dense_of_program, plain_layers
from ecc_tools.bench.dense_tflite import dense_file

Peer = Callable[[Pixels], NDArray[np.float32]]
Scale = np.float32 | Vector  # of a whole tensor, or of each output channel

ONE = np.float32(1)  # the scale of spikes, which as uint8 are what they are, and of integer weights
LARGEST = 127  # of a quantized sum
CLIPPED = 8  # sums of few spikes stay far below their bound: they are clipped at this part of it
OPSET = 17


def onnxruntime_snn(program: Program) -> Peer:
    """The same spiking network, layer by layer over all steps: int8 convolutions, neurons in float32."""
    return _session(program, _Onnx(program).spiking())


def onnxruntime_dense(program: Program, layers: DenseLayers) -> Peer:
    """A dense ReLU network on the program's frames, int8 throughout, one pass."""
    return _session(program, _Onnx(program).dense(layers))


def spikingjelly_eager(program: Program) -> Peer:
    """The same layers in SpikingJelly, multi-step, in float32; thresholds are in its batch norms."""
    torch = require("torch", "the peer 'spikingjelly'")
    jelly = require("spikingjelly.activation_based.layer", "the peer 'spikingjelly'")
    neuron = require("spikingjelly.activation_based.neuron", "the peer 'spikingjelly'")
    reset = require("spikingjelly.activation_based.functional", "the peer 'spikingjelly'").reset_net
    modules: list[Any] = []
    for layer in plain_layers(program):
        if isinstance(layer, MaxPool):
            modules.append(jelly.MaxPool2d(layer.size, step_mode="m"))
            continue
        outputs, inputs = layer.weight.shape[:2]
        weight = torch.from_numpy(layer.weight.astype(np.float32))
        scale = torch.from_numpy((layer.scale if isinstance(layer, Readout) else 1 / layer.theta).astype(np.float32))
        bias = torch.from_numpy(layer.bias.astype(np.float32)) * scale
        if isinstance(layer, Conv):
            kernel = layer.weight.shape[2]
            product = jelly.Conv2d(inputs, outputs, kernel, layer.stride, layer.padding, bias=False, step_mode="m")
            norm = jelly.BatchNorm2d(outputs, eps=0.0, step_mode="m")
            product.weight.data, norm.weight.data, norm.bias.data = weight, scale, bias
            modules += [product, norm]
        else:
            product = jelly.Linear(inputs, outputs, step_mode="m")
            product.weight.data, product.bias.data = weight * scale[:, None], bias
            modules += [jelly.Flatten(step_mode="m"), product]
        if not isinstance(layer, Readout):
            modules.append(neuron.LIFNode(tau=2.0, decay_input=False, step_mode="m"))
    net = torch.nn.Sequential(*modules).eval()
    steps = program.steps

    def call(frame: Pixels) -> NDArray[np.float32]:
        with torch.inference_mode():
            pixels = torch.from_numpy(fit(frame, program.input)).permute(2, 0, 1).float()
            reset(net)
            logits: NDArray[np.float32] = net(pixels.expand(steps, 1, *pixels.shape)).mean(0)[0].numpy()
            return logits

    return call


def tflite_dense(program: Program, layers: DenseLayers) -> Peer:
    """A dense network on the program's frames in LiteRT; its logits are int8."""
    interpreter = require("ai_edge_litert.interpreter", "the peer 'ann-tflite'").Interpreter(
        model_content=dense_file(layers, program.input), num_threads=1
    )
    interpreter.allocate_tensors()
    given, found = (
        details[0]["index"] for details in (interpreter.get_input_details(), interpreter.get_output_details())
    )

    def call(frame: Pixels) -> NDArray[np.float32]:
        interpreter.set_tensor(given, (fit(frame, program.input) ^ 0x80).view(np.int8)[None])
        interpreter.invoke()
        logits: NDArray[np.float32] = interpreter.get_tensor(found)[0].astype(np.float32)
        return logits

    return call


def _untrained(make: Callable[[Program, DenseLayers], Peer]) -> Callable[[Program], Peer]:
    return lambda program: make(program, dense_of_program(program))


DENSE: dict[str, Callable[[Program, DenseLayers], Peer]] = {"ann": onnxruntime_dense, "ann-tflite": tflite_dense}
PEERS: dict[str, Callable[[Program], Peer]] = {
    "onnxruntime": onnxruntime_snn,
    **{name: _untrained(make) for name, make in DENSE.items()},
    "spikingjelly": spikingjelly_eager,
}


def _session(program: Program, model: bytes) -> Peer:
    runtime = require("onnxruntime", "what runs in ONNX Runtime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def call(frame: Pixels) -> NDArray[np.float32]:
        pixels = np.ascontiguousarray(np.moveaxis(fit(frame, program.input), 2, 0)[None])
        logits: NDArray[np.float32] = session.run(None, {"frame": pixels})[0]
        return logits

    return call


class _Onnx:
    """A graph under construction; values are known by their names."""

    def __init__(self, program: Program) -> None:
        self._onnx = require("onnx", "what runs in ONNX Runtime")
        self._layers, self._steps = plain_layers(program), program.steps
        spec = program.input
        self._input = [1, spec.channels, spec.height, spec.width]
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def spiking(self) -> bytes:
        value = "frame"
        for layer in self._layers:
            if isinstance(layer, MaxPool):
                value = self._quantized(self._pool(layer, self._dequantized(value, ONE)), ONE)
                continue
            first = layer is self._layers[0]
            sums = self._product(layer, value, first)
            if isinstance(layer, Readout):
                return self._model(self._logits(layer, sums))
            value = self._quantized(self._fire(layer, sums, first), ONE)
        raise DeviceError("a network without a readout")

    def dense(self, layers: DenseLayers) -> bytes:
        value, scale = "frame", np.float32(1 / LEVELS)
        for layer in layers:
            if isinstance(layer, MaxPool):
                value = self._quantized(self._pool(layer, self._dequantized(value, scale)), scale)
                continue
            value = self._dense_layer(layer, value, scale)
            if layer is not layers[-1]:
                scale = np.float32(layer.output)
                value = self._quantized(self._node("Relu", value), scale)
        return self._model(value)

    def _dense_layer(self, layer: DenseLayer, value: str, scale: np.float32) -> str:
        zeros, convolves = np.zeros(len(layer.scale), np.int8), layer.weight.ndim == 4
        if not convolves:
            value = self._node("Flatten", value, axis=1)  # of the bytes: nothing may stand inside what is fused
        value = self._dequantized(value, scale)
        weight = self._dequantized(self._constant(layer.weight), layer.scale, zeros, axis=0)
        bias = self._dequantized(self._constant(layer.bias), layer.scale * scale, zeros.astype(np.int32), axis=0)
        if convolves:
            return self._node("Conv", value, weight, bias, pads=[layer.weight.shape[2] // 2] * 4)
        return self._node("Gemm", value, weight, bias, transB=1)

    def _product(self, layer: Conv | Linear | Readout, value: str, exact: bool) -> str:
        product = self._weights(layer, value)
        if exact:
            return product
        bound = np.abs(layer.weight.astype(np.int64)).reshape(len(layer.weight), -1).sum(axis=1).max()
        step = np.float32(max(1, bound // CLIPPED) / LARGEST)
        zero = np.zeros((), np.int8)
        return self._dequantized(self._quantized(product, step, zero), step, zero)

    def _weights(self, layer: Conv | Linear | Readout, value: str) -> str:
        if not isinstance(layer, Conv):
            value = self._node("Flatten", value, axis=1)  # of the bytes: nothing may stand inside what is fused
        value = self._dequantized(value, ONE)
        if isinstance(layer, Conv):
            weight = self._dequantized(self._constant(layer.weight), ONE, np.zeros((), np.int8))
            bias = self._dequantized(self._constant(layer.bias), ONE, np.zeros((), np.int32))
            return self._node("Conv", value, weight, bias, pads=[layer.padding] * 4, strides=[layer.stride] * 2)
        weight = self._dequantized(self._constant(layer.weight.T.copy()), ONE, np.zeros((), np.int8))
        return self._node("MatMul", value, weight)

    def _fire(self, layer: Conv | Linear, sums: str, still: bool) -> str:
        """Spikes of all steps: floor(V / 2) + X, V back to 0 where a neuron fired."""
        theta = self._constant(
            layer.theta.astype(np.float32).reshape([1, -1, 1, 1] if isinstance(layer, Conv) else [1, -1])
        )
        if isinstance(layer, Linear):
            sums = self._node("Add", sums, self._constant(layer.bias.astype(np.float32)))
        currents = [sums] * self._steps if still or self._steps == 1 else self._split(sums)
        half, one = self._constant(np.array(0.5, np.float32)), self._constant(np.array(1, np.float32))
        potential, spikes = currents[0], []
        for step, current in enumerate(currents):
            if step:
                potential = self._node("Add", self._node("Floor", self._node("Mul", potential, half)), current)
            fired = self._node("GreaterOrEqual", potential, theta)
            spikes.append(self._node("Cast", fired, to=self._onnx.TensorProto.FLOAT))
            if step + 1 < self._steps:
                potential = self._node("Mul", potential, self._node("Sub", one, spikes[-1]))
        return self._node("Concat", *spikes, axis=0)

    def _logits(self, layer: Readout, sums: str) -> str:
        total = self._node("ReduceSum", sums, self._constant(np.zeros(1, np.int64)), keepdims=0)
        biased = self._node("Add", total, self._constant((self._steps * layer.bias).astype(np.float32)))
        return self._node("Mul", biased, self._constant(layer.scale))

    def _split(self, value: str) -> list[str]:
        outputs = [f"{value}.{step}" for step in range(self._steps)]
        self._nodes.append(self._onnx.helper.make_node("Split", [value], outputs, axis=0))
        return outputs

    def _pool(self, layer: MaxPool, value: str) -> str:
        return self._node("MaxPool", value, kernel_shape=[layer.size] * 2, strides=[layer.size] * 2)

    def _quantized(self, value: str, scale: np.float32, zero: NDArray[Any] | None = None) -> str:
        return self._node("QuantizeLinear", value, *self._scale(scale, zero))

    def _dequantized(self, value: str, scale: Scale, zero: NDArray[Any] | None = None, **axis: int) -> str:
        return self._node("DequantizeLinear", value, *self._scale(scale, zero), **axis)

    def _scale(self, scale: Scale, zero: NDArray[Any] | None) -> list[str]:
        none = np.zeros((), np.uint8) if zero is None else zero
        return [self._constant(np.asarray(scale)), self._constant(none)]

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{kind}{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def _constant(self, values: NDArray[Any]) -> str:
        name = f"constant{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def _model(self, output: str) -> bytes:
        helper, proto = self._onnx.helper, self._onnx.TensorProto
        given = helper.make_tensor_value_info("frame", proto.UINT8, self._input)
        found = helper.make_tensor_value_info(output, proto.FLOAT, None)
        graph = helper.make_graph(self._nodes, "network", [given], [found], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        written: bytes = model.SerializeToString()
        return written
