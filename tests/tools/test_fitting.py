"""Training runs: alone and jointly, stopped and resumed, chosen on validation images."""

import csv
import hashlib
import re

import msgspec
import pytest
import torch

from ecc_model.nets.ann import AnnConfig, build_ann
from ecc_model.nets.spikebottlenet import SpikeBottleNet
from ecc_model.nets.vgg import to_unit
from ecc_model.nets.vit import from_pretrained
from ecc_tools.data.parts import DataSet, Part
from ecc_tools.fitting import best_of, fit, validate
from ecc_tools.networks import Bottleneck, UnfitNetwork
from ecc_tools.objective import TeacherUnfit
from ecc_tools.rounding import AsIntegers, rounded
from ecc_tools.runs import (
    DataConfig,
    LossConfig,
    NetworkConfig,
    RunConfig,
    RunError,
    load_run,
    load_tensors,
    read_record,
    start_sha256,
)
from ecc_tools.training import LossNotFinite, OutOfMemory, Plan
from support.patterns import NAMES, forbidden, pattern_part, patterns

CPU = torch.device("cpu")
PLAN = Plan(epochs=2, learning_rate=8e-3, batch=16)
LONGER = Plan(epochs=10, learning_rate=8e-3, batch=16)
EDGE = NetworkConfig(kind="vgg9", width=0.1, steps=2)
DENSE = NetworkConfig(kind="vgg16", width=0.1)


def config(network=EDGE, *, loss=LossConfig(), plan=PLAN, ema=0.0, **data) -> RunConfig:  # noqa: B008
    return RunConfig(seed=0, data=DataConfig(name="patterns", **data), network=network, plan=plan, loss=loss, ema=ema)


def run(folder, settings=None, *, data=None, report=lambda line: None, **more):
    settings = settings or config()
    return fit(settings, data or patterns(), folder, progress=lambda share: None, report=report, **more)


def weights(folder, name="weights.pt"):
    return torch.load(folder / name, weights_only=True)


def log(folder):
    with (folder / "log.csv").open() as stream:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "teacher"
    best = run(folder, config(DENSE, plan=LONGER))
    assert best["accuracy"] > 60
    return folder


def test_a_run_learns_and_leaves_config_log_and_the_best_weights(tmp_path):
    best = run(tmp_path / "run", config(plan=LONGER))
    assert best["accuracy"] > 60  # chance is 25
    lines = log(tmp_path / "run")
    assert [line["epoch"] for line in lines] == [str(float(epoch)) for epoch in range(10)]
    assert max(float(line["accuracy"]) for line in lines) == best["accuracy"]
    record = read_record(tmp_path / "run")
    assert record.provenance.labels == NAMES
    assert record.provenance.frame == (16, 16, 1)
    assert record.provenance.data_sha256 == patterns().training()[0].sha256
    assert record.provenance.code.startswith("ecc-snn ")
    net, _ = load_run(tmp_path / "run")
    assert all(torch.equal(value, weights(tmp_path / "run")[name]) for name, value in net.state_dict().items())


def test_the_test_part_is_never_read_and_validation_decides(tmp_path):
    """`patterns()` raises where its test part is touched; validation images with other labels choose otherwise."""
    plan = config(plan=Plan(epochs=6, learning_rate=8e-3, batch=16))
    run(tmp_path / "run", plan)
    run(tmp_path / "other", plan, data=with_turned_labels(patterns()))
    assert [line["accuracy"] for line in log(tmp_path / "run")] != [
        line["accuracy"] for line in log(tmp_path / "other")
    ]
    last, other = (load_tensors(tmp_path / name / "checkpoint.pt")["modules"] for name in ("run", "other"))
    assert all(torch.equal(last[name], other[name]) for name in last)  # they train alike: the choice alone differs


