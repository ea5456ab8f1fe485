"""`ecc-tools train` and `ecc-tools distill`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from ecc_model import console
from ecc_model.modelfile import ACCEPTED_SHARE
from ecc_model.optional import require
from ecc_model.program import MAX_ENCODERS
from ecc_model.progress import progress_bar

if TYPE_CHECKING:
    from ecc_tools.assembling import BottleneckConfig

BOTTLENECK = ("split", "code_channels", "code_stride")
JOINED = {"code_channels": 64, "code_stride": 1}  # of a spiking bottleneck in a run, where nobody says otherwise
CODE_CHANNELS = 8  # of an encoder, where nobody says otherwise
TUNE_EPOCHS, COPIES = 3, 4  # of decoder and tail on what the integer encoder emits

Data = Annotated[str, typer.Option(help="A set (see 'ecc-tools data list') or a folder of images per class.")]
Network = Annotated[
    str,
    typer.Option(
        help="vgg9, spiking-resnet18|34|50; vgg16, resnet8|18|34, vit-b16 (dense, for the cloud); dense-vgg9."
    ),
]
Out = Annotated[Path, typer.Option(help="The run folder.")]
Root = Annotated[Path | None, typer.Option(envvar="ECC_DATA", help="Where the sets lie.")]
Width = Annotated[float, typer.Option(min=0.01, help="Scales all channel counts.")]
Steps = Annotated[int, typer.Option(min=1, max=16, help="Time steps T of a spiking network.")]
Tasks = Annotated[str, typer.Option(help="A class-incremental split, as 'B6-Inc2'; all classes without it.")]
Task = Annotated[int, typer.Option(min=0, help="Which task of the split; 0 is the base.")]
Augment = Annotated[
    Literal["none", "crop-flip", "strong", "digits"],
    typer.Option(
        help="digits: small turns and shifts; strong: of all kinds.",
    ),
]
Mix = Annotated[Literal["none", "cutmix", "mixup"], typer.Option(help="Mixes images and their labels.")]
ViewCount = Annotated[
    int, typer.Option(min=0, help="So many fixed augmented views, with the teacher's logits kept; 0: always new ones.")
]
Epochs = Annotated[int, typer.Option(min=1)]
Rate = Annotated[float, typer.Option("--lr", min=0.0, help="The highest learning rate.")]
Batch = Annotated[int, typer.Option(min=1)]
Optimizer = Annotated[Literal["adam", "adamw", "sgd"], typer.Option(help="sgd: Nesterov, momentum 0.9.")]
Decay = Annotated[float, typer.Option(min=0.0, help="Weight decay.")]
Warmup = Annotated[float, typer.Option(min=0.0, max=0.9, help="Share of the run in which the rate rises.")]
Smoothing = Annotated[float, typer.Option(min=0.0, max=0.9, help="Label smoothing.")]
Ema = Annotated[float, typer.Option(min=0.0, max=0.99999, help="Decay of averaged weights; 0: none are kept.")]
Precision = Annotated[
    Literal["float32", "bfloat16"],
    typer.Option(help="bfloat16: products alone, weights stay float32."),
]
SplitPoint = Annotated[
    str, typer.Option(help="Train a spiking bottleneck there: pool1 to pool3 (vgg9), RB1 to RB16 (ResNets).")
]
CodeChannels = Annotated[int | None, typer.Option(min=1, help="Channels that travel from --split. [default: 64]")]
CodeStride = Annotated[
    int | None, typer.Option(min=1, max=4, help="Spatial reduction of the spikes that travel. [default: 1]")
]
StartFrom = Annotated[
    Path | None,
    typer.Option(
        help="The run folder of the same network: begin with its weights (fine-tuning). For vit-b16 also a name of the "
        "Hugging Face hub, or a folder with config.json and model.safetensors."
    ),
]
Compiled = Annotated[bool, typer.Option("--compiled", help="torch.compile: half a minute, then about 1.5x as fast.")]
OpsPenalty = Annotated[float, typer.Option(min=0.0, help="Weight of the penalty on synaptic operations.")]
RateWeight = Annotated[float, typer.Option(min=0.0, help="Weight of a message's entropy, for each bit.")]
Noise = Annotated[float, typer.Option(min=0.0, max=0.5, help="Share of the bits that turn on their way, in training.")]
Early = Annotated[
    float, typer.Option(min=0.0, help="Weight of the answers after fewer than T steps: for devices that stop early.")
]
Int8 = Annotated[
    bool, typer.Option("--int8", help="Compute with the device's integer weights: for fine-tuning, with --start-from.")
]
Seed = Annotated[int, typer.Option(min=0)]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out from its last epoch.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def train(
    data: Data,
    network: Network,
    out: Out,
    root: Root = None,
    width: Width = 1.0,
    steps: Steps = 4,
    tasks: Tasks = "",
    task: Task = 0,
    augment: Augment = "crop-flip",
    mix: Mix = "none",
    epochs: Epochs = 70,
    lr: Rate = 2e-3,
    batch: Batch = 64,
    optimizer: Optimizer = "adamw",
    weight_decay: Decay = 0.05,
    warmup: Warmup = 0.2,
    label_smoothing: Smoothing = 0.0,
    ema: Ema = 0.0,
    split: SplitPoint = "",
    code_channels: CodeChannels = None,
    code_stride: CodeStride = None,
    start_from: StartFrom = None,
    precision: Precision = "float32",
    compiled: Compiled = False,
    operations: OpsPenalty = 0.0,
    early: Early = 0.0,
    int8: Int8 = False,
    seed: Seed = 0,
    device: Device = "cpu",
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train a network alone, with cross entropy; the best epoch is chosen on validation images."""
    values = dict(locals())
    _run(values)


