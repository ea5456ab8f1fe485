"""Packed spikes: every shape there and back, and nothing else is read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecc_model import bits
from ecc_model.errors import WireError
from support.programs import spikes_for

SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


@given(st.data())
def test_spikes_survive_packing(data: st.DataObject) -> None:
    shape = data.draw(SHAPES)
    spikes = data.draw(spikes_for(shape))
    packed = bits.pack(spikes)
    assert len(packed) == bits.packed_size(shape)
    np.testing.assert_array_equal(bits.unpack(packed, shape), spikes)


def test_the_first_spike_is_the_highest_bit_and_the_rest_is_zero() -> None:
    spikes = np.array([[1, 0, 0, 0, 0], [0, 0, 1, 1, 0]], np.bool_)
    assert bits.pack(spikes) == bytes([0b10000001, 0b10000000])


def test_order_is_that_of_the_shape_not_of_the_memory() -> None:
    spikes = np.arange(24).reshape(2, 3, 4) % 5 == 0
    assert bits.pack(spikes.transpose(2, 0, 1)) == bits.pack(np.ascontiguousarray(spikes.transpose(2, 0, 1)))


@pytest.mark.parametrize("length", [0, 1, 3])
def test_another_length_is_refused(length: int) -> None:
    with pytest.raises(WireError, match=rf"^{length} bytes of spikes where shape \(2, 5\) takes 2$"):
        bits.unpack(bytes(length), (2, 5))


@given(st.integers(1, 7), st.data())
def test_a_set_padding_bit_is_refused(count: int, data: st.DataObject) -> None:
    padding = 1 << data.draw(st.integers(0, 7 - count))
    with pytest.raises(WireError, match=rf"^padding bits are set after the {count} spikes of shape \({count},\)$"):
        bits.unpack(bytes([padding]), (count,))
