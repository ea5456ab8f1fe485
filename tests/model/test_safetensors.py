"""Tensors from bytes that nobody vouches for."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ecc_model.errors import ModelError
from ecc_model.safetensors import dump, load

DTYPES = st.sampled_from([np.dtype(name) for name in ("<i1", "<u1", "<i2", "<i4", "<i8", "<f4")])
TENSORS = st.dictionaries(
    st.text(max_size=20),
    DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=4, max_side=4))),
    max_size=5,
)


@given(TENSORS)
def test_what_is_dumped_is_loaded(tensors: dict[str, Any]) -> None:
    loaded = load(dump(tensors))
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        np.testing.assert_array_equal(loaded[name], tensor)
        assert not loaded[name].flags.writeable


def test_the_format_is_that_of_other_readers() -> None:
    data = dump({"b": np.array([[1, -2]], ">i2"), "a": np.array([1.5], np.float32)})
    (length,) = struct.unpack_from("<Q", data)
    assert json.loads(data[8 : 8 + length]) == {
        "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "b": {"dtype": "I16", "shape": [1, 2], "data_offsets": [4, 8]},
    }
    assert data[8 + length :] == struct.pack("<fhh", 1.5, 1, -2)
    assert length % 8 == 0


def forged(header: Any, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def entry(shape: list[Any], start: Any, end: Any, dtype: str = "U8", **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end], **more}


INVALID = "the tensor header is not valid"
MISFIT = "tensor 'a': its offsets do not fit its shape or its neighbours"
OTHER = MISFIT.replace("'a'", "'b'")
LIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "tensors are cut off"),
    "half a length": (b"\0" * 7, "tensors are cut off"),
    "no header": (b"\0" * 8, INVALID),
    "header beyond the file": (struct.pack("<Q", 100) + b"{}", "a tensor header of 100 bytes in 10 bytes"),
    "header of 2^63 bytes": (struct.pack("<Q", 2**63) + b"{}", f"a tensor header of {2**63} bytes in 10 bytes"),
    "header of 2 MB": (forged(b" " * (2 << 20)), "a tensor header of 2097152 bytes in 2097160 bytes"),
    "not JSON": (forged(b"{a}"), INVALID),
    "not UTF-8": (forged(b'{"\xff": 1}'), INVALID),
    "a list": (forged([]), INVALID),
    "deep nesting": (forged(b"[" * 100_000), INVALID),
    "10^5 tensors": (
        forged(b"{" + b",".join(b'"%d":{}' % i for i in range(100_000)) + b"}"),
        "a tensor header of 1088891 bytes in 1088899 bytes",
    ),
    "5,000 tensors": (
        forged({str(i): entry([1], i, i + 1) for i in range(5000)}, bytes(5000)),
        "5000 tensors, at most 4096 are read",
    ),
    "unknown field": (forged({"a": entry([1], 0, 1, more=1)}, b"x"), INVALID),
    "metadata": (forged({"__metadata__": {"a": "b"}}), INVALID),
    "unknown type": (forged({"a": entry([1], 0, 8, "F64")}, bytes(8)), "tensor 'a' has the unknown type 'F64'"),
    "negative side": (forged({"a": entry([-1, -1], 0, 1)}, b"x"), "tensor 'a' has the shape [-1, -1]"),
    "empty side": (forged({"a": entry([0], 0, 0)}), "tensor 'a' has the shape [0]"),
    "side of 2^31 + 1": (forged({"a": entry([2**31 + 1], 0, 1)}, b"x"), f"tensor 'a' has the shape [{2**31 + 1}]"),
    "side of 2^64": (forged({"a": entry([2**64], 0, 1)}, b"x"), f"tensor 'a' has the shape [{2**64}]"),
    "side of 5,000 digits": (
        forged(b'{"a":{"dtype":"U8","shape":[1%s],"data_offsets":[0,1]}}' % (b"0" * 5000)),
        INVALID,
    ),
    "nine sides": (forged({"a": entry([1] * 9, 0, 1)}, b"x"), "tensor 'a' has the shape [1, 1, 1, 1, 1, 1, 1, 1]"),
    "fraction of a side": (forged({"a": entry([1.5], 0, 1)}, b"x"), INVALID),
    "product of 2^64": (forged({"a": entry([2**31, 2**31, 4], 0, 0)}), MISFIT),
    "product of 2^64 + 1 byte": (forged({"a": entry([2**31, 2**31, 4], 0, 1)}, b"x"), MISFIT),
    "start after end": (forged({"a": entry([1], 1, 0)}, b"x"), MISFIT),
    "negative offsets": (forged({"a": entry([1], -1, 0)}, b"x"), MISFIT),
    "beyond the data": (forged({"a": entry([2], 0, 2)}, b"x"), "tensor 'a' lies outside of the data"),
    "a gap": (forged({"b": entry([1], 0, 1), "a": entry([1], 2, 3)}, bytes(3)), MISFIT),
    "an overlap": (forged({"b": entry([2], 0, 2), "a": entry([2], 1, 3)}, bytes(3)), MISFIT),
    "the same bytes twice": (
        forged({"a": entry([1], 0, 1), "b": entry([1], 0, 1)}, b"x"),
        MISFIT.replace("'a'", "'b'"),
    ),
    "a gap at the start": (forged({"a": entry([1], 1, 2)}, bytes(2)), MISFIT),
    "a name with a line": (forged({"a\n": entry([1], 0, 2)}, bytes(2)), MISFIT.replace("'a'", r"'a\n'")),
    "bytes left over": (forged({"a": entry([1], 0, 1)}, bytes(3)), "2 bytes that belong to no tensor"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_refused_by_name(lie: str) -> None:
    data, text = LIES[lie]
    with pytest.raises(ModelError) as caught:
        load(data)
    assert str(caught.value) == text


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ModelError):
        load(data)


@given(TENSORS, st.data())
def test_a_changed_byte_is_refused_or_read_within_the_data(tensors: dict[str, Any], data: st.DataObject) -> None:
    blob = bytearray(dump(tensors))
    blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        loaded = load(bytes(blob))
    except ModelError:
        return
    assert sum(tensor.nbytes for tensor in loaded.values()) == sum(tensor.nbytes for tensor in tensors.values())
