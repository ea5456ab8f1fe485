"""Which model answers: factory files that come and go, what was learnt from each, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ecc_device.clock import VirtualClock
from ecc_device.device import Device, DeviceConfig
from ecc_device.models import add_model, install, open_active, rollback
from ecc_device.replay import Replay
from ecc_device.sources import save_npz
from ecc_device.store import Store
from ecc_model.errors import DeviceError
from ecc_model.modelfile import read_edge
from ecc_snn import Edge
from support.models import write_tiny_models
from support.workers import frames, logits


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two factory files, one of other features and one of the same, and what was learnt from the first."""
    folder = tmp_path_factory.mktemp("files")
    made = {"first": {}, "learnt": {"threshold": 0.25}, "other": {"seed": 5}, "same features": {"threshold": 0.75}}
    found = {}
    for name, how in made.items():
        (folder / name).mkdir()
        found[name] = write_tiny_models(folder / name, **how).edge
    return found


@pytest.fixture
def store(tmp_path: Path, files: dict[str, Path]) -> Iterator[Store]:
    """A robot that has learnt once: model 2 from the factory's model 1, and a row that it learnt."""
    with Store.open(tmp_path) as opened:
        open_active(files["first"], opened, tmp_path, 0.0)
        features = bytes.fromhex(read_edge(files["first"]).program.features_id)
        row = opened.add(0.0, features, b"spikes", "0")
        opened.answer(row, logits(7), b"abcd", 1.0)
        no = add_model(opened, tmp_path, read_edge(files["learnt"]), 1, {"reason": "learnt"}, 0.0)
        opened.begin_trial(no)
        opened.confirm(no, [row])
        yield opened


def states(store: Store) -> list[str]:
    return [version.state for version in store.versions()]


@pytest.mark.parametrize("between", ["other", "same features"])
def test_what_was_learnt_answers_again_with_its_own_factory_file(
    store: Store, tmp_path: Path, files: dict[str, Path], between: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        caplog.clear()
        assert open_active(files[between], store, tmp_path, 0.0)[1] == 3
        assert caplog.messages == [
            f"{files[between]}: another factory model; model 3 answers now, model 2 again with the --model it came from"
        ]
        assert open_active(files[between], store, tmp_path, 0.0)[1] == 3
        assert len(caplog.messages) == 1, "said once"
        assert states(store) == ["previous", "previous", "active"]
        model, no = open_active(files["first"], store, tmp_path, 0.0)
        assert (no, model.sha256) == (2, read_edge(files["learnt"]).sha256)
        assert caplog.messages[1:] == [
            f"{files['first']}: another factory model; model 2 answers now, model 3 again with the --model it came from"
        ]
        assert states(store) == ["previous", "active", "previous"]
    assert store.summary().rows == {"waiting": 0, "labelled": 0, "learnt": 1}


def test_a_first_start_says_nothing_of_another_factory(
    tmp_path: Path, files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with Store.open(tmp_path) as store:
        assert open_active(files["first"], store, tmp_path, 0.0)[1] == 1
        assert open_active(files["first"], store, tmp_path, 0.0)[1] == 1
    assert caplog.messages == []


def test_rollback_goes_back_within_a_factory_only(store: Store, tmp_path: Path, files: dict[str, Path]) -> None:
    for name in ("other", "same features"):
        no = open_active(files[name], store, tmp_path, 0.0)[1]
        before = states(store)
        with pytest.raises(
            DeviceError, match=r"^model \d came from another factory file; start the device with that --model$"
        ):
            rollback(store, tmp_path)
        assert states(store) == before
        assert store.active_version().no == no
    open_active(files["first"], store, tmp_path, 0.0)
    assert rollback(store, tmp_path)[1] == 1, "not the newest of the others"
    assert states(store) == ["active", "rolled-back", "previous", "previous"]
    with pytest.raises(DeviceError, match=r"^model 4 came from another factory file"):
        rollback(store, tmp_path)
    open_active(files["other"], store, tmp_path, 0.0)
    assert open_active(files["first"], store, tmp_path, 0.0)[1] == 1, "what was rolled back stays so"


def test_a_robot_that_lost_its_learnt_model_this_way_rolls_back_to_it(
    store: Store, tmp_path: Path, files: dict[str, Path]
) -> None:
    """As earlier releases left it: each return to the first factory file made a fresh version of it."""
    for no, name in ((3, "other"), (4, "first")):
        assert install(store, tmp_path, read_edge(files[name]), None, {"reason": "factory model"}, 0.0) == no
    assert open_active(files["first"], store, tmp_path, 0.0)[1] == 4
    assert rollback(store, tmp_path)[1] == 2


def test_a_candidate_is_no_confirmed_model_and_its_rows_may_be_learnt_again(
    store: Store, tmp_path: Path, files: dict[str, Path]
) -> None:
    figures = {"accepted": True, "reason": "better", "last_row": 1, "row_ids": [1]}
    add_model(store, tmp_path, read_edge(files["same features"]), 2, figures, 0.0)
    open_active(files["other"], store, tmp_path, 0.0)
    assert states(store) == ["previous", "previous", "rejected", "active"]
    assert store.versions()[2].figures == {
        "accepted": True,
        "reason": "the device was started with another factory model during its shadow run",
    }
    assert open_active(files["first"], store, tmp_path, 0.0)[1] == 2


def test_every_way_in_keeps_what_was_learnt(
    store: Store, tmp_path: Path, files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    store.close()
    pixels = np.stack([frame.pixels for frame in frames(2)])
    save_npz(tmp_path / "two.npz", pixels)

    with Replay(tmp_path / "two.npz", model=files["other"], state=tmp_path) as replay:
        assert [result.model_no for result in replay] == [3, 3]
    with Edge(files["first"], state=tmp_path) as edge:
        assert edge.classify(pixels[0]).model_no == 2
    with Device(DeviceConfig(model=files["same features"], state=tmp_path), clock=VirtualClock()) as device:
        assert device.runtime.model_no == 4
    with Edge(files["first"], state=tmp_path) as edge:
        assert edge.classify(pixels[0]).model_no == 2
    assert len([text for text in caplog.messages if "another factory model" in text]) == 4