def with_turned_labels(data: DataSet) -> DataSet:
    """The same training images, and the same validation images under labels that are off by one."""
    learn, choose = data.training()

    class Turned(DataSet):
        def training(self):
            return learn, Part(choose.frames, (choose.labels + 1) % len(NAMES))

    return Turned(data.name, data.names, data.learning, forbidden)


class PowerCut(Exception):
    pass


def cut_after_one_epoch(folder, settings):
    def cut(line):
        raise PowerCut

    with pytest.raises(PowerCut):
        run(folder, settings, report=cut)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_resumed_run_ends_as_one_that_never_stopped(tmp_path, ema):
    settings = config(plan=Plan(epochs=3, learning_rate=4e-3, batch=32), ema=ema)
    run(tmp_path / "whole", settings)

    cut_after_one_epoch(tmp_path / "cut", settings)
    run(tmp_path / "cut", settings, resume=True)
    assert log(tmp_path / "cut") == log(tmp_path / "whole")
    whole, cut_ = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut_[name]) for name in whole)


def test_a_finished_run_is_not_overwritten(tmp_path):
    run(tmp_path / "run")
    with pytest.raises(RunError, match=r"run holds a run already; go on with it by --resume, or name another --out$"):
        run(tmp_path / "run")


def test_a_resume_with_another_config_names_what_differs(tmp_path):
    run(tmp_path / "run")
    wider = config(NetworkConfig(kind="vgg9", width=0.2, steps=2))
    with pytest.raises(
        RunError, match=r"run was begun with network\.width = 0\.1, not 0\.2; resume with what it was begun with$"
    ):
        run(tmp_path / "run", wider, resume=True)


def test_a_resume_with_a_setting_that_was_not_there_names_it(tmp_path):
    run(tmp_path / "run")
    joined = msgspec.structs.replace(EDGE, bottleneck=Bottleneck(split="pool2", code_channels=2))
    with pytest.raises(
        RunError, match=r"run was begun with network\.bottleneck = None, not \{'split': 'pool2', .*\}; resume with what"
    ):
        run(tmp_path / "run", config(joined), resume=True)


def test_a_resume_with_other_images_is_refused(tmp_path):
    run(tmp_path / "run")
    with pytest.raises(RunError, match=r"was begun with provenance\.data_sha256 = \w{12}, not \w{12}; resume with"):
        run(tmp_path / "run", data=patterns(seed=1), resume=True)


def test_a_loss_that_is_no_number_keeps_the_checkpoint(tmp_path):
    wild = config(plan=Plan(epochs=3, learning_rate=1e30, batch=32, optimizer="sgd", warmup=0.6))
    with pytest.raises(LossNotFinite, match=r"; no epoch was finished, in .*run$"):
        run(tmp_path / "run", wild)


def test_a_validation_loss_that_is_no_number_leaves_the_last_good_epoch(tmp_path):
    """The only step of epoch 1 is finite in its loss, and breaks the weights."""
    folder, settings = (
        tmp_path / "run",
        config(DENSE, plan=Plan(epochs=3, learning_rate=0.1, batch=216, optimizer="sgd")),
    )
    cut_after_one_epoch(folder, settings)
    state = load_tensors(folder / "checkpoint.pt")
    for kept in state["optimizer"]["state"].values():
        kept["momentum_buffer"].fill_(1e38)
    torch.save(state, folder / "checkpoint.pt")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(
        LossNotFinite,
        match=r"^the validation loss is not finite in epoch 1; lower the learning rate; "
        r"the last good checkpoint is that of epoch 0, in .*run$",
    ):
        run(folder, settings, resume=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


HEAD = "epoch,accuracy,validation_loss\n"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, r"log\.csv: not the log of a run \(No such file or directory\); make the run anew$"),
        ("", r"log\.csv lacks epochs that the checkpoint has; make the run anew$"),
        (HEAD, r"log\.csv lacks epochs that the checkpoint has; make the run anew$"),
        (
            HEAD + "0.0,high,1.5\n",
            r"log\.csv: not the log of a run \(could not convert string to float: 'high'\); make",
        ),
        (HEAD + "0.0,50\n", r"log\.csv: not the log of a run \(.*\); make the run anew$"),
        (HEAD + "0.0,50,1.5,8\n", r"log\.csv: not the log of a run \(.*\); make the run anew$"),
        (HEAD + "0.0,50,nan\n", r"log\.csv: not the log of a run \(a figure is missing or not finite\); make the run"),
        ("epoch,accuracy\n0.0,50\n", r"log\.csv: not the log of a run \(a figure is missing or not finite\); make"),
    ],
)
def test_a_resume_with_a_damaged_log_is_one_line(tmp_path, content, text):
    settings = config(DENSE, plan=Plan(epochs=2, learning_rate=1e-3, batch=240))
    cut_after_one_epoch(tmp_path / "run", settings)
    (tmp_path / "run" / "log.csv").unlink()
    if content is not None:
        (tmp_path / "run" / "log.csv").write_text(content)
    with pytest.raises(RunError, match=text):
        run(tmp_path / "run", settings, resume=True)


