"""The integer program: there and back as records, what it proves of itself, what its id stands for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from ecc_model.errors import CompileError
from ecc_model.frames import FrameSpec
from ecc_model.layers import HALF_LEAK, LEAK_ONE
from ecc_model.program import (
    AveragePool,
    Conv,
    Linear,
    MaxPool,
    Program,
    Readout,
    Tap,
    from_records,
    prove,
    to_records,
)
from ecc_model.proof import membrane_bound
from support.programs import conv, linear, probe, programs, readout, residual, small_program

RNG = np.random.default_rng(0)


def copied(program: Program) -> tuple[dict[str, Any], dict[str, Any]]:
    """Records of a program after a trip through JSON."""
    spec, tensors = to_records(program)
    return json.loads(json.dumps(spec)), dict(tensors)


@given(programs())
def test_records_make_the_same_program_again(program: Program) -> None:
    spec, tensors = copied(program)
    again = from_records(spec, tensors)
    again_spec, again_tensors = to_records(again)
    assert (again_spec, again_tensors.keys()) == (spec, tensors.keys())
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(again_tensors[name], tensor)
    assert again.features_ids == program.features_ids
    assert (again.split_shape, again.code_shapes, again.classes) == (
        program.split_shape,
        program.code_shapes,
        program.classes,
    )


def test_shapes_of_a_program_by_hand() -> None:
    program = small_program(steps=3, channels=2, classes=7)
    assert program.input == FrameSpec(3, 2, 8, 8)
    assert (program.steps, program.classes) == (3, 7)
    assert (program.split_shape, program.code_shape) == ((3, 4, 4, 4), (3, 2, 4, 4))


# ---- features_id ----


def flipped(program: Program, section: str, tensor: str = "weight") -> Program:
    """One number of the section's first layer changed by one."""
    first, *others = getattr(program, section)
    values = getattr(first, tensor).copy()
    values.flat[0] += 1 if values.flat[0] < 100 else -1
    return replace(program, **{section: (replace(first, **{tensor: values}), *others)})


@pytest.mark.parametrize("section", ["head", "encoder"])
@pytest.mark.parametrize("tensor", ["weight", "bias", "theta"])
def test_one_changed_number_before_the_wire_changes_the_id(section: str, tensor: str) -> None:
    program = small_program()
    assert flipped(program, section, tensor).features_id != program.features_id


def test_the_exit_does_not_change_the_id() -> None:
    program = small_program()
    assert flipped(program, "exit").features_id == program.features_id
    grown = replace(program, exit=(*program.exit[:-1], readout(RNG, 5, 9)))
    assert grown.features_id == program.features_id


def test_stride_padding_and_steps_change_the_id() -> None:
    def id_of(head: Conv, steps: int = 2) -> str:
        side = (8 + 2 * head.padding - 3) // head.stride + 1
        exit_ = (readout(RNG, 2 * side * side, 2),)
        return Program(FrameSpec(steps, 1, 8, 8), (head,), (encoder,), exit_).features_id

    head, encoder = conv(RNG, 1, 2), conv(RNG, 2, 2)
    ids = {id_of(head), id_of(replace(head, stride=2)), id_of(replace(head, padding=2)), id_of(head, steps=3)}
    assert len(ids) == 4


def test_leaks_pools_and_residuals_change_the_id() -> None:
    small = small_program()

    def id_of(**parts: Any) -> str:
        return replace(small, **parts).features_id

    average = (AveragePool(2), conv(np.random.default_rng(1), 4, 2))
    summed = residual(np.random.default_rng(1), 4, 2)
    inner = replace(summed.branch[0], leak=1)
    gains = summed.gain.copy()
    gains[1, 1] += 1
    ids = [
        small.features_id,
        id_of(head=(replace(HEAD, leak=HALF_LEAK + 1), MaxPool(2))),
        id_of(encoder=average),
        id_of(encoder=(AveragePool(4), average[1])),
        id_of(encoder=(summed,)),
        id_of(encoder=(replace(summed, shift=9),)),
        id_of(encoder=(replace(summed, gain=gains),)),
        id_of(encoder=(replace(summed, leak=0),)),
        id_of(encoder=(replace(summed, branch=(inner,)),)),
        id_of(encoder=(replace(summed, branch=()),)),
        id_of(encoder=(replace(summed, last=replace(summed.last, padding=1, weight=summed.last.weight + np.int8(1))),)),
        id_of(encoder=(replace(summed, shortcut=replace(summed.shortcut, weight=-summed.shortcut.weight)),)),
    ]
    assert len(set(ids)) == len(ids)


