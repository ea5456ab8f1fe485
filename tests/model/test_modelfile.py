"""Model files: torch opens them, a device reads them without torch, damage is noticed wherever it is."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from ecc_model import modelfile, rates, safetensors, statistics
from ecc_model.bits import packed_size
from ecc_model.errors import ModelCorrupt, ModelError, ModelFormat, ModelNotFound, ProgramMissing, WrongKind
from ecc_model.modelfile import FORMAT, EdgeModel, labels_id, read_edge, read_manifest
from ecc_model.nets.checkpoint import load_edge, save_edge
from ecc_model.nets.cloud import CodeConfig
from ecc_model.nets.neuron import Lif
from ecc_model.program import to_records
from ecc_model.rates import coded_id
from support.models import DIGITS, TAPS, TinyModels, write_tiny_models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    return write_tiny_models(
        Path(tmp_path_factory.mktemp("models")), threshold=0.25, rates="channel+step", statistics=True
    )


def rates_of(model: EdgeModel) -> dict[str, Any]:
    """The rate table, as its file has it."""
    return {} if model.rates is None else rates.to_records(model.rates)


def statistics_of(model: EdgeModel) -> dict[str, Any]:
    """The statistics, as their file has them."""
    return {} if model.statistics is None else statistics.describe(model.program, model.statistics)[1]


def same(model: EdgeModel, other: EdgeModel) -> bool:
    """Whether two models decide and code alike: manifest, program, guard set, rate table."""
    (spec, tensors), (other_spec, other_tensors) = to_records(model.program), to_records(other.program)
    return (
        model.manifest == other.manifest
        and spec == other_spec
        and tensors.keys() == other_tensors.keys()
        and all(np.array_equal(tensors[name], other_tensors[name]) for name in tensors)
        and all(
            np.array_equal(getattr(model.guard, name), getattr(other.guard, name))
            for name in ("bits", "labels", "judge")
        )
        and all(np.array_equal(array, rates_of(other)[name]) for name, array in rates_of(model).items())
        and all(np.array_equal(array, statistics_of(other)[name]) for name, array in statistics_of(model).items())
    )


# ---- what is written is read ----


def test_an_edge_model_is_read_as_it_was_written(models: TinyModels) -> None:
    model = read_edge(models.edge)
    assert model.labels == DIGITS[:6]
    assert (model.temperature, model.threshold) == (1.0, 0.25)
    assert model.program.features_id == models.program.features_id
    assert model.sha256 == hashlib.sha256(models.edge.read_bytes()).hexdigest()
    assert model.manifest.frame == [2, 1, 16, 16]
    assert model.manifest.encoders[0].shape == list(models.program.code_shape)
    assert model.manifest.provenance == {"made-by": "tests"}
    assert model.guard.bits.shape[1] == packed_size(model.program.split_shape)
    assert sorted(set(model.guard.labels.tolist())) == [0, 1, 2, 3, 4, 5]
    assert sorted(set(model.guard.judge.tolist())) == [0, 1]


def test_edge_and_cloud_hold_the_same_rate_table(models: TinyModels, tmp_path: Path) -> None:
    table = read_edge(models.edge).rates
    other = modelfile.read_rates(models.cloud, "cloud")["bottleneck"]
    assert table is not None
    assert (table.kind, table.shape) == (other.kind, other.shape) == ("channel+step", models.program.code_shape)
    assert coded_id(models.program.features_id, table) == coded_id(models.program.features_id, other)
    without = write_tiny_models(tmp_path)
    assert read_edge(without.edge).rates is None
    assert modelfile.read_rates(without.cloud, "cloud") == {}
    assert without.program.features_id == models.program.features_id


def test_torch_opens_model_files_with_weights_only(models: TinyModels) -> None:
    for path in (models.edge, models.cloud):
        weights = torch.load(path, weights_only=True)
        assert all(isinstance(tensor, torch.Tensor) for tensor in weights.values())
    net = load_edge(models.edge, Lif)
    assert not net.training
    assert net.head[0].conv.weight.requires_grad


def test_a_device_reads_its_model_without_torch(models: TinyModels) -> None:
    script = (
        "import sys\n"
        "for name in ('torch', 'spikingjelly', 'sklearn', 'matplotlib'): sys.modules[name] = None\n"
        "from ecc_model.modelfile import read_edge\n"
        "from ecc_device.engines import NumpyEngine\n"
        "import numpy as np\n"
        "model = read_edge(sys.argv[1])\n"
        "NumpyEngine(model.program).head(np.zeros((16, 16, 1), np.uint8))\n"
        "print(model.program.features_id)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(models.edge)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == models.program.features_id


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first, second = write_tiny_models(tmp_path / "a"), write_tiny_models(tmp_path / "b")
    assert first.edge.read_bytes() == second.edge.read_bytes()
    assert not list(tmp_path.rglob("*.partial"))


def test_labels_are_told_apart_by_four_bytes() -> None:
    # part of the wire: devices know a worker's label list by it
    assert labels_id(["cat", "dog"]).hex() == hashlib.sha256(b"cat\0dog").hexdigest()[:8]
    assert labels_id(["cat", "dog"]) != labels_id(["dog", "cat"])
    assert labels_id(["größe"]).hex() == "d353a267"


# ---- damage ----


def test_a_file_cut_anywhere_is_refused(models: TinyModels, tmp_path: Path) -> None:
    data = models.edge.read_bytes()
    with zipfile.ZipFile(models.edge) as archive:
        directory = archive.start_dir
    lengths = {*range(0, len(data), 997), *range(directory, len(data)), *range(len(data) - 2048, len(data))}
    path = tmp_path / "cut.pt"
    path.write_bytes(data)
    for length in sorted(lengths, reverse=True):
        os.truncate(path, length)
        with pytest.raises(ModelCorrupt, match="not a usable model file"):
            read_edge(path)


@contextmanager
def flipped(path: Path, position: int, mask: int) -> Iterator[None]:
    """One byte of a file is another one for a while."""
    with path.open("r+b", buffering=0) as stream:
        stream.seek(position)
        byte = stream.read(1)
        stream.seek(position)
        stream.write(bytes([byte[0] ^ mask]))
        yield
        stream.seek(position)
        stream.write(byte)


def test_flipped_bytes_are_refused_or_change_nothing(models: TinyModels, tmp_path: Path) -> None:
    original, size = read_edge(models.edge), models.edge.stat().st_size
    with zipfile.ZipFile(models.edge) as archive:
        directory = archive.start_dir
    random_ = random.Random(39)
    path = tmp_path / "flipped.pt"
    path.write_bytes(models.edge.read_bytes())
    texts: list[str] = []
    for position in [random_.randrange(size) for _ in range(3000)] + list(range(directory, size, 5)):
        with flipped(path, position, random_.randrange(1, 256)):
            try:
                model = read_edge(path)
            except ModelError as error:
                texts.append(str(error))
            else:
                assert same(model, original), position
    assert len(texts) > 500
    assert [text for text in texts if not text.startswith(f"{path}: ") or "\n" in text] == []


def test_a_flipped_weight_stops_the_float_network_too(models: TinyModels, tmp_path: Path) -> None:
    weight = load_edge(models.edge, Lif).exit[-1].linear.weight.detach().numpy().tobytes()
    data = bytearray(models.edge.read_bytes())
    data[data.index(weight)] ^= 1
    path = tmp_path / "flipped.pt"
    path.write_bytes(data)
    with pytest.raises(ModelCorrupt, match="its weights have another hash than the manifest says"):
        load_edge(path, Lif)


# ---- lies ----

Records = dict[str, bytes]  # name under extra/ -> bytes
Change = Callable[[Records], object]


def rewrite(source: Path, target: Path, change: Change, *, compress: bool = False) -> Path:
    """A copy of a model file whose records went through `change`."""
    with zipfile.ZipFile(source) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
        root = archive.namelist()[0].partition("/")[0]
    extra = {name.partition("/extra/")[2]: blob for name, blob in records.items() if "/extra/" in name}
    change(extra)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, blob in records.items():
            if "/extra/" not in name:
                archive.writestr(name, blob)
        for name, blob in extra.items():
            archive.writestr(f"{root}/extra/{name}", blob)
    return target


def manifest_with(**changes: Any) -> Change:
    def change(records: Records) -> None:
        manifest = msgspec.json.decode(records["manifest.json"])
        records["manifest.json"] = msgspec.json.encode(manifest | changes)

    return change


def record_with(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    """Change the tensors of a record and make the manifest's hash fit."""

    def apply(records: Records) -> None:
        tensors = dict(safetensors.load(records[f"{name}.safetensors"]))
        change(tensors)
        blob = safetensors.dump(tensors)
        records[f"{name}.safetensors"] = blob
        hashes = msgspec.json.decode(records["manifest.json"])["records"]
        manifest_with(records=hashes | {f"{name}.safetensors": hashlib.sha256(blob).hexdigest()})(records)

    return apply