def distill(
    data: Data,
    network: Network,
    out: Out,
    teacher: Annotated[Path, typer.Option(help="The run folder of a trained dense network.")],
    logits: Annotated[float, typer.Option(min=0.0, help="l1 of eq. 10, the weight of the KL term.")] = 0.5,
    features: Annotated[float, typer.Option(min=0.0, help="l2 of eq. 10, for VGG-16 and VGG-9.")] = 0.0,
    tau_d: Annotated[float, typer.Option(min=0.1, help="Distillation temperature.")] = 2.0,
    root: Root = None,
    width: Width = 1.0,
    steps: Steps = 4,
    tasks: Tasks = "",
    task: Task = 0,
    augment: Augment = "crop-flip",
    mix: Mix = "none",
    views: ViewCount = 0,
    epochs: Epochs = 70,
    lr: Rate = 2e-3,
    batch: Batch = 64,
    optimizer: Optimizer = "adamw",
    weight_decay: Decay = 0.05,
    warmup: Warmup = 0.2,
    label_smoothing: Smoothing = 0.0,
    ema: Ema = 0.0,
    split: SplitPoint = "",
    code_channels: CodeChannels = None,
    code_stride: CodeStride = None,
    start_from: StartFrom = None,
    precision: Precision = "float32",
    compiled: Compiled = False,
    operations: OpsPenalty = 0.0,
    early: Early = 0.0,
    int8: Int8 = False,
    seed: Seed = 0,
    device: Device = "cpu",
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Train an edge network jointly with a teacher: CE + l1 KL + l2 feature alignment (ECC-SNN, eq. 8 to 10)."""
    values = dict(locals())
    _run(values)


def _run(values: dict[str, Any]) -> None:
    """Train with the options of a command line, by their names."""
    for package in ("torch", "matplotlib"):
        require(package, "training")
    from rich.console import Console

    from ecc_tools.curve import draw_curve
    from ecc_tools.data.sets import open_dataset
    from ecc_tools.fitting import fit
    from ecc_tools.runs import RunConfig

    config = msgspec.convert(_settings(values), RunConfig)
    terminal = Console(stderr=values["as_json"], soft_wrap=True)

    def report(line: Mapping[str, float]) -> None:
        terminal.print("  ".join(f"{name} {value:.4g}" for name, value in line.items()))

    with progress_bar(f"{values['network']} on {values['data']}") as told:
        best = fit(
            config,
            open_dataset(values["data"], values["root"]),
            values["out"],
            teacher=values.get("teacher"),
            start_from=values["start_from"],
            resume=values["resume"],
            device=values["device"],
            progress=told,
            report=report,
        )
    draw_curve(values["out"])
    if values["as_json"]:
        console.print_json({"run": str(values["out"]), **best})
    else:
        print(f"{values['out']}: best epoch {best['epoch']:.0f}, {best['accuracy']:.2f} % of the validation images")


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    """The options of a command line as a `RunConfig` has them."""
    from ecc_tools.networks import SPIKING
    from ecc_tools.runs import start_sha256, weights_sha256

    network, teacher = values["network"], values.get("teacher")
    joined = {name: values[name] for name in JOINED if values[name] is not None}
    if joined and not values["split"]:
        option = "--" + next(iter(joined)).replace("_", "-")
        raise typer.BadParameter(
            "it belongs to a spiking bottleneck; say with --split where that is", param_hint=option
        )
    return {
        "seed": values["seed"],
        "data": {
            "name": values["data"],
            "tasks": values["tasks"],
            "task": values["task"],
            "augmentation": values["augment"],
            "mix": "" if values["mix"] == "none" else values["mix"],
            "views": values.get("views", 0),
        },
        "network": {
            "kind": network,
            "width": values["width"],
            "steps": values["steps"] if network in SPIKING else 1,
        }
        | ({"bottleneck": {"split": values["split"]} | JOINED | joined} if values["split"] else {}),
        "plan": {
            "epochs": values["epochs"],
            "learning_rate": values["lr"],
            **{name: values[name] for name in ("batch", "optimizer", "weight_decay", "warmup", "precision")},
            "compiled": values["compiled"],
        },
        "loss": {
            "logits": values.get("logits", 0.0),
            "features": values.get("features", 0.0),
            "tau_d": values.get("tau_d", 2.0),
            "rate": values["operations"],
            "label_smoothing": values["label_smoothing"],
            "early": values["early"],
        },
        "int8": values["int8"],
        "ema": values["ema"],
        "teacher": "" if teacher is None else weights_sha256(teacher),
        "start": "" if values["start_from"] is None else start_sha256(values["start_from"], network),
    }


def assemble(
    edge: Annotated[Path, typer.Argument(help="The run folder of a VGG-9.")],
    teacher: Annotated[Path, typer.Argument(help="The run folder of the cloud's network.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder for vgg9.pt and cloud.pt.")],
    root: Root = None,
    split: Annotated[int, typer.Option(min=1, max=3, help="The pool after which the edge network is cut.")] = 2,
    code_channels: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Channels that travel; several times: an encoder for each. [default: 8]"),
    ] = None,
    code_stride: Annotated[int, typer.Option(min=1, max=4, help="Spatial reduction of the encoder.")] = 2,
    tail_channels: Annotated[int, typer.Option(min=1, help="Width of the cloud's tail.")] = 128,
    epochs: Epochs = 15,
    lr: Rate = 2e-3,
    batch: Batch = 128,
    tune_epochs: Annotated[int, typer.Option(min=1, help="Epochs on what the integer encoder emits.")] = TUNE_EPOCHS,
    copies: Annotated[int, typer.Option(min=1, help="Views of each image that these see.")] = COPIES,
    rate: RateWeight = 0.0,
    noise: Noise = 0.0,
    progressive: Annotated[
        bool, typer.Option("--progressive", help="Leading time steps go up first, the rest where the cloud needs them.")
    ] = False,
    together: Annotated[
        bool,
        typer.Option("--together", help="Train the edge network on, too: its spikes serve both sides. Takes longer."),
    ] = False,
    early: Early = 0.0,
    accepted: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="Share of known frames that the edge answers by itself.")
    ] = ACCEPTED_SHARE,
    precision: Precision = "float32",
    compiled: Compiled = False,
    half: Annotated[bool, typer.Option("--half", help="Store torch's weights in 16 bits.")] = False,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Train the bottleneck between an edge network and the cloud, and write the two model files."""
    widest, *others = _channels(code_channels or [CODE_CHANNELS])
    config = bottleneck_config(dict(locals()) | {"code_channels": widest})
    from ecc_tools.assembling import assemble as make
    from ecc_tools.data.sets import open_dataset
    from ecc_tools.stages import stages

    with stages("") as stage:
        accuracy = make(edge, teacher, open_dataset(data, root), config, out, half=half, stage=stage)
    if as_json:
        console.print_json({"out": str(out)} | accuracy)
    else:
        print(
            f"{out}: validation images: edge {accuracy['edge']:.2f} % of its classes in integers, cloud "
            f"{accuracy['features']:.2f} % by features, {accuracy['teacher']:.2f} % by frames"
        )
        for name in [name.removeprefix("bytes, ") for name in accuracy if name.startswith("bytes, ")]:
            right, size = accuracy[f"features, {name}"], accuracy[f"bytes, {name}"]
            print(f"encoder {name}: {right:.2f} % by features, {size:.1f} bytes a message on the mean")
        if "more" in accuracy:
            print(f"{accuracy['leading_steps']:.0f} time steps go up first; {accuracy['more']:.1f} % need the rest")
        elif progressive:
            print("whole messages are shorter than any two: all time steps go up at once")


def _channels(given: list[int]) -> list[int]:
    """From the longest code to the shortest."""
    if len(set(given)) != len(given) or len(given) > MAX_ENCODERS:
        raise typer.BadParameter(
            f"give 1 to {MAX_ENCODERS} numbers, each once: encoders differ in bytes", param_hint="--code-channels"
        )
    return sorted(given, reverse=True)


def bottleneck_config(values: Mapping[str, Any]) -> BottleneckConfig:
    """The options of `assemble`, by their names, as a `BottleneckConfig` has them."""
    require("torch", "training")
    from ecc_tools.assembling import BottleneckConfig
    from ecc_tools.training import Plan

    together = values.get("together", False)
    same = {name: values[name] for name in ("batch", "precision")}
    # what `train` takes for a spiking network
    as_edge: dict[str, Any] = {"optimizer": "adamw", "weight_decay": 0.05} if together else {}
    return BottleneckConfig(
        plan=Plan(
            epochs=values["epochs"],
            learning_rate=values["lr"],
            compiled=values.get("compiled", False),
            **same,
            **as_edge,
        ),
        tune=Plan(epochs=values["tune_epochs"], learning_rate=values["lr"] / 4, **same),
        progressive=values.get("progressive", False),
        together=together,
        early=values.get("early", 0.0),
        accepted=values.get("accepted", ACCEPTED_SHARE),
        others=tuple(values.get("others", ())),
        **{name: values[name] for name in ("seed", *BOTTLENECK, "tail_channels", "copies", "rate", "noise")},
    )
