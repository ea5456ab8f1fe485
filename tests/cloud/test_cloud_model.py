"""What a worker makes of cloud.pt files that lie or are damaged."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from ecc_cloud.model import CloudModel, Encoder
from ecc_model.errors import ModelCorrupt, ModelError, ModelNotFound, ProgramMissing, WrongKind
from ecc_model.modelfile import EncoderInfo, add_records, read_manifest
from ecc_model.nets.checkpoint import load_cloud, save_cloud
from ecc_model.nets.neuron import Lif
from support.models import DIGITS, TinyModels

TEACHER = {"kind": "resnet8", "channels": 1, "classes": 10, "width": 0.125}


def lying(models: TinyModels, folder: Path, **lies: Any) -> Path:
    """A cloud.pt whose manifest says something else."""
    net, manifest = load_cloud(models.cloud, Lif)
    arguments = {
        "labels": DIGITS,
        "temperature": 1.0,
        "encoders": manifest.encoders,
        "frame": manifest.frame,
        "provenance": {},
    }
    save_cloud(folder / "lie.pt", net, **(arguments | lies))
    return folder / "lie.pt"


def encoder(features_id: str = "ab" * 32, shape: tuple[int, ...] = (2, 4, 4, 4), decoder: int = 0) -> EncoderInfo:
    return EncoderInfo("bottleneck", features_id, list(shape), decoder=decoder)


@pytest.mark.parametrize(
    ("lies", "text"),
    [
        ({"labels": DIGITS[:9]}, "10 logits for 9 labels"),
        ({"frame": [2, 3, 16, 16]}, "its network does not take frames of [2, 3, 16, 16]"),
        ({"frame": [2, 1, 16]}, "its network does not take frames of [2, 1, 16]"),
        ({"frame": [2, 1, 16, 5000]}, "its network does not take frames of [2, 1, 16, 5000]"),
        ({"encoders": [encoder("wxyz" * 16)]}, "is not hexadecimal"),
        ({"encoders": [encoder("ab" * 3)]}, "cannot read the encoder 'bottleneck' of shape (2, 4, 4, 4)"),
        ({"encoders": [encoder(), encoder()]}, "cannot read the encoder 'bottleneck'"),
        ({"encoders": [encoder(shape=(3, 4, 4, 4))]}, "cannot read the encoder 'bottleneck' of shape (3, 4, 4, 4)"),
        ({"encoders": [encoder(shape=(2, 5, 4, 4))]}, "cannot read the encoder 'bottleneck' of shape (2, 5, 4, 4)"),
        ({"encoders": [encoder(shape=(2, 4, 4))]}, "cannot read the encoder 'bottleneck' of shape (2, 4, 4)"),
        ({"encoders": [encoder(decoder=1)]}, "cannot read the encoder 'bottleneck' of shape (2, 4, 4, 4)"),
        ({"encoders": [encoder(decoder=-1)]}, "cannot read the encoder 'bottleneck' of shape (2, 4, 4, 4)"),
        ({"encoders": [encoder(shape=(2, 4, 0, 4))]}, "cannot read the encoder 'bottleneck' of shape (2, 4, 0, 4)"),
    ],
)
def test_a_manifest_that_does_not_fit_its_network_is_refused(
    models: TinyModels, tmp_path: Path, lies: dict[str, Any], text: str
) -> None:
    path = lying(models, tmp_path, **lies)
    with pytest.raises(ModelCorrupt, match="not a usable model file") as caught:
        CloudModel(path)
    assert text in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_encoders_of_several_devices_can_be_read_at_once(models: TinyModels, tmp_path: Path) -> None:
    model = CloudModel(lying(models, tmp_path, encoders=[encoder("01" * 32), encoder("02" * 32, (2, 4, 6, 6))]))
    assert model.encoders == {b"\1\1\1\1": Encoder((2, 4, 4, 4), None), b"\2\2\2\2": Encoder((2, 4, 6, 6), None)}


def test_networks_that_answer_nan_are_refused_at_start(models: TinyModels, tmp_path: Path) -> None:
    net, manifest = load_cloud(models.cloud, Lif)
    net.tail.layers.classifier.weight.data[0, 0] = torch.nan
    path = tmp_path / "nan.pt"
    save_cloud(
        path, net, labels=DIGITS, temperature=1.0, encoders=manifest.encoders, frame=manifest.frame, provenance={}
    )
    with pytest.raises(ModelCorrupt, match="its networks answer with NaN or infinity"):
        CloudModel(path)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("tail_channels", 10**6, "torch cannot restore it: Error(s) in loading state_dict for CloudNet"),
        ("code_channels", -1, "torch cannot restore it: Trying to create tensor with negative dimension"),
        ("teacher", TEACHER | {"width": 1e4}, "torch cannot restore it: Error(s) in loading state_dict for CloudNet"),
        (
            "teacher",
            TEACHER | {"kind": "vgg16"},
            "torch cannot restore it: Error(s) in loading state_dict for CloudNet",
        ),
        ("teacher", TEACHER | {"kind": "vgg17"}, "its network is not described rightly: Invalid enum value 'vgg17'"),
        ("teacher", TEACHER | {"classes": 9}, "a teacher of 1 channels and 10 classes is needed, not of 1 and 9"),
        ("steps", "two", "its network is not described rightly: Expected `int`, got `str`"),
    ],
)
def test_a_network_description_that_lies_allocates_nothing(
    models: TinyModels, tmp_path: Path, field: str, value: object, text: str
) -> None:
    manifest = read_manifest(models.cloud, "cloud")
    lie = msgspec.structs.replace(manifest, network=manifest.network | {field: value})
    path = rewritten(models.cloud, tmp_path, lie)
    with pytest.raises(ModelCorrupt) as caught:
        CloudModel(path)
    assert text in str(caught.value)


def test_a_manifest_around_something_that_is_no_state_dict_is_refused(models: TinyModels, tmp_path: Path) -> None:
    path = tmp_path / "list.pt"
    torch.save([1, 2], path)
    add_records(path, read_manifest(models.cloud, "cloud"), {})
    with pytest.raises(ModelCorrupt, match="torch cannot restore it: no state dict"):
        CloudModel(path)


def rewritten(source: Path, folder: Path, manifest: Any) -> Path:
    path = folder / "rewritten.pt"
    torch.save(torch.load(source, weights_only=True), path)
    add_records(path, manifest, {})
    return path


def test_a_damaged_pickle_is_refused_whatever_it_makes_of_itself(models: TinyModels, tmp_path: Path) -> None:
    # the opcodes come first in the file: flips there have torch pop from empty lists and call strings
    original, random_, path = models.cloud.read_bytes(), random.Random(0), tmp_path / "pickle.pt"
    outcomes = set()
    for _ in range(400):
        data = bytearray(original)
        data[random_.randrange(64, 10_000)] ^= 1 << random_.randrange(8)
        path.write_bytes(data)
        try:
            load_cloud(path, Lif)
        except ModelCorrupt as error:
            outcomes.add(type(error.__cause__))
    assert {IndexError, AttributeError} <= outcomes


def test_other_files_are_told_apart(models: TinyModels, tmp_path: Path) -> None:
    plain, text, missing = tmp_path / "plain.pt", tmp_path / "notes.pt", tmp_path / "none.pt"
    torch.save({"weight": torch.zeros(2)}, plain)
    text.write_text("not a model")
    for path, error, message in [
        (missing, ModelNotFound, "no such model file; check the path"),
        (text, ModelCorrupt, "not a usable model file (File is not a zip file)"),
        (plain, ProgramMissing, f"compile it with: ecc-tools compile {plain}"),
        (
            models.edge,
            WrongKind,
            "a model of kind 'edge' where one of kind 'cloud' is needed; give vgg9.pt",
        ),
    ]:
        with pytest.raises(error) as caught:
            CloudModel(path)
        assert message in str(caught.value)


def test_truncated_and_altered_files_are_refused_or_answer_the_same(models: TinyModels, tmp_path: Path) -> None:
    # torch.load checks no sums: without the manifest's hash a flipped bit in a weight goes unnoticed
    original = models.cloud.read_bytes()
    model = CloudModel(models.cloud)
    spikes = np.random.default_rng(0).random(models.program.code_shape) < 0.3
    expected = model.features([spikes])
    random_ = random.Random(0)
    path = tmp_path / "altered.pt"
    refused = 0
    for trial in range(200):
        data = bytearray(original)
        data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        path.write_bytes(data if trial % 4 else data[: random_.randrange(len(data))])
        try:
            altered = CloudModel(path)
        except ModelError:
            refused += 1
            continue
        np.testing.assert_array_equal(altered.features([spikes]), expected)
        assert (altered.labels, altered.encoders) == (model.labels, model.encoders)
    assert refused > 100


def test_a_flipped_weight_is_named(models: TinyModels, tmp_path: Path) -> None:
    data = bytearray(models.cloud.read_bytes())
    weight = load_cloud(models.cloud, Lif)[0].tail.layers.classifier.weight.detach().numpy().tobytes()
    data[data.index(weight)] ^= 1
    path = tmp_path / "flipped.pt"
    path.write_bytes(data)
    with pytest.raises(ModelCorrupt, match="its weights have another hash than the manifest says"):
        CloudModel(path)
