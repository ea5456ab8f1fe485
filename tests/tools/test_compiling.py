import dataclasses
import json
import re
import subprocess

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from ecc_device.sources import save_npz
from ecc_model.errors import CompileError, ModelCorrupt, ModelError, ModelNotFound, SourceError
from ecc_model.modelfile import read_edge
from ecc_model.nets.checkpoint import load_edge
from ecc_model.nets.neuron import Lif
from ecc_model.nets.quantize import compile_network
from ecc_tools.augmentation import Augmentation
from ecc_tools.cli import app
from ecc_tools.compiling import choose_guard, compare, load_plain, load_validation, write_model
from ecc_tools.data.sets import open_dataset
from ecc_tools.edge_run import open_edge_run
from ecc_tools.layers_compared import compare_layers
from ecc_tools.processes import find
from ecc_tools.runs import NetworkConfig, RunConfig, RunError, read_record, weights_sha256
from ecc_tools.training import Plan
from support.models import CONFIG, DIGITS, lively_network
from support.patterns import NAMES, pattern_part, patterns
from support.runs import train_run

FRAMES = np.random.default_rng(0).integers(0, 256, (256, 16, 16, 1), dtype=np.uint8)
LABELS = np.arange(256) % 6


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "net.pt"
    torch.save(lively_network(CONFIG, 0).state_dict(), path)
    return path


def test_a_plain_checkpoint_tells_the_sizes_of_its_network(checkpoint):
    net = load_plain(checkpoint, (16, 16, 1), steps=2)
    assert net.config.classes == 6
    assert net.config.split == 2
    assert net.config.code_channels == 4
    assert net.config.stage_channels(2) == CONFIG.stage_channels(2)
    assert compile_network(net).features_id == compile_network(lively_network(CONFIG, 0)).features_id


@pytest.mark.parametrize("state", [{"weight": torch.zeros(3)}, {}, [torch.zeros(3)], torch.zeros(3)])
def test_other_weights_are_refused(tmp_path, state):
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(ModelCorrupt, match=r"not the weights of a spiking VGG-9 for such frames"):
        load_plain(tmp_path / "other.pt", (16, 16, 1), steps=2)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match=r"none\.pt: no such model file"):
        load_plain(tmp_path / "none.pt", (16, 16, 1), steps=2)


def test_the_guard_set_replays_views_of_some_frames_and_judges_with_the_others():
    program = compile_network(lively_network(CONFIG, 0))
    guard = choose_guard(program, FRAMES, LABELS, Augmentation("digits"))
    judges = guard.judge.astype(bool)
    assert judges.sum() == 256 - 6 * 8
    assert (~judges).sum() == 6 * 8 * 3
    assert np.bincount(guard.labels[~judges]).tolist() == [24] * 6


def test_a_large_validation_part_leaves_as_many_judges_of_each_class():
    program = compile_network(lively_network(CONFIG, 0))
    guard = choose_guard(program, np.concatenate([FRAMES] * 2), np.tile(LABELS, 2), Augmentation("none"))
    assert np.bincount(guard.labels[guard.judge.astype(bool)]).tolist() == [60] * 6


def test_rounding_to_half_is_what_a_file_with_halves_brings_back(tmp_path):
    net = lively_network(CONFIG, 0)
    names = tuple("abcdef")
    program, _ = write_model(tmp_path / "half.pt", net, FRAMES, LABELS, names, {}, half=True)
    write_model(tmp_path / "whole.pt", net, FRAMES, LABELS, names, {})
    stored = torch.load(tmp_path / "half.pt", weights_only=True)
    assert stored["head.0.conv.weight"].dtype == torch.float16
    assert stored["head.0.norm.running_var"].dtype == torch.float32
    assert (tmp_path / "half.pt").stat().st_size < 0.8 * (tmp_path / "whole.pt").stat().st_size
    back = load_edge(tmp_path / "half.pt", Lif)
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in back.state_dict().items())
    assert compile_network(back).features_id == program.features_id


def test_too_few_frames_to_judge_with():
    program = compile_network(lively_network(CONFIG, 0))
    with pytest.raises(
        CompileError,
        match=r"^100 validation frames leave 52 to judge updates with; give at least 248 "
        r"\(of a set they are a tenth of the training images, so some 2,500 of those\)$",
    ):
        choose_guard(program, FRAMES[:100], LABELS[:100], Augmentation("digits"))