def test_a_program_without_the_newer_layers_is_of_the_first_format() -> None:
    small = small_program()
    spec, _ = to_records(small)
    assert small.format == 1
    assert spec["head"] == [{"op": "conv", "stride": 1, "padding": 1}, {"op": "maxpool", "size": 2}]
    assert spec["exit"][2] == {"op": "linear"}
    assert replace(small, head=(replace(HEAD, leak=0), MaxPool(2))).format == 2
    assert replace(small, encoder=(residual(RNG, 4, 2),)).format == 2
    assert replace(small, exit=(AveragePool(4), readout(RNG, 4, 3))).format == 2


def test_a_probe_or_a_second_exit_is_of_the_third_format() -> None:
    small = small_program()
    probed = probed_with()()
    assert probed.format == 3
    assert replace(small, second=small.exit).format == 3
    spec, tensors = to_records(replace(probed, second=small.exit))
    assert spec["exit"][-1] == {"op": "probe", "taps": [[0, 1], [0, 2], [3, 1]]}
    assert tensors["exit.3.weight"].dtype == np.int16
    assert "second.3.weight" in tensors
    assert "second" not in to_records(small)[0]


def test_an_exit_that_decides_among_known_classes_is_of_the_fourth_format() -> None:
    small = small_program()
    grown = replace(small, second=small_program(classes=5).exit, known=3)
    assert (grown.format, grown.classes, to_records(grown)[0]["known"]) == (4, 5, 3)
    same = from_records(*to_records(grown))
    assert (same.known, same.classes, same.features_id) == (3, 5, small.features_id)
    assert "known" not in to_records(small)[0]
    for known in (-1, True, "3", 5000):
        spec, tensors = to_records(grown)
        with pytest.raises(CompileError, match=r"^the program's first exit decides among .* classes$"):
            from_records(spec | {"known": known}, tensors)


def with_others() -> Program:
    """`small_program` with two further encoders: codes of 8, 4 and 1 bytes."""
    rng = np.random.default_rng(7)
    return replace(small_program(), others=((conv(rng, 4, 1),), (conv(rng, 4, 1, stride=2),)))


def test_other_encoders_are_of_the_fifth_format_and_have_ids_of_their_own() -> None:
    small, several = small_program(), with_others()
    assert several.format == 5
    assert several.code_shapes == ((2, 2, 4, 4), (2, 1, 4, 4), (2, 1, 2, 2))
    assert (several.code_shape, several.features_id) == (small.code_shape, small.features_id)
    assert several.features_ids[0] == several.features_id
    assert len(set(several.features_ids)) == 3
    assert several.encoders == (several.encoder, *several.others)
    spec, tensors = to_records(several)
    assert [entries[0]["op"] for entries in spec["others"]] == ["conv", "conv"]
    assert {name for name in tensors if name.startswith("others.1.")} == {
        "others.1.0.weight",
        "others.1.0.bias",
        "others.1.0.theta",
    }
    assert "others" not in to_records(small)[0]


def test_an_encoder_has_the_same_id_wherever_it_stands() -> None:
    several = with_others()
    for index, features_id in enumerate(several.features_ids):
        alone = replace(several, encoder=several.encoders[index], others=())
        assert (alone.features_ids, alone.format) == ((features_id,), 1)
        assert alone.code_shape == several.code_shapes[index]
    second = replace(several, encoder=several.others[0], others=())
    changed = replace(several, others=(flipped(second, "encoder").encoder, several.others[1]))
    assert changed.features_ids[1] != several.features_ids[1]
    assert (changed.features_ids[0], changed.features_ids[2]) == (several.features_ids[0], several.features_ids[2])


def test_no_exit_changes_the_id() -> None:
    small = small_program()
    for other in (probed_with()(), replace(small, second=small.exit), replace(small, second=probed_with()().exit)):
        assert other.features_id == small.features_id
        assert other.classes == 3