@pytest.mark.parametrize("name", ["config.toml", "log.csv", "weights.pt", "checkpoint.pt", "teacher-view-0.pt"])
def test_a_full_disk_is_one_line(tmp_path, teacher, name):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / f"{name}.partial").symlink_to("/dev/full")
    settings = config(DENSE, loss=LossConfig(logits=0.5), augmentation="none")
    with pytest.raises(RunError, match=rf"{name}: cannot be written \(.+\); check the path, its permissions, and the"):
        run(folder, settings, teacher=teacher)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(
            RunError, match=rf"^{folder}: cannot be written \(.+\); check the path, its permissions, and"
        ):
            run(folder)


@pytest.mark.parametrize("name", ["banana", "mps", "cuda:99"])
def test_a_device_that_is_not_there_is_one_line(tmp_path, name):
    with pytest.raises(
        RunError, match=rf"^torch finds no device '{name}' here to train on; give --device cpu(, or .*)?$"
    ):
        run(tmp_path / "run", device=name)


class Greedy(torch.nn.Module):
    def forward(self, frames):
        return torch.zeros(len(frames), len(NAMES)) if len(frames) <= 4 else torch.empty(1 << 50)


def test_validation_takes_no_larger_batches_than_the_training(tmp_path):
    part = pattern_part(10, 0)
    assert validate(Greedy(), part, CPU, Plan(epochs=1, learning_rate=1.0, batch=4))["accuracy"] == 30.0
    with pytest.raises(OutOfMemory, match=r"^a batch of 8 does not fit into memory; try --batch 4$"):
        validate(Greedy(), part, CPU, Plan(epochs=1, learning_rate=1.0, batch=8))


def test_fine_tuning_begins_with_the_weights_of_another_run(tmp_path, teacher):
    still = config(DENSE, plan=Plan(epochs=1, learning_rate=0.0, batch=16))
    run(tmp_path / "tuned", still, start_from=teacher)
    kept, given = weights(tmp_path / "tuned"), weights(teacher)
    trained = [name for name in given if "running" not in name and "tracked" not in name]  # batch norm counts on
    assert all(torch.equal(kept[name], given[name]) for name in trained)
    with pytest.raises(RunError, match=r"teacher holds another network than this run; begin without"):
        run(tmp_path / "edge", start_from=teacher)


VIT = NetworkConfig(kind="vit-b16", width=1 / 12)
ONE_STEP = Plan(epochs=1, learning_rate=0.0, batch=8)


def few() -> DataSet:
    return DataSet("patterns", NAMES, lambda: pattern_part(12, 0), forbidden)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "vit-tiny"
    build_ann(AnnConfig(kind="vit-b16", channels=1, classes=3, width=1 / 12)).vit.save_pretrained(folder)
    return folder