def guard_with(name: str, value: Any) -> Change:
    return record_with("guard", lambda tensors: tensors.update({name: value(tensors[name])}))


def statistics_with(**changes: Any) -> Change:
    def change(records: Records) -> None:
        facts = msgspec.json.decode(records["manifest.json"])["statistics"]
        manifest_with(statistics=facts | changes)(records)

    return change


COMPILE = "compile it with: ecc-tools compile"
INVALID = "its manifest is not valid: "
LABELS = "labels are 1 to 64 printable characters"
KINDS = (
    "a model of kind 'cloud' where one of kind 'edge' is needed; give vgg9.pt to ecc-device and cloud.pt to ecc-cloud"
)
FOREIGN = "guard labels outside of the model's labels"

LIES: dict[str, tuple[Change, type[ModelError], str]] = {
    "future format": (
        manifest_with(format=FORMAT + 1, labels=7),
        ModelFormat,
        f"model file of format {FORMAT + 1}, this version reads formats 1 to {FORMAT}",
    ),
    "no format": (manifest_with(format=None), ModelCorrupt, "its manifest is not valid: Expected `int`, got `null`"),
    "cloud model": (
        manifest_with(kind="cloud"),
        WrongKind,
        "a model of kind 'cloud' where one of kind 'edge' is needed",
    ),
    "kind with a line": (manifest_with(kind="a\nb"), WrongKind, "a model of kind 'a\\nb' where one of kind 'edge'"),
    "no manifest": (lambda r: r.pop("manifest.json"), ProgramMissing, COMPILE),
    "manifest not JSON": (lambda r: r.update({"manifest.json": b"{"}), ModelCorrupt, INVALID),
    "manifest not UTF-8": (
        lambda r: r.update({"manifest.json": b'{"format": "\xff"}'}),
        ModelCorrupt,
        "its manifest is not valid: ",
    ),
    "manifest nested": (
        lambda r: r.update({"manifest.json": b"[" * 100_000}),
        ModelCorrupt,
        "its manifest is not valid: ",
    ),
    "manifest of 2 MB": (
        lambda r: r.update({"manifest.json": r["manifest.json"] + b" " * (2 << 20)}),
        ModelCorrupt,
        "manifest.json is compressed or above 1048576 bytes",
    ),
    "no labels": (manifest_with(labels=[]), ModelCorrupt, "0 labels, or some twice"),
    "labels twice": (manifest_with(labels=["a", "b", "c", "d", "e", "a"]), ModelCorrupt, "6 labels, or some twice"),
    "too many labels": (manifest_with(labels=list("abcdefg")), ModelCorrupt, "6 logits for 7 labels"),
    "empty label": (manifest_with(labels=["", *"abcde"]), ModelCorrupt, LABELS),
    "long label": (manifest_with(labels=["x" * 65, *"abcde"]), ModelCorrupt, LABELS),
    "label with a line": (
        manifest_with(labels=["x\n", *"abcde"]),
        ModelCorrupt,
        LABELS,
    ),
    "label is a number": (
        manifest_with(labels=[1]),
        ModelCorrupt,
        INVALID + "Expected `str`, got `int`",
    ),
    "temperature 0": (manifest_with(temperature=0.0), ModelCorrupt, "temperature 0.0, threshold 0.25"),
    "temperature 1e9": (manifest_with(temperature=1e9), ModelCorrupt, "temperature 1000000000.0, threshold 0.25"),
    "accepted 0": (
        manifest_with(accepted=0.0),
        ModelCorrupt,
        "0.0 is no share of frames",
    ),
    "threshold 1.5": (manifest_with(threshold=1.5), ModelCorrupt, "temperature 1.0, threshold 1.5"),
    "other encoder": (
        manifest_with(encoders=[{"name": "bottleneck", "features_id": "00" * 32, "shape": [2, 4, 4, 4]}]),
        ModelCorrupt,
        "its features_id is not that of its head and encoder",
    ),
    "no program": (lambda r: r.pop("program.safetensors"), ModelCorrupt, "its ZIP directory is damaged: "),
    "other program": (
        lambda r: r.update({"program.safetensors": r["program.safetensors"][:-1] + b"\x01"}),
        ModelCorrupt,
        "record 'program' has another hash than the manifest says",
    ),
    "no hash": (manifest_with(records={}), ModelCorrupt, "record 'program' has another hash than the manifest says"),
    "program spec empty": (
        manifest_with(program={}),
        ModelCorrupt,
        "the program's input is not [steps, ",
    ),
    "threshold of a neuron": (
        record_with("program", lambda t: t.update({"encoder.0.theta": t["encoder.0.theta"] * 0})),
        ModelCorrupt,
        "encoder.0: a firing threshold below 1",
    ),
    "tensor missing": (
        record_with("program", lambda t: t.pop("head.0.bias")),
        ModelCorrupt,
        "head.0: no int32 tensor 'bias'",
    ),
    "guard without judge": (
        record_with("guard", lambda t: t.pop("judge")),
        ModelCorrupt,
        "the guard set has no 'judge'",
    ),
    "guard rows too short": (
        guard_with("bits", lambda b: b[:, 1:]),
        ModelCorrupt,
        "guard rows of (31,) bytes, 32 fit ",
    ),
    "guard rows of another type": (
        guard_with("bits", lambda b: b.astype(np.int16)),
        ModelCorrupt,
        "guard rows of (32,) bytes, 32 fit the split point",
    ),
    "rate of nothing": (
        record_with("rates", lambda t: t.update({"bottleneck.table": t["bottleneck.table"] * 0})),
        ModelCorrupt,
        "the rate table of 'bottleneck': rates are int32 from 1 to 65535",
    ),
    "too few rates": (
        record_with("rates", lambda t: t.update({"bottleneck.table": t["bottleneck.table"][1:]})),
        ModelCorrupt,
        "the rate table of 'bottleneck': (15,) rates of kind channel+step for a code of shape (2, 4, 4, 4)",
    ),
    "no rates": (
        lambda r: r.pop("rates.safetensors"),
        ModelCorrupt,
        "its ZIP directory is damaged: ",
    ),
    "rates of another encoder": (
        record_with("rates", lambda t: t.update({"other.table": t.pop("bottleneck.table")})),
        ModelCorrupt,
        "the rate table of 'bottleneck': rates of kind 'channel+step' with the records []",
    ),
    "statistics of another head": (
        statistics_with(stats_id="0" * 64),
        ModelCorrupt,
        "its stats_id is not that of its head and the statistics' layers and taps",
    ),
    "statistics of other taps": (
        statistics_with(taps=[[0, 1], [4, 1]]),
        ModelCorrupt,
        "rows and (6, 47) sums do not fit the program and the taps",
    ),
    "statistics without sums": (
        record_with("statistics", lambda t: t.pop("sums")),
        ModelCorrupt,
        "the statistics have no integers 'sums'",
    ),
    "no statistics": (lambda r: r.pop("statistics.safetensors"), ModelCorrupt, "its ZIP directory is damaged: "),
    "statistics that are none": (manifest_with(statistics=7), ModelCorrupt, INVALID + "Expected `object | null`"),
    "more answers of the factory's than rows that judge": (
        record_with("guard", lambda t: t.update({"factory": np.ones(len(t["judge"]), np.uint8)})),
        ModelCorrupt,
        "the factory's answers are not those of guard rows that judge",
    ),
    "fewer guard labels": (
        guard_with("labels", lambda n: n[1:]),
        ModelCorrupt,
        "labels and judges differ in number",
    ),
    "guard label 6 of 6": (
        guard_with("labels", lambda n: n + 1),
        ModelCorrupt,
        "guard labels outside of the model's labels",
    ),
    "guard label -1": (
        guard_with("labels", lambda n: n - 1),
        ModelCorrupt,
        "guard labels outside of the model's labels",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_file_that_lies_is_refused_by_name(models: TinyModels, tmp_path: Path, name: str) -> None:
    change, error, text = LIES[name]
    path = rewrite(models.edge, tmp_path / "lie.pt", change)
    with pytest.raises(error) as caught:
        read_edge(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def leaking(format_: int) -> Change:
    """The hidden layer of the exit leaks otherwise; the file says that it is of format `format_`."""

    def change(records: Records) -> None:
        program = msgspec.json.decode(records["manifest.json"])["program"]
        program["exit"][-2]["leak"] = 1000
        manifest_with(program=program, format=format_)(records)

    return change


def test_a_file_says_the_format_that_its_program_needs(models: TinyModels, tmp_path: Path) -> None:
    # an older version would read such a program wrongly, so it must not take the file for one of format 1
    with pytest.raises(ModelCorrupt, match=r"\(its program needs format 2, its manifest says 1\)"):
        read_edge(rewrite(models.edge, tmp_path / "first.pt", leaking(1)))
    model = read_edge(rewrite(models.edge, tmp_path / "second.pt", leaking(2)))
    assert (model.manifest.format, model.program.format) == (2, 2)
    assert model.program.features_id == models.program.features_id
    assert (read_edge(models.edge).manifest.format, models.program.format) == (1, 1)


def test_an_unchanged_rewrite_is_read(models: TinyModels, tmp_path: Path) -> None:
    path = rewrite(models.edge, tmp_path / "copy.pt", lambda records: None)
    assert same(read_edge(path), read_edge(models.edge))
    path = rewrite(models.edge, tmp_path / "copy.pt", record_with("guard", lambda tensors: None))
    assert same(read_edge(path), read_edge(models.edge))


def test_a_compressed_record_is_refused_before_it_grows(models: TinyModels, tmp_path: Path) -> None:
    bomb = b'{"format":1}' + b" " * (64 << 20)
    path = rewrite(models.edge, tmp_path / "bomb.pt", lambda r: r.update({"manifest.json": bomb}), compress=True)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ModelCorrupt, match=r"record .*manifest.json is compressed or above 1048576 bytes"):
        read_edge(path)


def test_other_files_are_told_apart(models: TinyModels, tmp_path: Path) -> None:
    plain, text, empty, other, folder = (
        tmp_path / n for n in ("plain.pt", "notes.pt", "empty.pt", "photos.zip", "folder")
    )
    torch.save({"weight": torch.zeros(2)}, plain)
    text.write_text("not a model")
    empty.touch()
    folder.mkdir()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a/photo.jpg", b"x")
    for path, error, message in [
        (
            tmp_path / "none.pt",
            ModelNotFound,
            "no such model file; check the path, or make one with: ecc-tools demo-train",
        ),
        (text, ModelCorrupt, "not a usable model file (File is not a zip file); copy it again from where it was made"),
        (empty, ModelCorrupt, "not a usable model file (File is not a zip file); copy it again from where it was made"),
        (other, ModelCorrupt, "not a usable model file (no manifest inside); copy it again from where it was made"),
        (folder, ModelCorrupt, "not a usable model file (["),
        (
            plain,
            ProgramMissing,
            f"a PyTorch checkpoint without an integer program; {COMPILE} {plain}",
        ),
        (models.cloud, WrongKind, KINDS),
    ]:
        with pytest.raises(error) as caught:
            read_edge(path)
        assert str(caught.value).startswith(f"{path}: {message}")
    with pytest.raises(WrongKind, match="a model of kind 'edge' where one of kind 'cloud' is needed"):
        read_manifest(models.edge, "cloud")


def test_statistics_travel_in_the_file_and_old_files_have_none(models: TinyModels, tmp_path: Path) -> None:
    found = read_edge(models.edge).statistics
    assert found is not None
    assert (found.base, found.rows.tolist(), found.taps, len(found.layers)) == (6, [40] * 6, TAPS, 4)
    assert read_edge(write_tiny_models(tmp_path).edge).statistics is None


def test_a_parent_whose_records_are_not_at_its_end_is_left_alone(models: TinyModels, tmp_path: Path) -> None:
    moved = rewrite(models.edge, tmp_path / "moved.pt", lambda records: None)
    with zipfile.ZipFile(moved, "a") as archive:
        archive.writestr("vgg9/data/99", b"x")
    parent = read_edge(moved)
    with pytest.raises(ModelCorrupt, match=r"\(its records are not at its end; write it again\)"):
        write_child(parent, tmp_path / "child.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved.pt"]


def write_child(parent: EdgeModel, path: Path) -> None:
    """The parent once more, with another threshold."""
    modelfile.write_learnt(
        path,
        parent,
        parent.program,
        parent.guard,
        labels=parent.labels,
        early=None,
        temperature=parent.temperature,
        threshold=0.75,
        provenance={"made-by": "tests"},
        statistics=parent.statistics,
    )


def test_a_child_is_written_without_torch_and_whole_or_not_at_all(
    models: TinyModels, tmp_path: Path, monkeypatch: Any
) -> None:
    parent = read_edge(models.edge)
    write_child(parent, tmp_path / "child.pt")
    child = read_edge(tmp_path / "child.pt")
    assert (child.threshold, child.sha256 == parent.sha256) == (0.75, False)
    assert torch.load(child.path, weights_only=True).keys() == torch.load(parent.path, weights_only=True).keys()
    write_child(child, tmp_path / "grandchild.pt")
    assert (tmp_path / "grandchild.pt").read_bytes() == (tmp_path / "child.pt").read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ecc_model.modelfile.add_records", fail)
    with pytest.raises(ModelError, match=r"child\.pt: cannot be written \(No space left on device\)"):
        write_child(parent, tmp_path / "child.pt")
    assert same(read_edge(tmp_path / "child.pt"), child)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["child.pt", "grandchild.pt"]


def test_an_empty_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.pt", "w"):
        pass
    with pytest.raises(ModelCorrupt, match="no manifest inside"):
        read_edge(tmp_path / "empty.pt")


def test_a_model_that_was_saved_half_leaves_the_old_one(models: TinyModels, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "vgg9.pt"
    path.write_bytes(models.edge.read_bytes())
    model = read_edge(path)

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ecc_model.nets.checkpoint.add_records", fail)
    with pytest.raises(ModelError, match=r"vgg9\.pt: cannot be written \(No space left on device\)"):
        save_edge(
            path,
            load_edge(path, Lif),
            model.program,
            model.guard,
            labels=model.labels,
            temperature=1.0,
            threshold=0.5,
            provenance={},
        )
    assert same(read_edge(path), model)
    assert [file.name for file in tmp_path.iterdir()] == ["vgg9.pt"]


def test_the_format_number_is_pinned() -> None:
    assert modelfile.FORMAT == 5


# ---- several encoders ----


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    others = [CodeConfig(2, 1), CodeConfig(4, 2)]
    return write_tiny_models(Path(tmp_path_factory.mktemp("several")), rates="channel", others=others)


def test_several_encoders_are_read_as_they_were_written(several: TinyModels, models: TinyModels) -> None:
    model = read_edge(several.edge)
    assert model.encoders == ("16-bytes", "8-bytes", "4-bytes")
    assert (model.manifest.format, read_manifest(several.cloud, "cloud").format) == (5, 5)
    assert model.program.features_ids == several.program.features_ids
    assert model.program.features_id == models.program.features_id
    assert [table and table.shape for table in model.tables] == [(2, 4, 4, 4), (2, 2, 4, 4), (2, 4, 2, 2)]
    assert model.rates is model.tables[0]
    assert modelfile.read_rates(several.cloud, "cloud").keys() == set(model.encoders)
    assert load_edge(several.edge, Lif).config.code_channels == 4


def test_one_encoder_is_called_as_before(models: TinyModels) -> None:
    assert read_edge(models.edge).encoders == ("bottleneck",)
    assert read_manifest(models.cloud, "cloud").format == 1


def test_a_child_keeps_all_encoders(several: TinyModels, tmp_path: Path) -> None:
    parent = read_edge(several.edge)
    write_child(parent, tmp_path / "child.pt")
    child = read_edge(tmp_path / "child.pt")
    assert (child.encoders, child.program.features_ids) == (parent.encoders, parent.program.features_ids)
    names = zip(parent.program.features_ids, parent.tables, child.tables, strict=True)
    assert [coded_id(one, old) == coded_id(one, new) for one, old, new in names] == [True] * 3


def encoders_with(change: Callable[[list[dict[str, Any]]], object]) -> Change:
    def apply(records: Records) -> None:
        encoders = msgspec.json.decode(records["manifest.json"])["encoders"]
        change(encoders)
        manifest_with(encoders=encoders)(records)

    return apply


IDS = "its features_id is not that of its head and encoder"
ENCODER_LIES: dict[str, tuple[Change, str]] = {
    "a name twice": (
        encoders_with(lambda e: e[1].update(name="16-bytes")),
        "names of its encoders: 1 to 64 printable characters, each once",
    ),
    "a name with a line": (
        encoders_with(lambda e: e[1].update(name="8\nbytes")),
        "names of its encoders: 1 to 64 printable characters, each once",
    ),
    "another order": (encoders_with(lambda e: e.reverse()), IDS),
    "one is missing": (encoders_with(lambda e: e.pop()), IDS),
    "none": (encoders_with(lambda e: e.clear()), IDS),
    "one too many": (encoders_with(lambda e: e.append(e[0] | {"name": "more"})), IDS),
    "another id": (encoders_with(lambda e: e[2].update(features_id="00" * 32)), IDS),
    "another shape": (
        encoders_with(lambda e: e[2].update(shape=[2, 4, 4, 4])),
        "its encoder emits (2, 4, 2, 2), its manifest says (2, 4, 4, 4)",
    ),
    "rates of another encoder": (
        encoders_with(lambda e: e[1].update(name="7-bytes")),
        "the rate table of '7-bytes': rates of kind 'channel' with the records []",
    ),
    "an earlier format": (manifest_with(format=4), "its program needs format 5, its manifest says 4"),
    "weights of one encoder": (
        record_with("program", lambda t: t.update({"others.1.0.weight": t["others.1.0.weight"] // 2})),
        IDS,
    ),
}


@pytest.mark.parametrize("name", ENCODER_LIES)
def test_a_file_that_lies_about_its_encoders_is_refused(several: TinyModels, tmp_path: Path, name: str) -> None:
    change, text = ENCODER_LIES[name]
    with pytest.raises(ModelCorrupt) as caught:
        read_edge(rewrite(several.edge, tmp_path / "lie.pt", change))
    assert text in str(caught.value)