# ---- what a program must be ----


def probed_with(**parts: Any) -> Callable[[], Program]:
    """`small_program` with a probe behind its neurons; `parts` of the probe are others."""

    def make() -> Program:
        small = small_program()
        taps = [Tap(0, 1), Tap(0, 2), Tap(3)]
        made = probe(np.random.default_rng(3), small.exit[:3], small.split_shape, taps, 3)
        return replace(small, exit=(*small.exit[:3], replace(made, **parts)))

    return make


def wide(*shape: int) -> Any:
    return np.zeros(shape, np.int16)


def program_with(**parts: Any) -> Callable[[], Program]:
    return lambda: replace(small_program(), **parts)


SMALL = small_program()
HEAD, ENCODER = SMALL.head[0], SMALL.encoder[0]
SUMMED = residual(np.random.default_rng(2), 4, 4)
BARE = residual(np.random.default_rng(2), 4, 4, bare=True)
assert SUMMED.shortcut is not None
assert isinstance(HEAD, Conv)
assert isinstance(ENCODER, Conv)
LINEAR, READOUT = SMALL.exit[2], SMALL.exit[3]
assert isinstance(LINEAR, Linear)
assert isinstance(READOUT, Readout)
ANY_EXIT = (readout(RNG, 64, 2),)
I32 = np.int32

MAPS = "head and encoder end with feature maps"
MISFIT = "{} does not fit an input of shape (2, 4, 4, 4)"