def test_a_transformer_begins_with_pretrained_weights_or_with_a_run(tmp_path, pretrained):
    still = config(VIT, plan=ONE_STEP)
    run(tmp_path / "tuned", still, data=few(), start_from=pretrained)
    kept, given = weights(tmp_path / "tuned"), from_pretrained(pretrained, 3).state_dict()
    trunk = [name for name in given if "classifier" not in name]
    assert len(trunk) > 100
    assert all(torch.equal(kept[name], given[name]) for name in trunk)
    assert kept["vit.classifier.weight"].shape == (4, 64)  # of its own classes
    assert read_record(tmp_path / "tuned").provenance.seen == (*NAMES, "vit-tiny")
    run(tmp_path / "again", still, data=few(), start_from=tmp_path / "tuned")
    assert torch.equal(weights(tmp_path / "again")["vit.classifier.weight"], kept["vit.classifier.weight"])
    assert read_record(tmp_path / "again").provenance.seen == (*NAMES, "vit-tiny")


def test_a_pretrained_transformer_of_another_width_is_refused(tmp_path, pretrained):
    wide = config(msgspec.structs.replace(VIT, width=0.25))
    with pytest.raises(
        RunError,
        match=r"vit-tiny is a ViT of --width 0\.0833 for images of 1 channels, this run one of 0\.25 for 1; give what",
    ):
        run(tmp_path / "run", wide, data=few(), start_from=pretrained)


def test_weights_to_begin_with_are_told_by_their_hash(tmp_path, pretrained):
    digest = hashlib.sha256((pretrained / "model.safetensors").read_bytes()).hexdigest()
    assert start_sha256(pretrained, "vit-b16") == digest
    with pytest.raises(RunError, match=r"vit-tiny holds no trained network \(weights\.pt\); give the --out of a"):
        start_sha256(pretrained, "vgg9")


def test_fine_tuning_on_other_classes_begins_with_all_but_the_last_layer(tmp_path):
    run(tmp_path / "base", config(tasks="B2-Inc1"))
    run(tmp_path / "all", config(plan=Plan(epochs=1, learning_rate=0.0, batch=16)), start_from=tmp_path / "base")
    kept, given = weights(tmp_path / "all"), weights(tmp_path / "base")
    for name in ("head.0.conv.weight", "exit.4.linear.weight"):
        assert torch.equal(kept[name], given[name]), name
    assert (given["exit.5.linear.weight"].shape[0], kept["exit.5.linear.weight"].shape[0]) == (2, len(NAMES))


@pytest.mark.parametrize(
    ("kind", "split", "width", "code"),
    [("vgg9", "pool2", 0.1, (2, 240, 4, 2, 2)), ("spiking-resnet18", "RB3", 0.05, (2, 240, 4, 4, 4))],
)
def test_a_bottleneck_is_trained_in_two_steps(tmp_path, kind, split, width, code):
    network = NetworkConfig(kind=kind, width=width, steps=2)
    run(tmp_path / "alone", config(network, plan=PLAN))
    joined = msgspec.structs.replace(network, bottleneck=Bottleneck(split=split, code_channels=4, code_stride=2))
    first = run(tmp_path / "joined", config(joined, plan=LONGER), start_from=tmp_path / "alone")
    assert first["accuracy"] > 45  # chance is 25
    net, record = load_run(tmp_path / "joined")
    assert isinstance(net, SpikeBottleNet)
    assert record.run.network == joined
    with torch.no_grad():
        spikes = net.code(to_unit(torch.from_numpy(pattern_part(240, 0).frames)))
    assert spikes.shape == code
    assert set(spikes.unique().tolist()) == {0.0, 1.0}


