"""Edge and cloud on frames, with real, tiny models: answers, bytes, energy, the command, its files and errors."""

import csv
import json
import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from ecc_broker.codec import encode_pixels, encode_spikes
from ecc_cloud.model import CloudModel, Encoder
from ecc_device.engines import NumpyEngine
from ecc_device.evidence import Evidence, Known
from ecc_device.filters import FILTERS, filter_threshold, make_filter
from ecc_device.results import choose, make_answer
from ecc_device.sources import save_npz
from ecc_model import reference
from ecc_model.errors import IncompatibleFeatures, SourceError
from ecc_model.modelfile import EncoderInfo, read_edge
from ecc_model.nets.checkpoint import ENCODER_NAME, load_cloud, save_cloud
from ecc_model.nets.cloud import CloudNet
from ecc_model.nets.neuron import Lif
from ecc_model.numerics import softmax
from ecc_model.program import Conv, MaxPool
from ecc_tools.cli import app
from ecc_tools.collaborate.labelled import Labelled, check_classes, open_labelled
from ecc_tools.collaborate.observe import ask_cloud, ask_edge, compare_answers
from ecc_tools.collaborate.report import ReportRefused
from ecc_tools.collaborate.sweep import COLUMNS
from ecc_tools.collaboration import Frames
from ecc_tools.energy import energy_mj, link_mj
from support.datasets import write_classes
from support.models import DIGITS, write_tiny_models

COUNT = 40
FRAMES = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 1), np.uint8)
LABELS = np.arange(COUNT) % len(DIGITS)
TRUTH = [DIGITS[label] for label in LABELS]


def silent(share):
    pass


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return write_tiny_models(Path(tmp_path_factory.mktemp("models")))


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    path = Path(tmp_path_factory.mktemp("stream")) / "stream.npz"
    save_npz(path, FRAMES, labels=LABELS, names=DIGITS)
    return path


@pytest.fixture(scope="module")
def blind(models, tmp_path_factory):
    """A cloud without a teacher."""
    net, manifest = load_cloud(models.cloud, Lif)
    blind = CloudNet(msgspec.structs.replace(net.config, teacher=None), Lif)
    blind.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("teacher.")})
    path = Path(tmp_path_factory.mktemp("blind")) / "cloud.pt"
    encoder = EncoderInfo(ENCODER_NAME, models.program.features_id, list(models.program.code_shape))
    save_cloud(
        path,
        blind.eval(),
        labels=manifest.labels,
        temperature=1.0,
        encoders=[encoder],
        frame=manifest.frame,
        provenance={},
    )
    return path


class Moody:
    """A cloud whose answers and sureness change from frame to frame: logits drawn from what it was sent."""

    def __init__(self, models):
        self.labels, self.reads_frames = DIGITS, True
        self.frame = models.program.input
        self.encoders = {bytes.fromhex(models.program.features_id)[:4]: Encoder(models.program.code_shape, None)}
        self.sent = []

    def features(self, batch):
        self.sent += [one.tobytes() for one in batch]
        rngs = [np.random.default_rng(zlib.crc32(one.tobytes())) for one in batch]
        return np.stack([rng.normal(0.0, rng.choice([0.5, 5.0]), 10) for rng in rngs]).astype(np.float32)

    frames = features


def both(models, send):
    model, cloud = read_edge(models.edge), CloudModel(models.cloud)
    edge = ask_edge(model, FRAMES, silent)
    return compare_answers(edge, ask_cloud(model, cloud, edge, FRAMES, send, silent), TRUTH)


def test_answers_are_those_that_a_device_gives(models):
    """Beside the engine and the demo's own path, frame by frame."""
    found = both(models, "features")
    frames = Frames(models.program, models.cloud, FRAMES, LABELS, DIGITS)
    expected = frames.ask(models.program, DIGITS[:6], 1.0)
    assert found.edge_right.tolist() == expected.edge_right.tolist()
    assert found.standing_right.tolist() == expected.sent_right.tolist()
    assert found.edge.scores["entropy"][0].tolist() == expected.entropy.tolist()
    assert [answer.label for answer in found.cloud.answers] == [answer.label for answer in frames.cloud]
    assert 0 < found.edge_right.sum() < COUNT


