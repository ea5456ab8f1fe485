"""`ecc-tools bench edge` and `bench limit`: what is counted, compared and refused, on small networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ecc_device.engines import EventEngine, ReferenceEngine
from ecc_device.engines.arena import ISA, chosen_isa
from ecc_model import native, reference
from ecc_model.errors import DeviceError
from ecc_model.layers import AveragePool, Conv, Currents, Layer, Linear, Residual
from ecc_model.modelfile import read_edge
from ecc_tools.bench import edge as bench
from ecc_tools.bench.limit import limit
from ecc_tools.bench.networks import random_vgg9
from ecc_tools.bench.operations import costs, operations
from ecc_tools.bench.peers import PEERS
from ecc_tools.bench.timing import alternate, compare
from ecc_tools.cli import app
from support.engines import installed_engines
from support.models import write_tiny_models
from support.programs import conv, linear, residual

pytestmark = pytest.mark.skipif(native.library() is None, reason="the C library is not built")

WIDTH = 0.125
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.2])
def test_random_networks_fire_at_the_rate_that_is_asked_for(rate: float) -> None:
    program, frame = random_vgg9(2, WIDTH, rate)
    assert program.frame_shape == (2, 3, 32, 32)
    for cost in costs(program, [frame], 1):
        if cost.counted:
            assert cost.rates[0] == pytest.approx(rate, abs=0.02)
            assert (cost.operations[0] > 0) == (rate > 0)


def ones(layer: Layer) -> Layer:
    """The layer with weights of 1 and thresholds that nothing reaches, so that its sums count operations."""
    if isinstance(layer, Conv | Linear):
        never = np.full(len(layer.bias), 2**31 - 1, np.int32)
        return type(layer)(np.ones_like(layer.weight), layer.bias * 0, never, **_geometry(layer), leak=0)
    raise TypeError(layer)


def _geometry(layer: Conv | Linear) -> dict[str, int]:
    return {"stride": layer.stride, "padding": layer.padding} if isinstance(layer, Conv) else {}


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_operations_are_weights_that_spikes_reach(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    kernel, stride, padding = (data.draw(st.integers(low, 4)) for low in (1, 1, 0))
    spikes = rng.random((3, 2, 5, 7)) < data.draw(st.sampled_from([0.0, 0.3, 1.0]))
    layer = data.draw(
        st.sampled_from([conv(rng, 2, 3, kernel, stride=stride, padding=padding), linear(rng, 2 * 5 * 7, 4)])
    )
    _, (trace,) = reference.run([ones(layer)], spikes)
    assert trace.membrane is not None
    assert operations(layer, spikes.astype(np.int64)) == trace.membrane.sum()


def test_operations_of_residual_sums_are_those_of_their_parts() -> None:
    rng = np.random.default_rng(0)
    spikes = (rng.random((2, 4, 6, 6)) < 0.4).astype(np.int64)
    layer = residual(rng, 4, 5, stride=2)
    assert isinstance(layer, Residual)
    assert layer.shortcut is not None
    inside, _ = reference.run(layer.branch, spikes)
    last, beside = (plain(part) for part in (layer.last, layer.shortcut))
    parts = operations(layer.branch[0], spikes) + operations(last, inside) + operations(beside, spikes)
    assert operations(layer, spikes) == parts
    assert operations(AveragePool(2), spikes) == 0


def plain(part: Currents) -> Conv:
    vector = np.ones(len(part.weight), np.int32)
    return Conv(part.weight, vector, vector, part.stride, part.padding)


def test_a_profile_gives_the_frames_bits_and_a_time_for_each_layer() -> None:
    program, frame = random_vgg9(2, WIDTH, 0.1)
    found = costs(program, [frame, frame], 2)
    assert [cost.place for cost in found] == [f"head.{i}" for i in range(6)] + [f"exit.{i}" for i in range(6)]
    assert [cost.counted for cost in found[:3]] == [False, True, False]
    assert all(len(cost.nanoseconds) == 2 and min(cost.nanoseconds) > 0 for cost in found if cost.kind != "maxpool")
    assert EventEngine(program).exit(EventEngine(program).head(frame)).tobytes() == (
        ReferenceEngine(program).exit(ReferenceEngine(program).head(frame)).tobytes()
    )


def test_candidates_take_turns() -> None:
    asked: list[tuple[str, int]] = []
    times = alternate({name: lambda number, name=name: asked.append((name, number)) for name in "ab"}, 6)
    assert {name: spent.shape for name, spent in times.items()} == {"a": (6,), "b": (6,)}
    order = [name for index, (name, _) in enumerate(asked) if index == 0 or asked[index - 1][0] != name]
    assert order[:6] == ["a", "b", "a", "b", "a", "b"]  # warm-up, round 0, and round 1 starts with b


def test_ratios_are_taken_round_by_round() -> None:
    times = {"event": np.array([1.0, 2.0, 4.0]), "other": np.array([3.0, 4.0, 20.0])}
    found = compare(times, "event")
    assert found["other"]["ratio"]["median"] == 3.0
    assert found["event"] == {
        "ms": {"median": 2.0, "p5": 1.1, "p95": 3.8},
        "ratio": {"median": 1.0, "p5": 1.0, "p95": 1.0},
    }


def row(rate: float, operations_: int, ms: float) -> dict[str, object]:
    return {
        "steps": 2,
        "width": 1.0,
        "rate": rate,
        "operations": operations_,
        "candidates": {"event": {"ms": {"median": ms}}, "numpy": {"ms": {"median": 9.0}}},
    }


def test_the_line_leaves_the_silent_network_out_and_says_its_share() -> None:
    rows = [row(0.0, 0, 0.1), row(0.01, 1_000_000, 0.3), row(0.05, 3_000_000, 0.5), row(0.1, 5_000_000, 0.7)]
    (found,) = bench.lines(rows)
    assert (found["candidate"], found["r2"]) == ("event", 1.0)
    assert found["operations_per_s"] == pytest.approx(1e10)
    assert found["ms_without_operations"] == pytest.approx(0.2)
    assert found["silent_share"] == 0.2
    assert found["r2_with_silence"] < 0.99
    assert bench.lines(rows[:2]) == []


def test_a_candidate_that_is_none_is_named_with_all_that_are() -> None:
    with pytest.raises(DeviceError) as caught:
        bench.check_against(["numpy", "abacus"])
    assert str(caught.value) == (
        "there is nothing called 'abacus' to compare with; choose from: "
        "event, numpy, reference, tflite, torch, onnxruntime, ann, ann-tflite, spikingjelly"
    )


def test_an_engine_with_other_logits_is_an_error() -> None:
    program, frame = random_vgg9(2, WIDTH, 0.1)
    other, _ = random_vgg9(2, WIDTH, 0.1, seed=1)
    subject = bench.Subject("x", program, [frame], {})
    with pytest.raises(DeviceError, match=r"^the engine 'numpy' gives other logits than 'event'; that is a bug: "):
        bench.measure(subject, {"event": EventEngine(program), "numpy": ReferenceEngine(other)}, {}, 5)


@pytest.mark.parametrize("name", PEERS)
def test_peers_answer_with_a_number_for_each_class(name: str) -> None:
    pytest.importorskip("spikingjelly" if name == "spikingjelly" else "onnxruntime")
    program, frame = random_vgg9(2, WIDTH, 0.1)
    logits = PEERS[name](program)(frame)
    assert (logits.dtype, logits.size) == (np.float32, program.classes)
    assert np.isfinite(logits).all()


@pytest.mark.parametrize(("name", "least"), [("onnxruntime", 0.85), ("spikingjelly", 0.9)])
def test_a_peer_is_the_program_but_for_its_rounding(name: str, least: float) -> None:
    pytest.importorskip(name)
    frames = list(np.load(EXAMPLES / "streams" / "first.npz")["frames"][:100])
    program = read_edge(EXAMPLES / "models" / "vgg9.pt").program
    own = bench.classes(bench.classify(EventEngine(program), frames), len(frames))
    assert (bench.classes(bench.answer(PEERS[name](program), frames), len(frames)) == own).mean() > least


def test_the_limit_grows_with_what_a_vector_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    if chosen_isa() in ("baseline", "neon"):
        pytest.skip("one build alone")
    widest = limit(512, 1 << 14)
    monkeypatch.setenv(ISA, "baseline")
    assert widest > 1.2 * limit(512, 1 << 14)


def test_commands_write_json(tmp_path: Path) -> None:
    sizes = ["--width", str(WIDTH), "--steps", "2"]
    rates = [option for rate in ("0", "0.02", "0.05", "0.1") for option in ("--rate", rate)]
    against = ["--against", "numpy,reference", "--isa", "baseline", "--rounds", "5", "--out", str(tmp_path / "edge")]
    done = CliRunner().invoke(app, ["bench", "edge", *sizes, *rates, *against, "--json"], catch_exceptions=False)
    measured = json.loads(done.stdout)
    assert measured == json.loads((tmp_path / "edge" / "edge.json").read_text())
    assert [network["rate"] for network in measured["networks"]] == [0.0, 0.02, 0.05, 0.1]
    for network in measured["networks"]:
        assert {"event", "numpy", "reference"} <= set(network["candidates"])
        assert network["candidates"]["event"]["ratio"]["median"] == 1.0
    assert (tmp_path / "edge" / "edge.svg").read_text().startswith("<?xml")
    done = CliRunner().invoke(app, ["bench", "limit", *sizes, "--json"], catch_exceptions=False)
    (network,) = json.loads(done.stdout)["networks"]
    assert [layer["place"] for layer in network["layers"]][:3] == ["head.1", "head.3", "head.4"]
    for layer in network["layers"]:
        assert layer["share_own"] == pytest.approx(layer["operations_per_s"] / layer["limit_own"], abs=2e-3)


def test_a_model_is_timed_on_events_without_labels() -> None:
    model, data = EXAMPLES / "06_event_camera.pt", f"{EXAMPLES / 'streams' / 'nmnist'}#steps=3"
    arguments = ["--model", str(model), "--data", data, "--rounds", "5", "--against", "reference", "--json"]
    done = CliRunner().invoke(app, ["bench", "edge", *arguments], catch_exceptions=False)
    (network,) = json.loads(done.stdout)["networks"]
    assert network["network"] == model.name
    assert network["operations"] > 0


def test_a_model_is_timed_on_its_frames_with_a_line_through_them(tmp_path: Path) -> None:
    model = write_tiny_models(tmp_path).edge
    frames = (
        np.random.default_rng(0).integers(0, 256, (12, 16, 16, 1), np.uint8) // np.arange(1, 13)[:, None, None, None]
    )
    np.savez(
        tmp_path / "frames.npz", frames=frames.astype(np.uint8), labels=np.arange(12) % 2, names=np.array(["a", "b"])
    )
    arguments = ["--model", str(model), "--data", str(tmp_path / "frames.npz"), "--rounds", "5", "--json"]
    done = CliRunner().invoke(app, ["bench", "edge", *arguments], catch_exceptions=False)
    (network,) = json.loads(done.stdout)["networks"]
    assert network["network"] == model.name
    assert set(network["line"]) == {"r2", "operations_per_s", "ms_without_operations"}
    assert network["operations"] > 0
    with pytest.raises(DeviceError, match=r"vgg9.pt: a model is timed on real frames; name them with --data$"):
        bench.model_subject(model, None, None, 1)


def test_engines_that_are_installed_are_candidates() -> None:
    program, _ = random_vgg9(2, WIDTH, 0.1)
    made = bench.candidates(program, [name for name in installed_engines() if name != "event"], ["baseline"])
    assert {"event", "event (baseline)", "numpy", "reference"} <= set(made)
    assert made["event (baseline)"].isa == "baseline"  # type: ignore[attr-defined]