def test_a_bottleneck_begins_with_its_network_or_with_itself(tmp_path, teacher):
    joined = msgspec.structs.replace(EDGE, bottleneck=Bottleneck(split="pool1", code_channels=2))
    still = config(joined, plan=Plan(epochs=1, learning_rate=0.0, batch=16))
    run(tmp_path / "alone")
    run(tmp_path / "joined", still, start_from=tmp_path / "alone")
    kept, given = weights(tmp_path / "joined"), weights(tmp_path / "alone")
    assert torch.equal(kept["net.head.0.conv.weight"], given["head.0.conv.weight"])
    assert torch.equal(kept["net.exit.7.linear.weight"], given["exit.4.linear.weight"])  # cut one pool earlier
    run(tmp_path / "again", still, start_from=tmp_path / "joined")
    assert torch.equal(weights(tmp_path / "again")["decoder.conv.weight"], kept["decoder.conv.weight"])
    with pytest.raises(RunError, match=r"teacher holds another network than this run; begin without"):
        run(tmp_path / "other", still, start_from=teacher)
    wide = config(msgspec.structs.replace(joined, width=0.2), plan=PLAN)
    with pytest.raises(RunError, match=r"alone cannot be begun with: the networks are not of one kind, width and"):
        run(tmp_path / "wide", wide, start_from=tmp_path / "alone")


@pytest.mark.parametrize(
    ("network", "split", "text"),
    [
        (EDGE, "RB1", r"vgg9 cannot be built so: the cut lies after pool 1, 2 or 3, not 0; change"),
        (NetworkConfig(kind="spiking-resnet18", width=0.05, steps=2), "RB9", "the cut lies behind RB1 to RB8, not RB9"),
        (DENSE, "pool1", r"vgg16 is not spiking: a spiking bottleneck stands in one of vgg9, spiking-resnet18, "),
    ],
)
def test_a_split_point_that_is_not_there_is_refused(tmp_path, network, split, text):
    joined = msgspec.structs.replace(network, bottleneck=Bottleneck(split=split, code_channels=2))
    with pytest.raises(UnfitNetwork, match=text):
        run(tmp_path / "run", config(joined))


def test_a_base_task_trains_on_its_own_classes(tmp_path):
    run(tmp_path / "run", config(tasks="B2-Inc2", task=1))
    record = read_record(tmp_path / "run")
    assert record.provenance.labels == NAMES[2:]
    assert load_run(tmp_path / "run")[0].config.classes == 2


def test_a_joint_run_learns_from_logits_and_features(tmp_path, teacher):
    best = run(tmp_path / "run", config(loss=LossConfig(logits=0.5, features=2.0)), teacher=teacher)
    assert {"cross_entropy", "logits", "features"} <= best.keys()
    first, last = log(tmp_path / "run")[0], log(tmp_path / "run")[-1]
    assert float(last["features"]) < float(first["features"])


def test_a_run_tells_which_classes_its_teacher_and_its_start_have_seen(tmp_path, teacher):
    still = {"plan": Plan(epochs=1, learning_rate=0.0, batch=240), "tasks": "B2-Inc1"}
    run(tmp_path / "taught", config(loss=LossConfig(logits=0.5), **still), teacher=teacher)
    run(tmp_path / "alone", config(**still))
    run(tmp_path / "tuned", config(**still), start_from=tmp_path / "taught")
    seen = {name: read_record(tmp_path / name).provenance.seen for name in ("taught", "alone", "tuned")}
    assert seen == {"taught": NAMES, "alone": NAMES[:2], "tuned": NAMES}
    older = tmp_path / "alone" / "config.toml"  # an older version has not told
    older.write_text(re.sub(r"(?s)seen = \[.*?\]\n", "", older.read_text()))
    assert read_record(tmp_path / "alone").provenance.seen == ()
    run(tmp_path / "again", config(**still | {"tasks": "B2-Inc2", "task": 1}), start_from=tmp_path / "alone")
    assert read_record(tmp_path / "again").provenance.seen == (*NAMES[2:], *NAMES[:2])


