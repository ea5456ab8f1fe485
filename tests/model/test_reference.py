"""The definition of an integer program, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np

from ecc_model import reference
from ecc_model.frames import FrameSpec
from ecc_model.program import Conv, Linear, MaxPool, Probe, Program, Readout, Tap


def test_a_neuron_leaks_by_half_rounding_down_and_resets_to_zero() -> None:
    # X           7   0  -1   0   9   3   |  U = (V >> 1) + X, spike at 8
    # U           7   3   0   0   9   3
    # V           7   3   0   0   0   3
    sums = np.array([7, 0, -1, 0, 9, 3]).reshape(-1, 1)
    spikes, membrane = reference.lif(sums, np.array([8], np.int32))
    assert spikes.ravel().tolist() == [False, False, False, False, True, False]
    assert membrane.ravel().tolist() == [7, 3, 0, 0, 0, 3]


def test_a_negative_membrane_is_halved_towards_minus_infinity() -> None:
    # -5 >> 1 = -3, -3 >> 1 = -2, -2 >> 1 = -1, and -1 >> 1 stays -1
    _, membrane = reference.lif(np.array([[-5], [0], [0], [0], [0]]), np.array([1], np.int32))
    assert membrane.ravel().tolist() == [-5, -3, -2, -1, -1]


def test_a_neuron_spikes_at_its_threshold_not_only_above() -> None:
    spikes, membrane = reference.lif(np.array([[4, 4], [6, 5]]), np.array([8, 8], np.int32))
    assert spikes.tolist() == [[False, False], [True, False]]
    assert membrane.tolist() == [[4, 4], [0, 7]]


def test_each_channel_has_its_threshold() -> None:
    sums = np.full((1, 2, 1, 2), 5)
    spikes, _ = reference.lif(sums, np.array([5, 6], np.int32))
    assert spikes.tolist() == [[[[True, True]], [[False, False]]]]


def test_convolution_pads_with_zeros_and_strides() -> None:
    weight = np.arange(1, 10, dtype=np.int8).reshape(1, 1, 3, 3)
    layer = Conv(weight, np.array([100], np.int32), np.array([2**31 - 1], np.int32), stride=2, padding=1)
    image = np.array([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    _, (trace,) = reference.run([layer], image)
    # top left: taps 5 6 8 9 on 1 2 4 5
    corner = 5 * 1 + 6 * 2 + 8 * 4 + 9 * 5
    assert trace.membrane is not None
    assert trace.membrane.shape == (1, 1, 2, 2)
    assert trace.membrane[0, 0, 0, 0] == corner + 100
    # bottom right: taps 1 2 4 5 on 5 6 8 9
    assert trace.membrane[0, 0, 1, 1] == 1 * 5 + 2 * 6 + 4 * 8 + 5 * 9 + 100


def test_pooling_is_or_and_a_readout_sums_over_steps() -> None:
    spikes = np.zeros((2, 1, 2, 4), np.bool_)
    spikes[0, 0, 1, 0] = True
    spikes[1, 0, 0, 2:] = True
    layers = [
        MaxPool(2),
        Readout(np.array([[10, 1], [-3, 0]], np.int8), np.array([5, 7], np.int32), np.ones(2, np.float32)),
    ]
    sums, (pooled,) = reference.run(layers, spikes)
    assert pooled.spikes.tolist() == [[[[True, False]]], [[[False, True]]]]
    assert pooled.membrane is None
    assert sums.tolist() == [10 + 5 + 1 + 5, -3 + 7 + 0 + 7]


def test_a_linear_layer_reads_the_map_in_channel_row_column_order() -> None:
    spikes = np.zeros((1, 2, 2, 2), np.bool_)
    spikes[0, 1, 0, 1] = True  # number 5 of 8
    weight = np.arange(8, dtype=np.int8)[None]
    layer = Linear(weight, np.array([20], np.int32), np.array([99], np.int32))
    _, (trace,) = reference.run([layer], spikes)
    assert trace.membrane is not None
    assert trace.membrane.tolist() == [[25]]


def test_a_still_frame_is_the_same_frame_at_each_step() -> None:
    frame = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    steps = reference.frame_input(frame, 3)
    assert steps.shape == (3, 3, 2, 2)
    np.testing.assert_array_equal(steps, reference.frame_input(np.stack([frame] * 3), 3))
    assert steps[1, 2, 0, 1] == frame[0, 1, 2]


def test_a_probe_counts_spikes_of_all_steps_in_cells_and_behind_layers() -> None:
    spikes = np.zeros((2, 2, 4, 4), np.bool_)
    spikes[0, 0, 0, 0] = spikes[1, 0, 0, 1] = spikes[1, 0, 3, 3] = True  # channel 0: cells 2, 0, 0, 1
    spikes[0, 1, 2, 0] = True  # channel 1: cells 0, 0, 1, 0
    assert reference.count(spikes, 1).tolist() == [3, 1]
    assert reference.count(spikes, 2).tolist() == [2, 0, 0, 1, 0, 0, 1, 0]
    assert reference.count(spikes[:, :, 0, 0], 1).tolist() == [1, 0]
    taps = (Tap(0, 1), Tap(1, 2))
    weight = np.array([[1, 0, 100, 0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 100, 0, 0, 1000, 0]], np.int16)
    probe = Probe(taps, weight, np.array([5, -7], np.int32), np.ones(2, np.float32))
    # the pool leaves of channel 0 the cells 2, 0, 0, 1 again, as its spikes are in steps of their own
    assert reference.run([MaxPool(2), probe], spikes)[0].tolist() == [3 + 200 + 5, 1 + 100 + 1000 - 7]


def test_the_logits_of_two_exits_are_rounded_before_they_are_added() -> None:
    one = Conv(np.ones((1, 1, 1, 1), np.int8), np.zeros(1, np.int32), np.ones(1, np.int32), padding=0)

    def readout(bias: int, scale: float) -> Readout:
        return Readout(np.zeros((1, 1), np.int8), np.array([bias], np.int32), np.array([scale], np.float32))

    # 16777217 is no float32: it is rounded to 16777216, and 1 more is lost again
    program = Program(FrameSpec(1, 1, 1, 1), (one,), (one,), (readout(2**24 + 1, 1.0),), (readout(1, 1.0),))
    spikes = np.ones((1, 1, 1, 1), np.bool_)
    assert reference.logits(program, spikes).tolist() == [2.0**24]
    program = Program(FrameSpec(1, 1, 1, 1), (one,), (one,), (readout(3, 0.5),), (readout(-1, 0.25),))
    assert reference.logits(program, spikes).tolist() == [1.25]


def test_two_exits_are_added_or_the_first_decides_among_the_known_classes() -> None:
    first, second = np.array([1, 4, 2], np.float32), np.array([0.5, -1, 3, 2.5, 9], np.float32)
    assert reference.join([first], 0).tolist() == [1, 4, 2]
    assert reference.join([first, second[:3]], 0).tolist() == [1.5, 3, 5]
    # the largest known logit of the second exit is 3: class 3 is half a point below it, class 4 six above
    assert reference.join([first, second], 3).tolist() == [1, 4, 2, 3.5, 10]
    rows = reference.join([np.stack([first, -first]), np.stack([second, second])], 3)
    assert rows.tolist() == [[1, 4, 2, 3.5, 10], [-1, -4, -2, -1.5, 5]]