@pytest.mark.parametrize("send", ["features", "frames"])
def test_the_cloud_is_asked_about_each_frame_and_stands_by_the_devices_rule(models, send):
    model, cloud = read_edge(models.edge), Moody(models)
    edge = ask_edge(model, FRAMES, silent)
    side = ask_cloud(model, cloud, edge, FRAMES, send, silent)
    engine = NumpyEngine(model.program)
    sent = [frame if send == "frames" else engine.encode(engine.head(frame)) for frame in FRAMES]
    assert cloud.sent[:COUNT] == [one.tobytes() for one in sent]
    theirs = [make_answer(row, DIGITS, 1.0) for row in cloud.features(sent).tolist()]
    assert side.answers == theirs
    sides = [choose(own, answer)[0] for own, answer in zip(edge.answers, theirs, strict=True)]
    assert {"edge", "cloud"} == set(sides)
    expected = [own if s == "edge" else c for own, c, s in zip(edge.answers, theirs, sides, strict=True)]
    assert side.standing == expected
    found = compare_answers(edge, side, TRUTH)
    assert found.standing_right.tolist() == [a.label == t for a, t in zip(expected, TRUTH, strict=True)]
    assert found.cloud_right.tolist() == [a.label == t for a, t in zip(theirs, TRUTH, strict=True)]


def test_scores_and_thresholds_are_the_devices(models):
    found = both(models, "features").edge
    model = read_edge(models.edge)
    engine = NumpyEngine(model.program)
    known = Known(model, engine)
    assert list(found.scores) == list(FILTERS)
    assert {name: len(rows) for name, rows in found.scores.items() if len(rows) > 1} == {"random": 10}
    for name, thresholds in found.thresholds.items():
        assert thresholds == [filter_threshold(make_filter(name, known, s), known) for s in range(len(thresholds))]
    assert found.thresholds["entropy"] == [model.threshold]
    for name, rows in found.scores.items():
        made = [make_filter(name, known, seed) for seed in range(len(rows))]
        for index, frame in enumerate(FRAMES[:5]):
            split = engine.head(frame)
            logits = engine.exit(split).tolist()
            evidence = Evidence(index, logits, 1.0, softmax(logits), split)
            assert rows[:, index].tolist() == [filter_.score(evidence) for filter_ in made]


def test_spikes_are_as_large_as_the_wires_codec_makes_them(models):
    found = both(models, "features")
    engine = NumpyEngine(models.program)
    assert found.cloud.bytes_up.tolist() == [len(encode_spikes(engine.encode(engine.head(f)))) for f in FRAMES]
    assert found.cloud.bytes_down == 40
    assert found.cloud.upload_mj == found.edge.encoder_mj > 0


def test_frames_go_to_the_teacher_and_cost_no_encoding(models):
    found = both(models, "frames")
    cloud = CloudModel(models.cloud)
    expected = [cloud.labels[int(row.argmax())] for row in cloud.frames(list(FRAMES))]
    assert [answer.label for answer in found.cloud.answers] == expected
    assert found.cloud.bytes_up.tolist() == [len(encode_pixels(frame)) for frame in FRAMES]
    assert found.cloud.upload_mj == 0.0
    assert found.cloud.link_mj.tolist() == [link_mj(size, 40) for size in found.cloud.bytes_up]


def test_energy_of_the_edge_is_that_of_its_layers(models):
    """By the reference: the first layer multiplies pixels once for both steps, the others add where a spike came."""
    edge, program = both(models, "features").edge, models.program
    expected = {"head": 0.0, "encoder": 0.0, "exit": 0.0}
    for frame in FRAMES:
        split, head = reference.run(program.head, reference.frame_input(frame, program.steps))
        for section, inputs, traces in (
            ("head", None, head),
            ("encoder", split, reference.run(program.encoder, split)[1]),
            ("exit", split, reference.run(program.exit, split)[1]),
        ):
            for index, layer in enumerate(getattr(program, section)):
                if not isinstance(layer, MaxPool):
                    positions = traces[index].spikes[0, 0].size if isinstance(layer, Conv) else 1
                    macs = layer.weight.size * positions
                    expected[section] += energy_mj(
                        macs if inputs is None else inputs.mean() * program.steps * macs, 4.6 if inputs is None else 0.9
                    )
                inputs = traces[index].spikes if index < len(traces) else None
    assert edge.mj == pytest.approx((expected["head"] + expected["exit"]) / COUNT, rel=1e-9)
    assert edge.encoder_mj == pytest.approx(expected["encoder"] / COUNT, rel=1e-9)