def test_fixed_views_keep_the_teachers_logits(tmp_path, teacher):
    settings = config(loss=LossConfig(logits=0.5), views=2)
    run(tmp_path / "run", settings, teacher=teacher)
    kept = [torch.load(tmp_path / "run" / f"teacher-view-{n}.pt", weights_only=True)["logits"] for n in range(2)]
    assert [tuple(logits.shape) for logits in kept] == [(216, 4), (216, 4)]
    assert not torch.equal(*kept)
    assert not (tmp_path / "run" / "teacher-view-2.pt").exists()


def test_kept_logits_train_as_asked_ones_do(tmp_path, teacher):
    """Without augmentation every epoch shows one view, so that the teacher needs to be asked once only."""
    settings = config(loss=LossConfig(logits=0.5), augmentation="none")
    run(tmp_path / "kept", settings, teacher=teacher)
    # mixing nothing, but forbidding the cache: views differ from epoch to epoch by name alone
    run(tmp_path / "asked", config(loss=LossConfig(logits=0.5, features=1e-12), augmentation="none"), teacher=teacher)
    kept, asked = log(tmp_path / "kept"), log(tmp_path / "asked")
    assert float(kept[0]["logits"]) == pytest.approx(float(asked[0]["logits"]), rel=0.02)
    assert (tmp_path / "kept" / "teacher-view-0.pt").exists()
    assert not (tmp_path / "asked" / "teacher-view-0.pt").exists()


def test_a_student_whose_class_the_teacher_lacks_is_refused(tmp_path, teacher):
    names = (*NAMES[:3], "spiral")
    data = DataSet("patterns", names, lambda: pattern_part(240, 0), forbidden)
    with pytest.raises(
        TeacherUnfit,
        match=r"^the teacher in .*teacher knows 4 classes, and 'spiral' is none of them; train it on all of",
    ):
        run(tmp_path / "run", config(loss=LossConfig(logits=0.5)), data=data, teacher=teacher)


def test_logits_without_a_teacher_are_refused(tmp_path):
    with pytest.raises(TeacherUnfit, match=r"^logits and features are learnt from a teacher; name one with --teacher$"):
        run(tmp_path / "run", config(loss=LossConfig(logits=0.5)))


def test_features_need_networks_with_a_layer_in_common(tmp_path):
    run(tmp_path / "resnet", config(NetworkConfig(kind="resnet8", width=0.1), plan=Plan(epochs=1, learning_rate=1e-3)))
    with pytest.raises(
        TeacherUnfit, match=r"^features are aligned between a VGG-16 teacher and a VGG-9 student; leave"
    ):
        run(tmp_path / "run", config(loss=LossConfig(features=1.0)), teacher=tmp_path / "resnet")


