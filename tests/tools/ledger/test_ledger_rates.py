"""Firing rates for the ledger: of a run's network, by hand; which frames are shown; borrowed and assumed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ecc_model.errors import SourceError
from ecc_model.nets.vgg import to_unit
from ecc_tools.collaborate.labelled import Labelled
from ecc_tools.ledger.anatomy import dissect
from ecc_tools.ledger.rates import UnfitRates, assume_rates, measure_rates, spec_of
from ecc_tools.networks import Bottleneck
from ecc_tools.runs import load_run, read_record
from support.runs import write_run


def labelled(count: int = 7, names: tuple[str, ...] = ("a", "b", "c")) -> Labelled:
    frames = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    return Labelled("noise", "test", frames, np.arange(count) % len(names), names)


def silent(share: float) -> None:
    return None


def inputs_of(folder: Path, data: Labelled) -> dict[str, float]:
    """The mean of what enters each convolution and linear layer of a run's network, in their order."""
    net, _ = load_run(folder)
    seen: dict[str, float] = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda _, inputs, out, name=name: seen.update({name: inputs[0].mean().item()}))
    with torch.no_grad():
        net(to_unit(torch.tensor(data.frames)))
    return seen


@pytest.mark.parametrize("kind", ["vgg9", "spiking-resnet18"])
def test_rates_are_those_of_what_enters_each_layer(tmp_path: Path, kind: str) -> None:
    folder, data = write_run(tmp_path / "run", kind), labelled()
    anatomy = dissect(spec_of(read_record(folder)))
    told: list[float] = []
    rates = measure_rates(anatomy, folder, data, 100, told.append)
    seen = inputs_of(folder, data)
    assert rates.layers == pytest.approx({layer.name: seen[layer.name] for layer in anatomy.layers if layer.spiking})
    assert max(rates.layers.values()) > 0.02
    # what leaves one cut enters the next layer
    following = {"vgg9": {"pool 1": "head.3.conv"}, "spiking-resnet18": {"RB1": "head.2.branch.0.conv"}}[kind]
    for cut, layer in following.items():
        assert rates.cuts[cut] == pytest.approx(seen[layer])
    assert set(rates.cuts) == {cut.name for cut in anatomy.cuts}
    assert rates.kind == "measured"
    assert rates.about == f"measured on {kind} of width {1 / 16:g}, T 2, on 7 test frames of noise"
    assert told[-1] == 1.0


@pytest.mark.parametrize(("kind", "split"), [("vgg9", "pool2"), ("spiking-resnet18", "RB2")])
def test_rates_behind_a_bottleneck_are_those_of_what_has_passed_it(tmp_path: Path, kind: str, split: str) -> None:
    folder = write_run(tmp_path / "run", kind, bottleneck=Bottleneck(split=split, code_channels=2))
    data = labelled()
    rates = measure_rates(dissect(spec_of(read_record(folder))), folder, data, 100, silent)
    seen = inputs_of(folder, data)
    found = [seen[name] for name in seen if name.startswith("net.") and not name.startswith("net.encoder")]
    assert list(rates.layers.values()) == pytest.approx(found[1 : 1 + len(rates.layers)])  # pixels enter the first one
    assert max(rates.layers.values()) > 0.02


def test_rates_at_another_width_are_borrowed(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", "vgg9")
    own = spec_of(read_record(folder))
    wide = dissect(type(own)(kind="vgg9", width=0.5, steps=4, frame=own.frame, classes=own.classes))
    borrowed = measure_rates(wide, folder, labelled(), 100, silent)
    assert borrowed.kind == "borrowed"
    assert borrowed.about.startswith(f"borrowed: measured on vgg9 of width {1 / 16:g}, T 2, on 7 test frames")
    assert borrowed.layers == measure_rates(dissect(own), folder, labelled(), 100, silent).layers


def test_frames_are_spread_over_those_of_known_classes(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", "vgg9")
    anatomy = dissect(spec_of(read_record(folder)))
    data = labelled(12, ("a", "x", "b", "c"))  # x is not known to the run: rows 1, 5, 9
    few = measure_rates(anatomy, folder, data, 3, silent)
    rows = [0, 6, 11]  # the first, the middle one and the last of 0 2 3 4 6 7 8 10 11
    chosen = Labelled("noise", "", data.frames[rows], data.labels[rows], data.names)
    assert few.layers == measure_rates(anatomy, folder, chosen, 3, silent).layers
    assert few.about.endswith("on 3 test frames of noise")
    assert measure_rates(anatomy, folder, chosen, 3, silent).about.endswith("on 3 recorded frames of noise")


def test_a_run_of_another_network_or_other_classes_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", "vgg9")
    resnet = dissect(spec_of(read_record(write_run(tmp_path / "other", "spiking-resnet18"))))
    with pytest.raises(UnfitRates) as caught:
        measure_rates(resnet, folder, labelled(), 3, silent)
    assert str(caught.value) == f"{folder} has trained vgg9, not spiking-resnet18; give a run of that network"
    with pytest.raises(SourceError, match=r"none of its classes \(x, y\) is one that the models know"):
        measure_rates(dissect(spec_of(read_record(folder))), folder, labelled(4, ("x", "y")), 3, silent)


def test_an_assumed_rate_holds_everywhere_and_says_so(tmp_path: Path) -> None:
    anatomy = dissect(spec_of(read_record(write_run(tmp_path / "run", "spiking-resnet18"))))
    rates = assume_rates(anatomy, 0.25)
    assert (rates.kind, rates.about) == ("assumed", "assumed: 0.25 everywhere")
    assert set(rates.layers.values()) == set(rates.cuts.values()) == {0.25}
    assert "head.0.conv" not in rates.layers  # pixels enter it
    assert "exit.5.linear" not in rates.layers  # and means of maps the classifier