def test_compare_counts_agreement_and_both_accuracies():
    net = lively_network(CONFIG, 0)
    agreement = compare(net, compile_network(net), FRAMES, LABELS)
    assert agreement.frames == 256
    assert 0.5 < agreement.agreement < 1.0  # untrained networks are chaotic; chance is 1 in 6
    assert abs(agreement.float_accuracy - agreement.integer_accuracy) <= 1 - agreement.agreement + 1e-9


def test_each_layer_of_the_program_is_compared_by_itself():
    net = lively_network(CONFIG, 0)
    program = compile_network(net)
    good = {layer.place: layer for layer in compare_layers(net, program, FRAMES)}
    assert list(good) == ["head.0", "head.1", "head.3", "head.4", "encoder.0", *(f"exit.{i}" for i in (0, 1, 2, 4, 5))]
    assert all(layer.alike > 0.98 for place, layer in good.items() if place != "exit.5")
    assert good["exit.5"].alike is None  # logits
    with torch.no_grad():
        net.head[3].norm.weight.mul_(-1)
    bad = {layer.place: layer.alike for layer in compare_layers(net, program, FRAMES)}
    assert bad.pop("head.3") < 0.9
    assert bad == {place: layer.alike for place, layer in good.items() if place != "head.3"}


def test_the_bits_of_a_layer_are_those_of_its_largest_membrane_or_sum():
    net = lively_network(CONFIG, 0)
    program = compile_network(net)
    bits = {layer.place: layer.bits for layer in compare_layers(net, program, FRAMES[:2])}
    first, last = program.head[0], program.exit[-1]
    most = int((255 * np.abs(first.weight.astype(int)).sum((1, 2, 3)) + np.abs(first.bias)).max())
    assert 2 ** (bits["head.0"] - 1) <= 2 * most + 1 < 2 ** bits["head.0"]
    most = 2 * int((np.abs(last.weight.astype(int)).sum(1) + np.abs(last.bias)).max())
    assert 2 ** (bits["exit.5"] - 1) <= most < 2 ** bits["exit.5"]


def test_frames_without_labels_cannot_calibrate(tmp_path):
    save_npz(tmp_path / "bare.npz", FRAMES[:4])
    with pytest.raises(SourceError, match=r"frames without labels; give a source with labels$"):
        load_validation(str(tmp_path / "bare.npz"))


def test_the_command_writes_a_model_that_a_device_reads(tmp_path, checkpoint):
    save_npz(tmp_path / "validation.npz", FRAMES, labels=LABELS, names=DIGITS[:6])
    command = [find("ecc-tools"), "compile", str(checkpoint), "--data", str(tmp_path / "validation.npz")]
    command += ["--steps", "2", "--out", str(tmp_path / "vgg9.pt"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    model = read_edge(tmp_path / "vgg9.pt")
    assert told["features_id"] == model.program.features_id
    assert model.labels == DIGITS[:6]
    assert 0.5 < told["agreement"] < 1.0
    assert told["layers"][0]["place"] == "head.0"
    command.remove("--json")
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0].split() == ["layer", "spikes", "alike", "bits", "of", "31"]
    assert re.fullmatch(r"head\.0 +\d+\.\d{3}% +\d+", lines[1])
    assert re.fullmatch(r"exit\.5 +\d+", lines[10])
    lost = told["float_accuracy"] - told["integer_accuracy"]
    assert ("train on with 'ecc-tools train --int8 --start-from RUN'" in lines[-1]) == (lost > 0.003)


def test_a_run_is_compiled_with_its_own_images_and_statistics(tmp_path):
    part = pattern_part(4400, 0)
    for number, (frame, label) in enumerate(zip(part.frames, part.labels, strict=True)):
        (folder := tmp_path / "patterns" / NAMES[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame[:, :, 0]).save(folder / f"{number:04}.png")
    data, edge = open_dataset(str(tmp_path / "patterns")), NetworkConfig(kind="vgg9", width=0.1, steps=2)
    run = train_run(tmp_path / "run", data, edge, Plan(epochs=1, learning_rate=8e-3, batch=64), "B3-Inc1")
    command = ["compile", str(run), "--data", str(tmp_path / "patterns"), "--out", str(tmp_path / "vgg9.pt")]
    done = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False)
    model = read_edge(tmp_path / "vgg9.pt")
    assert json.loads(done.stdout)["features_id"] == model.program.features_id
    assert (model.labels, model.program.steps) == (NAMES[:3], 2)
    assert model.statistics is not None
    made_of, record = model.manifest.provenance, read_record(run)
    assert made_of["edge_weights_sha256"] == weights_sha256(run)
    assert made_of["data_sha256"] == record.provenance.data_sha256
    assert msgspec.json.decode(made_of["edge"], type=RunConfig) == record.run
    assert json.loads(made_of["seen"]) == list(NAMES[:3])
    wrong = CliRunner().invoke(app, [*command, "--steps", "2"])
    assert (wrong.exit_code, "a run knows its time steps; leave this out" in wrong.stderr) == (2, True)
    command[1] = str(run / "weights.pt")
    with pytest.raises(RunError, match=rf"weights\.pt is part of a run, whose folder says what it is; give {run}$"):
        CliRunner().invoke(app, [*command, "--steps", "2"], catch_exceptions=False)


def test_a_network_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match=r"none: no such model file"):
        CliRunner().invoke(
            app, ["compile", str(tmp_path / "none"), "--data", "x.npz", "--out", "m.pt"], catch_exceptions=False
        )