def test_a_run_that_an_older_version_chose_by_accuracy_is_not_resumed(tmp_path):
    penalized = config(loss=LossConfig(rate=1.0))
    run(tmp_path / "run", penalized)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    torch.save(state | {"best": 50.0}, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(RunError, match=r"run kept its most accurate epoch, as older versions did; make the run anew$"):
        run(tmp_path / "run", penalized, resume=True)


ROWS = [
    {"accuracy": 84.2, "validation_loss": 0.50},
    {"accuracy": 79.1, "validation_loss": 0.66},
    {"accuracy": 83.4, "validation_loss": 0.49},
    {"accuracy": 84.2, "validation_loss": 0.51},
]


def test_the_most_accurate_epoch_is_kept_of_equals_the_first():
    assert best_of(ROWS) is ROWS[0]


def test_with_a_penalty_the_epoch_of_least_loss_and_penalty_is_kept():
    rows = [row | {"operations": paid} for row, paid in zip(ROWS, (0.20, 0.11, 0.09, 0.09), strict=True)]
    assert best_of(rows) is rows[2]


def test_a_penalty_on_operations_makes_the_network_sparser(tmp_path):
    run(tmp_path / "free", config(plan=LONGER, loss=LossConfig(rate=1e-9)))
    run(tmp_path / "paid", config(plan=LONGER, loss=LossConfig(rate=20.0)))
    free, paid = (float(log(tmp_path / name)[-1]["operations"]) for name in ("free", "paid"))
    assert paid / 20.0 < 0.7 * free / 1e-9


def test_early_answers_are_better_where_they_were_trained(tmp_path):
    def loss_after_one_step(early):
        run(tmp_path / f"{early}", config(loss=LossConfig(early=early), plan=LONGER))
        net, choose = load_run(tmp_path / f"{early}")[0].eval(), patterns().training()[1]
        with torch.no_grad():
            answers = net.after_each_step(to_unit(torch.from_numpy(choose.frames)))
        return float(torch.nn.functional.cross_entropy(answers[0], torch.from_numpy(choose.labels)))

    trained, untrained = loss_after_one_step(1.0), loss_after_one_step(0.0)
    assert trained < 0.8 * untrained, (trained, untrained)


def test_early_answers_learn_from_the_teacher_too(tmp_path, teacher):
    lines = []
    loss = LossConfig(logits=0.5, features=1.0, early=2.0)
    run(tmp_path / "run", config(loss=loss), teacher=teacher, report=lines.append)
    alone = lines[-1]["cross_entropy"]
    assert alone < lines[-1]["early"] / 2  # the teacher's term is in it, and the first step knows less


@pytest.mark.parametrize("network", [DENSE, NetworkConfig(kind="vgg9", width=0.1, steps=1)])
def test_early_answers_need_a_network_with_several_steps(tmp_path, network):
    with pytest.raises(RunError, match="early answers are those of a spiking network with two time steps or more"):
        run(tmp_path / "run", config(network, loss=LossConfig(early=1.0)))


def test_a_run_with_integer_weights_is_chosen_by_them_and_keeps_float_ones(tmp_path, teacher):
    settings = msgspec.structs.replace(config(plan=LONGER, loss=LossConfig(logits=0.5, early=0.5)), int8=True)
    best = run(tmp_path / "run", settings, teacher=teacher)
    assert best["accuracy"] > 60
    net, choose = load_run(tmp_path / "run")[0].eval(), patterns().training()[1]
    weight = net.head[0].conv.weight
    assert not torch.equal(rounded(weight), weight)
    with torch.no_grad():
        answers = AsIntegers(net)(to_unit(torch.from_numpy(choose.frames))).argmax(1).numpy()
    assert 100 * (answers == choose.labels).mean() == best["accuracy"]


@pytest.mark.parametrize(
    "network", [DENSE, msgspec.structs.replace(EDGE, bottleneck=Bottleneck(split="pool2", code_channels=4))]
)
def test_what_no_device_runs_is_not_trained_as_integers(tmp_path, network):
    settings = msgspec.structs.replace(config(network), int8=True)
    with pytest.raises(RunError, match="a device runs spiking networks alone as integers; leave --int8 out"):
        run(tmp_path / "run", settings)


@pytest.mark.parametrize("mix", ["cutmix", "mixup"])
def test_mixed_images_train(tmp_path, mix):
    best = run(tmp_path / "run", config(mix=mix, plan=Plan(epochs=1, learning_rate=1e-3, batch=32)))
    assert best["cross_entropy"] > 0


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(RunError, match=r"is no run folder: it has no config\.toml; give the --out of a training$"):
        load_run(tmp_path)


def test_a_damaged_config_and_damaged_weights_are_one_line(tmp_path):
    run(tmp_path / "run")
    (tmp_path / "run" / "weights.pt").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(RunError, match=r"weights\.pt: cannot be read \(.*\); make the run anew$"):
        load_run(tmp_path / "run")
    (tmp_path / "run" / "config.toml").write_text("[run]\nseed = 'one'\n")
    with pytest.raises(RunError, match=r"config\.toml: .*make the run anew$"):
        load_run(tmp_path / "run")