def test_energy_of_the_cloud_is_that_of_its_layers(models):
    """The decoder's transposed convolution and the tail, of one answer; the teacher costs more."""
    spikes, frames = (both(models, send).cloud.mj for send in ("features", "frames"))
    assert 0 < spikes < frames
    net, _ = load_cloud(models.cloud, Lif)
    decoder = 2 * net.decoder.conv.weight.numel() * 4 * 4
    assert spikes > energy_mj(decoder, 4.6)


# ---- data ----


def test_a_recording_is_taken_whole(stream):
    data = open_labelled(str(stream), None, "test")
    assert (data.part, data.truth, data.names) == ("", TRUTH, DIGITS)


def test_a_folder_of_images_has_parts(tmp_path):
    folder = write_classes(tmp_path / "images", {"0": 20, "1": 20}, height=16, width=16)
    parts = {part: open_labelled(str(folder), None, part) for part in ("test", "validation")}
    assert {part: data.part for part, data in parts.items()} == {"test": "test", "validation": "validation"}
    assert all(0 < len(data.labels) < 40 for data in parts.values())


def test_the_validation_part_never_opens_the_test_part(tmp_path, monkeypatch):
    from ecc_tools.collaborate import labelled
    from ecc_tools.data.parts import DataSet, Part

    def forbidden():
        raise AssertionError("the test part was read")

    learning = Part(FRAMES, LABELS)
    data = DataSet("digits", DIGITS, lambda: learning, forbidden)
    monkeypatch.setattr(labelled, "open_dataset", lambda name, root: data)
    assert len(open_labelled("digits", None, "validation").labels) == len(DIGITS)


@pytest.mark.parametrize(
    ("spec", "part", "text"),
    [
        ("digits", "training", "there is no part 'training' to report on; choose one of: test, validation"),
        ("unlabelled.npz", "test", "unlabelled.npz: frames without labels; "),
    ],
)
def test_data_that_cannot_be_judged(tmp_path, monkeypatch, spec, part, text):
    monkeypatch.chdir(tmp_path)
    save_npz(Path("unlabelled.npz"), FRAMES)
    with pytest.raises(SourceError) as caught:
        open_labelled(spec, None, part)
    assert str(caught.value).startswith(text)


def test_data_of_other_classes():
    data = Labelled("cats", "test", FRAMES, np.zeros(COUNT, np.int64), ("tabby", "manx", "sphynx", "birman"))
    with pytest.raises(SourceError) as caught:
        check_classes(data, DIGITS)
    assert str(caught.value) == (
        "cats: none of its classes (tabby, manx, sphynx, ...) is one that the models know (0, 1, 2, ...); "
        "give frames of their classes"
    )


# ---- the command ----


def run(*arguments):
    return CliRunner().invoke(app, ["collaborate", *map(str, arguments)])


@pytest.fixture(scope="module")
def made(models, stream, tmp_path_factory):
    """The folder of one run, and what the command printed."""
    out = Path(tmp_path_factory.mktemp("out"))
    done = run(models.edge, models.cloud, "--data", stream, "--out", out)
    assert done.exit_code == 0, done.output
    return out, done.stdout


def read(path):
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_command_writes_tables_and_pictures(made):
    out, _ = made
    names = ["accuracy.png", "collaborate.json", "improvement.png", "rates.csv", "thresholds.csv"]
    assert sorted(path.name for path in out.iterdir()) == names
    thresholds, rates = read(out / "thresholds.csv"), read(out / "rates.csv")
    assert tuple(thresholds[0]) == tuple(rates[0]) == COLUMNS
    assert len(thresholds) == 101 * len(FILTERS)
    assert len(rates) == 101 * (len(FILTERS) - 2) + 2
    assert {row["threshold"] for row in rates} == {""}