def test_a_state_dict_needs_its_time_steps(tmp_path, checkpoint):
    wrong = CliRunner().invoke(app, ["compile", str(checkpoint), "--data", "x.npz", "--out", str(tmp_path / "m.pt")])
    assert wrong.exit_code == 2
    assert "a state dict does not tell its time steps; give them" in wrong.stderr


def test_a_run_of_another_network_or_other_classes_is_refused(tmp_path):
    data, plan = patterns(), Plan(epochs=1, learning_rate=8e-3, batch=64)
    dense = train_run(tmp_path / "dense", data, NetworkConfig(kind="vgg16", width=0.1), plan)
    with pytest.raises(RunError, match=r"dense holds no plain vgg9, and only that becomes a device's model; give such"):
        open_edge_run(dense, data)
    edge = train_run(tmp_path / "edge", data, NetworkConfig(kind="vgg9", width=0.1, steps=2), plan)
    with pytest.raises(RunError, match=r"edge knows the class 'across', which patterns lacks; give what it learnt"):
        open_edge_run(edge, dataclasses.replace(data, names=DIGITS[:4]))
    with pytest.raises(RunError, match=r"edge did not learn from these images of patterns; give what it learnt from$"):
        open_edge_run(edge, patterns(seed=1))


def test_a_folder_is_no_checkpoint(tmp_path):
    with pytest.raises(ModelNotFound, match=r": no such model file"):
        load_plain(tmp_path, (16, 16, 1), steps=2)


def test_names_that_the_network_has_no_output_for(tmp_path, checkpoint):
    net = load_plain(checkpoint, (16, 16, 1), steps=2)
    with pytest.raises(CompileError) as refused:
        write_model(tmp_path / "vgg9.pt", net, FRAMES, LABELS, DIGITS, {})
    assert str(refused.value) == (
        "10 names and labels 0 to 5 for a network of 6 classes; give validation frames of just these classes"
    )


def test_frames_with_time_steps_do_not_calibrate(tmp_path):
    save_npz(tmp_path / "steps.npz", np.repeat(FRAMES[:4, None], 2, axis=1), labels=LABELS[:4], names=DIGITS[:6])
    with pytest.raises(
        SourceError, match=r"steps\.npz: labelled still frames are needed here, not frames with time steps"
    ):
        load_validation(str(tmp_path / "steps.npz"))


@pytest.mark.parametrize("out", ["taken", "file/vgg9.pt"])
def test_a_place_that_cannot_be_written_is_named(tmp_path, checkpoint, out):
    (tmp_path / "taken").mkdir()
    (tmp_path / "file").write_text("")
    net = load_plain(checkpoint, (16, 16, 1), steps=2)
    with pytest.raises(ModelError, match=rf"{out}: cannot be written \(.*\); choose another place for it$"):
        write_model(tmp_path / out, net, FRAMES, LABELS, DIGITS[:6], {})
    assert not (tmp_path / "taken.partial").exists()
