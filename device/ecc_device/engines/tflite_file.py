"""Writing a .tflite file: tensors and operators one after the other, without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecc_model.optional import require

_PURPOSE = "the engine 'tflite'"
_TYPES = {np.dtype(np.float32): "FLOAT32", np.dtype(np.int8): "INT8", np.dtype(np.int32): "INT32"}


class Quantized(NamedTuple):
    """What integers q of a tensor mean: `scale (q - zero)`; several scales are those of its first dimension."""

    scale: NDArray[np.float32]  # (1,) or (O,)
    zero: int = 0


_INTEGERS = Quantized(np.ones(1, np.float32))


class _Tensor(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    buffer: int  # 0: filled when the graph runs
    quantized: Quantized | None = None


class _Operator(NamedTuple):
    name: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: tuple[str, dict[str, int]] | None


class Graph:
    """One graph, in the order in which its operators are added; tensors are numbers. `MissingPackage`.

    Tensors that are computed are float32, or int8 where that is said. int8 constants have the scale 1 if nothing is
    said: what a hybrid operator, or DEQUANTIZE, makes of them are the integers themselves.
    """

    def __init__(self) -> None:
        self._schema, self._flatbuffers = require("tflite", _PURPOSE), require("flatbuffers", _PURPOSE)
        self._tensors: list[_Tensor] = []
        self._buffers = [b""]  # the first one is empty by definition
        self._operators: list[_Operator] = []

    def tensor(self, shape: Sequence[int], quantized: Quantized | None = None) -> int:
        """A tensor that is given or computed: float32, or int8 with what its integers mean."""
        dtype = np.dtype(np.float32 if quantized is None else np.int8)
        self._tensors.append(_Tensor(tuple(shape), dtype, 0, quantized))
        return len(self._tensors) - 1

    def constant(self, values: NDArray[Any], quantized: Quantized | None = None) -> int:
        """A tensor that the file holds: float32, int32 or int8."""
        if quantized is None and values.dtype == np.int8:
            quantized = _INTEGERS
        self._buffers.append(np.ascontiguousarray(values).tobytes())
        self._tensors.append(_Tensor(values.shape, values.dtype, len(self._buffers) - 1, quantized))
        return len(self._tensors) - 1

    def shape(self, tensor: int) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._tensors[tensor].shape

    def add(
        self, name: str, inputs: Sequence[int], *shapes: Sequence[int], options: str = "", **values: int
    ) -> list[int]:
        """An operator, such as CONV_2D, and its outputs of `shapes`; `values` are those of the table `options`."""
        outputs = [self.tensor(shape) for shape in shapes]
        self.put(name, inputs, outputs, options, **values)
        return outputs

    def put(self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", **values: int) -> None:
        """An operator between tensors that are there; see `add`."""
        self._operators.append(_Operator(name, inputs, outputs, (options, values) if options else None))

    def write(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """The file."""
        schema, builder = self._schema, self._flatbuffers.Builder(1 << 16)
        codes = sorted({operator.name for operator in self._operators})
        tables = {
            "Buffers": [self._buffer(builder, data) for data in self._buffers],
            "OperatorCodes": [self._code(builder, name) for name in codes],
        }
        subgraph = self._subgraph(builder, codes, inputs, outputs)
        vectors = {name: _vector(builder, places) for name, places in tables.items()}
        vectors["Subgraphs"] = _vector(builder, [subgraph])
        schema.ModelStart(builder)
        schema.ModelAddVersion(builder, 3)
        for name, place in vectors.items():
            getattr(schema, f"ModelAdd{name}")(builder, place)
        builder.Finish(schema.ModelEnd(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _subgraph(self, builder: Any, codes: list[str], inputs: Sequence[int], outputs: Sequence[int]) -> int:
        schema = self._schema
        vectors = {
            "Tensors": _vector(builder, [self._tensor_table(builder, tensor) for tensor in self._tensors]),
            "Inputs": _numbers(builder, inputs),
            "Outputs": _numbers(builder, outputs),
            "Operators": _vector(
                builder, [self._operator(builder, op, codes.index(op.name)) for op in self._operators]
            ),
        }
        schema.SubGraphStart(builder)
        for name, place in vectors.items():
            getattr(schema, f"SubGraphAdd{name}")(builder, place)
        return int(schema.SubGraphEnd(builder))

    def _buffer(self, builder: Any, data: bytes) -> int:
        place = 0
        if data:
            builder.StartVector(1, len(data), 16)  # constants start at multiples of 16 bytes
            builder.head -= len(data)
            builder.Bytes[builder.head : builder.head + len(data)] = data
            place = builder.EndVector()
        self._schema.BufferStart(builder)
        if data:
            self._schema.BufferAddData(builder, place)
        return int(self._schema.BufferEnd(builder))

    def _code(self, builder: Any, name: str) -> int:
        schema, code = self._schema, getattr(self._schema.BuiltinOperator, name)
        schema.OperatorCodeStart(builder)
        schema.OperatorCodeAddDeprecatedBuiltinCode(builder, code)  # what runtimes before 2.4 read; all are below 127
        schema.OperatorCodeAddBuiltinCode(builder, code)
        schema.OperatorCodeAddVersion(builder, 1)
        return int(schema.OperatorCodeEnd(builder))

    def _tensor_table(self, builder: Any, tensor: _Tensor) -> int:
        schema, quantization = self._schema, 0
        shape = _numbers(builder, tensor.shape)
        if tensor.quantized is not None:
            scales, number = tensor.quantized
            scale = builder.CreateNumpyVector(scales)
            zero = builder.CreateNumpyVector(np.full(len(scales), number, np.int64))
            schema.QuantizationParametersStart(builder)
            schema.QuantizationParametersAddScale(builder, scale)
            schema.QuantizationParametersAddZeroPoint(builder, zero)
            quantization = schema.QuantizationParametersEnd(builder)
        schema.TensorStart(builder)
        schema.TensorAddShape(builder, shape)
        schema.TensorAddType(builder, getattr(schema.TensorType, _TYPES[tensor.dtype]))
        schema.TensorAddBuffer(builder, tensor.buffer)
        if quantization:
            schema.TensorAddQuantization(builder, quantization)
        return int(schema.TensorEnd(builder))

    def _operator(self, builder: Any, operator: _Operator, code: int) -> int:
        schema, options = self._schema, 0
        inputs, outputs = _numbers(builder, operator.inputs), _numbers(builder, operator.outputs)
        if operator.options:
            table, values = operator.options
            getattr(schema, f"{table}Start")(builder)
            for name, value in values.items():
                getattr(schema, f"{table}Add{name}")(builder, value)
            options = getattr(schema, f"{table}End")(builder)
        schema.OperatorStart(builder)
        schema.OperatorAddOpcodeIndex(builder, code)
        schema.OperatorAddInputs(builder, inputs)
        schema.OperatorAddOutputs(builder, outputs)
        if operator.options:
            schema.OperatorAddBuiltinOptionsType(builder, getattr(schema.BuiltinOptions, operator.options[0]))
            schema.OperatorAddBuiltinOptions(builder, options)
        return int(schema.OperatorEnd(builder))


def _numbers(builder: Any, values: Sequence[int]) -> int:
    return int(builder.CreateNumpyVector(np.asarray(values, np.int32)))


def _vector(builder: Any, places: Sequence[int]) -> int:
    builder.StartVector(4, len(places), 4)
    for place in reversed(places):
        builder.PrependUOffsetTRelative(place)
    return int(builder.EndVector())