WRONG: dict[str, tuple[Callable[[], Program], str]] = {
    "no steps": (program_with(input=FrameSpec(0, 1, 8, 8)), "a program has 1 to 16 steps and 1 to 3 channels, not "),
    "17 steps": (program_with(input=FrameSpec(17, 1, 8, 8)), "a program has 1 to 16 steps and 1 to 3 channels, not "),
    "4 channels": (program_with(input=FrameSpec(2, 4, 8, 8)), "a program has 1 to 16 steps and 1 to 3 channels, not "),
    "no height": (program_with(input=FrameSpec(2, 1, 0, 8)), "a program's frames have sides of 1 to 4096 pixels, not "),
    "wide": (program_with(input=FrameSpec(2, 1, 8, 4097)), "a program's frames have sides of 1 to 4096 pixels, not "),
    "no exit": (program_with(exit=()), "the exit ends with a readout or a probe"),
    "exit without readout": (program_with(exit=SMALL.exit[:-1]), "the exit ends with a readout or a probe"),
    "second exit without readout": (program_with(second=SMALL.exit[:-1]), "the exit ends with a readout or a probe"),
    "second exit of two classes": (
        program_with(second=(*SMALL.exit[:-1], readout(RNG, 5, 2))),
        "the second exit has another number of classes than the first",
    ),
    "known classes without a second exit": (
        program_with(known=3),
        "the first exit decides among 3 classes, the exits have [3]",
    ),
    "other known classes than the first exit's": (
        program_with(second=small_program(classes=5).exit, known=2),
        "the first exit decides among 2 classes, the exits have [3, 5]",
    ),
    "no class beyond the known ones": (
        program_with(second=SMALL.exit, known=3),
        "the first exit decides among 3 classes, the exits have [3, 3]",
    ),
    "readout twice in the second exit": (
        program_with(second=(readout(RNG, 64, 5), readout(RNG, 5, 3))),
        "second.0: a readout stands only at the end of the exit",
    ),
    "probe before layers": (
        program_with(exit=(probe(RNG, (), SMALL.split_shape, [Tap(0)], 5), READOUT)),
        "exit.0: a probe stands only at the end of the exit",
    ),
    "probe of averages": (
        program_with(exit=(AveragePool(2), probe(RNG, (AveragePool(2),), SMALL.split_shape, [Tap(1)], 3))),
        "exit.1: a probe counts spikes, not sums of spikes",
    ),
    "probe without taps": (probed_with(taps=()), "exit.3: its taps are not in order, or the last of them is not at "),
    "taps out of order": (
        probed_with(taps=(Tap(0, 2), Tap(0, 1), Tap(3))),
        "exit.3: its taps are not in order, or the last of them is not at the probe itself",
    ),
    "tap twice": (probed_with(taps=(Tap(0), Tap(0), Tap(3))), "exit.3: its taps are not in order"),
    "tap before the section": (probed_with(taps=(Tap(-1), Tap(3))), "exit.3: its taps are not in order"),
    "layers behind the last tap": (probed_with(taps=(Tap(0), Tap(2))), "exit.3: its taps are not in order"),
    "tap behind the probe": (probed_with(taps=(Tap(0), Tap(4))), "exit.3: its taps are not in order"),
    "grid that does not divide": (
        probed_with(taps=(Tap(0, 3), Tap(3))),
        "exit.3: taps [(0, 3), (3, 1)] and weight (3, 25) do not fit spikes of shape (2, 5)",
    ),
    "grid of zero": (probed_with(taps=(Tap(0, 0), Tap(3))), "exit.3: taps [(0, 0), (3, 1)] and weight (3, 25)"),
    "grid of neurons": (probed_with(taps=(Tap(3, 2),)), "exit.3: taps [(3, 2)] and weight (3, 25) do not fit"),
    "probe width": (probed_with(weight=wide(3, 24)), "exit.3: taps [(0, 1), (0, 2), (3, 1)] and weight (3, 24)"),
    "probe without classes": (probed_with(weight=wide(0, 25)), "and weight (0, 25) do not fit spikes"),
    "short bias of a probe": (
        probed_with(bias=np.zeros(2, np.int32)),
        "exit.3: weight (3, 25) and its vectors do not fit each other",
    ),
    "scale of a probe": (
        probed_with(scale=np.array([1, -1, 1], np.float32)),
        "exit.3: scales must be finite and above zero",
    ),
    "probe beyond int32": (
        probed_with(bias=np.full(3, 2**31 - 1, np.int32)),
        "beyond int32; scale the weights down",
    ),
    "other encoder as long as the first": (
        program_with(others=((conv(RNG, 4, 2),),)),
        "encoders of [8, 8] bytes; they stand in order, each smaller than the one before it",
    ),
    "other encoders out of order": (
        program_with(others=((conv(RNG, 4, 1, stride=2),), (conv(RNG, 4, 1),))),
        "encoders of [8, 1, 4] bytes; they stand in order",
    ),
    "nine encoders": (program_with(others=((conv(RNG, 4, 1),),) * 8), "9 encoders; a program has 1 to 8"),
    "other encoder without layers": (program_with(others=((),)), "encoders of [8, 16] bytes"),
    "other encoder that is flat": (program_with(others=((linear(RNG, 64, 3),),)), MAPS),
    "other encoder of other channels": (program_with(others=((conv(RNG, 3, 1),),)), MISFIT.format("others.0.0: conv")),
    "readout in another encoder": (
        program_with(others=((readout(RNG, 64, 2),),)),
        "others.0.0: a readout stands only at the end of the exit",
    ),
    "no head": (
        program_with(head=(), encoder=(conv(RNG, 1, 1),), exit=ANY_EXIT),
        MAPS,
    ),
    "no encoder": (program_with(encoder=()), MAPS),
    "flat encoder": (program_with(encoder=(linear(RNG, 64, 3),)), MAPS),
    "flat head": (
        program_with(head=(linear(RNG, 64, 64),), encoder=(linear(RNG, 64, 2),), exit=ANY_EXIT),
        MAPS,
    ),
    "head without neurons": (
        program_with(head=(MaxPool(2),), encoder=(conv(RNG, 1, 1),), exit=(readout(RNG, 16, 2),)),
        "the head has no layer with neurons: its pixels would not become spikes",
    ),
    "readout in the head": (
        program_with(head=(*SMALL.head, readout(RNG, 64, 64))),
        "head.2: a readout stands only at the end of the exit",
    ),
    "readout twice": (
        program_with(exit=(readout(RNG, 64, 5), readout(RNG, 5, 2))),
        "exit.0: a readout stands only at the end of the exit",
    ),
    "4097 classes": (program_with(exit=(readout(RNG, 64, 4097),)), "exit.0: more than 4096 classes"),
    "scale of zero": (
        program_with(exit=(*SMALL.exit[:-1], replace(READOUT, scale=np.array([1, 0, 1], np.float32)))),
        "exit.3: scales must be finite and above zero",
    ),
    "scale NaN": (
        program_with(exit=(*SMALL.exit[:-1], replace(READOUT, scale=np.array([1, np.nan, 1], np.float32)))),
        "exit.3: scales must be finite and above zero",
    ),
    "threshold 0": (
        program_with(encoder=(replace(ENCODER, theta=np.array([1, 0], I32)),)),
        "encoder.0: a firing threshold below 1",
    ),
    "scale beyond float32": (
        program_with(exit=(*SMALL.exit[:-1], replace(READOUT, scale=np.full(3, 1e38, np.float32)))),
        "exit.3: logits may leave float32; take smaller scales",
    ),
    "threshold below": (
        program_with(head=(replace(HEAD, theta=np.array([1, 1, 1, -(2**31)], I32)), MaxPool(2))),
        "head.0: a firing threshold below 1",
    ),
    "membrane beyond int32": (
        program_with(encoder=(replace(ENCODER, bias=np.array([0, -(2**30)], I32)),)),
        "encoder.0: sums may reach ",
    ),
    "readout beyond int32": (
        program_with(exit=(*SMALL.exit[:-1], replace(READOUT, bias=np.full(3, 2**30, I32)))),
        "beyond int32; scale the weights down",
    ),
    "channels": (
        program_with(encoder=(conv(RNG, 3, 2),)),
        MISFIT.format("encoder.0: conv"),
    ),
    "kernel not square": (
        program_with(encoder=(replace(ENCODER, weight=ENCODER.weight[..., :2]),)),
        MISFIT.format("encoder.0: conv"),
    ),
    "kernel above the map": (
        program_with(encoder=(conv(RNG, 4, 2, 7, padding=1),)),
        MISFIT.format("encoder.0: conv"),
    ),
    "conv after linear": (
        program_with(exit=(linear(RNG, 64, 5), conv(RNG, 5, 2), READOUT)),
        "exit.1: conv does not fit an input of shape (2, 5)",
    ),
    "pool that does not divide": (
        program_with(encoder=(ENCODER, MaxPool(3))),
        "encoder.1: maxpool does not fit an input of shape",
    ),
    "pool after linear": (
        program_with(exit=(linear(RNG, 64, 5), MaxPool(2), READOUT)),
        "exit.1: maxpool does not fit an input of shape (2, 5)",
    ),
    "linear width": (
        program_with(exit=(linear(RNG, 63, 5), READOUT)),
        MISFIT.format("exit.0: linear"),
    ),
    "readout width": (
        program_with(exit=(readout(RNG, 63, 5),)),
        MISFIT.format("exit.0: readout"),
    ),
    "average of pixels": (
        program_with(head=(AveragePool(2), conv(RNG, 1, 4))),
        "head.0: an average pool takes spikes, neither the frame nor sums of spikes",
    ),
    "average of averages": (
        program_with(encoder=(AveragePool(2), AveragePool(2), conv(RNG, 4, 2))),
        "encoder.1: an average pool takes spikes, neither the frame nor sums of spikes",
    ),
    "maximum of averages": (
        program_with(encoder=(AveragePool(2), MaxPool(2), conv(RNG, 4, 2))),
        "encoder.1: a max pool takes spikes or the frame, not sums of spikes",
    ),
    "head that ends with an average": (
        program_with(head=(HEAD, AveragePool(2))),
        "head ends with an average pool: put a layer with neurons behind it",
    ),
    "average that does not divide": (
        program_with(encoder=(AveragePool(3), ENCODER)),
        MISFIT.format("encoder.0: avgpool"),
    ),
    "residual of pixels": (
        program_with(head=(residual(RNG, 1, 4), MaxPool(2))),
        "head.0: a residual sum takes spikes, neither the frame nor sums of spikes",
    ),
    "residual of averages": (
        program_with(encoder=(AveragePool(2), SUMMED)),
        "encoder.1: a residual sum takes spikes, neither the frame nor sums of spikes",
    ),
    "branch of another shape": (
        program_with(encoder=(replace(SUMMED, last=replace(SUMMED.last, stride=2)),)),
        "encoder.0: a branch of shape (2, 4, 2, 2) and a shortcut of shape (2, 4, 4, 4) cannot be added",
    ),
    "bare spikes of another shape": (
        program_with(encoder=(replace(BARE, last=replace(BARE.last, weight=BARE.last.weight[:3])),)),
        "encoder.0: a branch of shape (2, 3, 4, 4) and a shortcut of shape (2, 4, 4, 4) cannot be added",
    ),
    "one gain": (
        program_with(encoder=(replace(SUMMED, gain=SUMMED.gain[:1]),)),
        "encoder.0: gain (1, 4) and its vectors do not fit 4 channels",
    ),
    "residual without thresholds": (
        program_with(encoder=(replace(SUMMED, theta=SUMMED.theta[:3]),)),
        "encoder.0: gain (2, 4) and its vectors do not fit 4 channels",
    ),
    "threshold of zero in a branch": (
        program_with(encoder=(replace(SUMMED, branch=(replace(SUMMED.branch[0], theta=np.zeros(4, I32)),)),)),
        "encoder.0.branch.0: a firing threshold below 1",
    ),
    "branch of another width": (
        program_with(encoder=(replace(SUMMED, branch=(conv(RNG, 3, 4),)),)),
        "encoder.0.branch.0: conv does not fit an input of shape (2, 4, 4, 4)",
    ),
    "residual beyond int32": (
        program_with(encoder=(replace(SUMMED, gain=np.full((2, 4), 2**30, I32), shift=3),)),
        "encoder.0: sums may reach ",
    ),
    "membrane that never leaks": (
        program_with(
            input=FrameSpec(16, 1, 8, 8), encoder=(replace(ENCODER, bias=np.full(2, 2**27, I32), leak=LEAK_ONE),)
        ),
        "encoder.0: sums may reach ",
    ),
    "short bias": (
        program_with(encoder=(replace(ENCODER, bias=ENCODER.bias[:1]),)),
        "encoder.0: weight (2, 4, 3, 3) and its vectors do not fit each other",
    ),
    "flat weight": (
        program_with(encoder=(replace(ENCODER, weight=np.zeros(2, np.int8)),)),
        "encoder.0: weight (2,) and its vectors do not fit each other",
    ),
    "no outputs": (
        program_with(encoder=(Conv(np.zeros((0, 4, 3, 3), np.int8), np.zeros(0, I32), np.zeros(0, I32)),)),
        "encoder.0: weight (0, 4, 3, 3) and its vectors do not fit each other",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_program_that_cannot_be_is_refused_by_name(name: str) -> None:
    make, text = WRONG[name]
    with pytest.raises(CompileError) as caught:
        make()
    assert text in str(caught.value)


def test_the_proof_of_a_probe_is_exact() -> None:
    # 2 steps of a 4x4 map: a cell of the whole map counts up to 32, one of a quarter up to 8, a neuron up to 2
    def made(bias: int) -> Program:
        weight = wide(3, 25)
        weight[1, 0], weight[1, 4], weight[1, 24] = 1000, -1000, 1000
        return probed_with(weight=weight, bias=np.array([0, bias, 0], I32), scale=np.ones(3, np.float32))()

    most = 2**31 - 1 - 1000 * (32 + 8 + 2)
    made(most)
    made(-most)
    with pytest.raises(CompileError, match=f"^exit.3: sums may reach {2**31}, beyond int32; scale the weights down$"):
        made(most + 1)


def test_the_proof_is_exact_at_the_end_of_int32() -> None:
    # one input of weight 1, T 2: the membrane is proven by 2 (1 + |bias|) + 1, the readout by 2 (1 + |bias|)
    def made(encoder_bias: int, readout_bias: int) -> Program:
        def vector(value: int) -> Any:
            return np.array([value], I32)

        one = np.ones((1, 1, 1, 1), np.int8)
        return Program(
            FrameSpec(2, 1, 1, 1),
            (Conv(one, vector(0), vector(1), padding=0),),
            (Conv(one, vector(encoder_bias), vector(1), padding=0),),
            (Readout(np.ones((1, 1), np.int8), vector(readout_bias), np.ones(1, np.float32)),),
        )

    most = 2**30 - 2
    made(most, most)
    made(-most, -most)
    with pytest.raises(CompileError, match=f"^encoder.0: sums may reach {2**31 + 1}, beyond int32; scale the weights"):
        made(most + 1, 0)
    with pytest.raises(CompileError, match=f"^exit.0: sums may reach {2**31}, beyond int32; scale the weights down$"):
        made(0, most + 1)
    prove("here", 2**31 - 1)


@pytest.mark.parametrize("leak", [0, 1, 9_999, HALF_LEAK - 1, HALF_LEAK, HALF_LEAK + 1, 32_000, LEAK_ONE])
def test_the_proof_covers_what_membranes_reach(leak: int) -> None:
    # the largest inputs of either sign, in each step, and a threshold out of reach
    for bound in (1, 2, 7, 1000, 2**26):
        for sign in (1, -1):
            reached = 0
            for steps in range(1, 17):
                reached = (reached * leak >> 15) + sign * bound
                assert abs(reached) <= membrane_bound(bound, leak, steps)
    assert membrane_bound(2**27, LEAK_ONE, 16) == 2**31
    assert membrane_bound(100, 0, 16) == 100


# ---- records that lie ----


def edited(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Callable[[], Program]:
    def make() -> Program:
        spec, tensors = copied(small_program())
        change(spec, tensors)
        return from_records(spec, tensors)

    return make


def residual_with(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Callable[[], Program]:
    """A program whose encoder is a residual sum, its entry and the tensors changed."""

    def make() -> Program:
        spec, tensors = copied(replace(small_program(), encoder=(SUMMED,)))
        change(spec["encoder"][0], tensors)
        return from_records(spec, tensors)

    return make


def set_(place: str, value: object) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    section, index, name = place.split(".")
    return lambda spec, _: spec[section][int(index)].update({name: value})


def probe_edited(change: Callable[[dict[str, Any], dict[str, Any]], object]) -> Callable[[], Program]:
    """A program with a probe, its entry and the tensors changed."""

    def make() -> Program:
        spec, tensors = copied(probed_with()())
        change(spec["exit"][-1], tensors)
        return from_records(spec, tensors)

    return make


PAIRS = "exit.3: its taps are no list of at most 16 pairs [after, grid]"

LIES: dict[str, tuple[Callable[[], Program], str]] = {
    "no taps": (probe_edited(lambda e, _: e.pop("taps")), PAIRS),
    "taps are a text": (probe_edited(lambda e, _: e.update(taps="[]")), PAIRS),
    "tap is a number": (probe_edited(lambda e, _: e.update(taps=[0, 1])), PAIRS),
    "tap of three": (probe_edited(lambda e, _: e.update(taps=[[0, 1, 1]])), PAIRS),
    "tap of floats": (probe_edited(lambda e, _: e.update(taps=[[0.0, 1]])), PAIRS),
    "tap below zero": (probe_edited(lambda e, _: e.update(taps=[[0, -1]])), PAIRS),
    "17 taps": (probe_edited(lambda e, _: e.update(taps=[[0, 1]] * 17)), PAIRS),
    "probe of int8": (
        probe_edited(lambda _, t: t.update({"exit.3.weight": t["exit.3.weight"].astype(np.int8)})),
        "exit.3: no int16 tensor 'weight'",
    ),
    "second exit is a text": (edited(lambda s, _: s.update(second="exit")), "the program has no section 'second'"),
    "second exit is empty": (edited(lambda s, _: s.update(second=[None])), "second.0: unknown layer None"),
    "other encoders are a text": (
        edited(lambda s, _: s.update(others="conv")),
        "the program's other encoders are no lists of layers",
    ),
    "another encoder is no list": (
        edited(lambda s, _: s.update(others=[{"op": "conv"}])),
        "the program's other encoders are no lists of layers",
    ),
    "another encoder without tensors": (
        edited(lambda s, _: s.update(others=[s["encoder"]])),
        "others.0.0: no int8 tensor 'weight'",
    ),
    "tensors of another encoder alone": (
        edited(lambda _, t: t.update({"others.0.0.weight": t["encoder.0.weight"]})),
        "tensors that no layer uses: 'others.0.0.weight'",
    ),
    "no input": (edited(lambda s, _: s.pop("input")), "the program's input is not [steps, channels, height"),
    "short input": (
        edited(lambda s, _: s["input"].pop()),
        "the program's input is not [steps, channels, height",
    ),
    "input of floats": (edited(lambda s, _: s.update(input=[2.0, 1, 8, 8])), "the program's input is not ["),
    "input of bools": (edited(lambda s, _: s.update(input=[True, 1, 8, 8])), "the program's input is not ["),
    "no exit": (edited(lambda s, _: s.pop("exit")), "the program has no section 'exit'"),
    "section is a text": (edited(lambda s, _: s.update(head="conv")), "the program has no section 'head'"),
    "unknown op": (edited(set_("encoder.0.op", "softmax")), "encoder.0: unknown layer {'op': 'softmax', "),
    "op is a list": (edited(set_("encoder.0.op", [])), "encoder.0: unknown layer {'op': [], "),
    "layer is a text": (edited(lambda s, _: s.update(head=["conv"])), "head.0: unknown layer 'conv'"),
    "stride 0": (edited(set_("head.0.stride", 0)), "head.0: stride is 0, allowed are 1 to 8"),
    "stride missing": (edited(lambda s, _: s["head"][0].pop("stride")), "head.0: stride is None, allowed are 1 to 8"),
    "stride true": (edited(set_("head.0.stride", True)), "head.0: stride is True, allowed are 1 to 8"),
    "padding 9": (edited(set_("head.0.padding", 9)), "head.0: padding is 9, allowed are 0 to 8"),
    "leak below 0": (edited(set_("head.0.leak", -1)), "head.0: leak is -1, allowed are 0 to 32768"),
    "leak above 1": (edited(set_("exit.2.leak", 32769)), "exit.2: leak is 32769, allowed are 0 to 32768"),
    "average pool of 65": (
        edited(lambda s, _: s["head"].append({"op": "avgpool", "size": 65})),
        "head.2: size is 65, allowed are 2 to 64",
    ),
    "currents alone": (
        edited(lambda s, _: s["head"].append({"op": "currents", "stride": 1, "padding": 1})),
        "head.2: unknown layer {'op': 'currents', ",
    ),
    "residual without a branch": (residual_with(lambda e, _: e.pop("branch")), "encoder.0: no list of layers 'branch'"),
    "pool in a branch": (
        residual_with(lambda e, _: e["branch"].append({"op": "maxpool", "size": 2})),
        "encoder.0.branch.1: unknown layer {'op': 'maxpool', ",
    ),
    "neurons at the end of a branch": (
        residual_with(lambda e, _: e["last"].update(op="conv")),
        "encoder.0.last: unknown layer {'op': 'conv', ",
    ),
    "nothing at the end of a branch": (residual_with(lambda e, _: e.pop("last")), "encoder.0.last: unknown layer None"),
    "shortcut forgotten": (
        residual_with(lambda e, _: e.pop("shortcut")),
        "tensors that no layer uses: 'encoder.0.shortcut.weight'",
    ),
    "shift of 32": (residual_with(lambda e, _: e.update(shift=32)), "encoder.0: shift is 32, allowed are 0 to 31"),
    "gain of 64 bits": (
        residual_with(lambda _, t: t.update({"encoder.0.gain": t["encoder.0.gain"].astype(np.int64)})),
        "encoder.0: no int32 tensor 'gain'",
    ),
    "pool of 1": (edited(set_("head.1.size", 1)), "head.1: size is 1, allowed are 2 to 8"),
    "no theta": (edited(lambda _, t: t.pop("encoder.0.theta")), "encoder.0: no int32 tensor 'theta'"),
    "float weight": (
        edited(lambda _, t: t.update({"exit.0.weight": t["exit.0.weight"].astype(np.float32)})),
        "exit.0: no int8 tensor 'weight'",
    ),
    "left over": (
        edited(lambda _, t: t.update({f"exit.9{i}.weight": t["exit.0.weight"] for i in range(4)})),
        "tensors that no layer uses: 'exit.90.weight', 'exit.91.weight', 'exit.92.weight'",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_records_that_lie_are_refused_by_name(name: str) -> None:
    make, text = LIES[name]
    with pytest.raises(CompileError) as caught:
        make()
    assert str(caught.value).startswith(text)