@pytest.mark.parametrize("name", [name for name in FILTERS if name not in ("cloud-only", "edge-only")])
def test_uploads_fall_as_the_threshold_rises_and_both_ends_meet_the_baselines(made, name):
    out, _ = made
    rows = read(out / "thresholds.csv")
    rates = [float(row["upload_rate"]) for row in rows if row["filter"] == name]
    assert rates == sorted(rates, reverse=True)
    ends = [row["accuracy"] for row in read(out / "rates.csv") if row["filter"] == name]
    baselines = {row["filter"]: row["accuracy"] for row in rows}
    assert (ends[0], ends[-1]) == (baselines["edge-only"], baselines["cloud-only"])


def test_the_record_names_models_data_and_how_thresholds_were_chosen(made, models, stream):
    out, _ = made
    found = json.loads((out / "collaborate.json").read_text())
    assert found["data"] == {"name": str(stream), "part": "", "frames": COUNT, "new_frames": 16}
    assert found["edge"]["sha256"] == read_edge(models.edge).sha256
    assert "none was chosen on these frames" in found["thresholds"]
    entropy = found["operating"][0]
    assert (entropy["filter"], entropy["threshold"]) == ("entropy", read_edge(models.edge).threshold)
    assert found["constants"]["link up"]["kind"] == "assumed"
    edge_only = found["operating"][-1]
    assert (edge_only["filter"], edge_only["accuracy"]) == ("edge-only", found["edge"]["accuracy"])


def test_the_table_shows_each_filter_at_its_own_threshold(made):
    _, printed = made
    lines = printed.splitlines()
    assert lines[0].endswith(f"{COUNT} frames, 16 of classes that the edge does not know")
    assert [line.split()[0] for line in lines[3 : 3 + len(FILTERS)]] == list(FILTERS)


def test_json_is_what_the_file_holds(models, stream, tmp_path):
    done = run(models.edge, models.cloud, "--data", stream, "--out", tmp_path, "--send", "frames", "--json")
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "collaborate.json").read_text())
    assert found["cloud"]["send"] == "frames"


def test_two_runs_write_the_same_bytes(made, models, stream, tmp_path):
    out, _ = made
    assert run(models.edge, models.cloud, "--data", stream, "--out", tmp_path).exit_code == 0
    for name in ("thresholds.csv", "rates.csv"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


def test_a_pair_that_does_not_fit(models, stream, tmp_path):
    other = write_tiny_models(tmp_path, seed=7)
    with pytest.raises(IncompatibleFeatures) as caught:
        run_raising(other.edge, models.cloud, "--data", stream)
    have, reads = other.program.features_id[:8], models.program.features_id[:8]
    assert str(caught.value).startswith(f"the cloud cannot read features {have} (it reads: {reads}); ")


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (["--send", "thoughts"], SourceError, "nothing is sent as 'thoughts'; choose one of: features, frames"),
        (["--part", "training"], SourceError, "there is no part 'training' to report on; choose one of: "),
    ],
)
def test_wrong_options(models, stream, change, error, text):
    with pytest.raises(error) as caught:
        run_raising(models.edge, models.cloud, "--data", stream, *change)
    assert str(caught.value).startswith(text)


def test_a_cloud_without_a_teacher_reads_no_frames(models, blind, stream, tmp_path):
    with pytest.raises(SourceError) as caught:
        run_raising(models.edge, blind, "--data", stream, "--send", "frames", "--out", tmp_path)
    assert str(caught.value) == f"{blind}: this cloud has no teacher for frames; send features"
    assert run(models.edge, blind, "--data", stream, "--out", tmp_path).exit_code == 0


def test_a_folder_that_cannot_be_written(models, stream, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ReportRefused) as caught:
        run_raising(models.edge, models.cloud, "--data", stream, "--out", tmp_path / "file")
    assert str(caught.value) == (
        f"{tmp_path / 'file'}: cannot be written into (File exists); give another folder with --out"
    )


def run_raising(*arguments):
    done = run(*arguments)
    assert done.exit_code == 1
    raise done.exception
