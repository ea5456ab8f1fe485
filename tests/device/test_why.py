"""`ecc-device why`: from a recording, from a running device, from what a device left behind."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ecc_device import control
from ecc_device.explain import Explanation
from ecc_device.recent import KEPT, RecentDecisions, read_facts
from ecc_device.recordings import Recording
from ecc_device.recordings.recording import explained
from ecc_model.errors import DeviceError
from support.models import TinyModels
from support.processes import run
from support.workers import World, answer, frames, silent


def test_a_running_device_says_why(world: World) -> None:
    device = world.device()
    results = [device.runtime.classify(frame) for frame in frames(3)]
    found = control.ask(world.folder / "state", "why", frame=1)
    assert found == json.loads(json.dumps(results[1].explain().facts))
    assert str(Explanation(found)) == str(results[1].explain())
    for frame in (9, None, [1]):
        with pytest.raises(DeviceError) as caught:
            control.ask(world.folder / "state", "why", frame=frame)
        assert str(caught.value) == (
            f"frame {frame}: frames 0 to 2 are known; for others name a recording with --recording out.mcap"
        )


def test_a_late_answer_changes_what_a_device_says(world: World) -> None:
    world.worker.script = silent
    device = world.device(deadline_s=0.0)
    result = device.runtime.classify(frames(1)[0])
    assert control.ask(world.folder / "state", "why", frame=0)["why"] == "deadline"
    world.worker.reply(answer(result.row or 0))
    world.settle(device)
    assert control.ask(world.folder / "state", "why", frame=0)["why"] == "cloud answered"


def test_a_device_that_ended_has_left_its_decisions(world: World, tmp_path: Path) -> None:
    device = world.device()
    result = device.runtime.classify(frames(2)[1])
    device.close()
    assert read_facts(world.folder / "state", 1) == json.loads(json.dumps(result.explain().facts))
    done = run("ecc-device", "why", "1", "--state", world.folder / "state", cwd=tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{result.explain()}\n")
    done = run("ecc-device", "why", "5", "--state", world.folder / "state", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: frame 5: frames 1 to 1 are known; for others name a recording with --recording out.mcap\n"
    )


def test_only_the_newest_decisions_are_kept(world: World, tmp_path: Path) -> None:
    device = world.device()
    frame = frames(1)[0]
    result = device.runtime.classify(frame)
    recent = RecentDecisions()
    for index in range(KEPT + 5):
        recent.add(frame, None, dataclasses.replace(result, frame=index))  # type: ignore[arg-type]
    recent.write(tmp_path)
    assert len((tmp_path / "decisions.jsonl").read_text().splitlines()) == KEPT
    assert read_facts(tmp_path, 5)["frame"] == 5
    with pytest.raises(DeviceError, match=rf"^frame 4: frames 5 to {KEPT + 4} are known; "):
        read_facts(tmp_path, 4)


@pytest.mark.parametrize("text", ["[1]", "{}", "no json"])
def test_decisions_that_cannot_be_read_are_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "decisions.jsonl").write_text(text)
    with pytest.raises(DeviceError) as caught:
        read_facts(tmp_path, 1)
    assert str(caught.value) == (
        f"{tmp_path}/decisions.jsonl: cannot be read; name a recording with --recording out.mcap"
    )


def test_a_folder_without_decisions_says_so(tmp_path: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        read_facts(tmp_path, 1)
    assert str(caught.value) == f"{tmp_path}: holds no decisions; name a recording with --recording out.mcap"


def test_a_recording_says_why(models: TinyModels, tmp_path: Path) -> None:
    world = World(models, tmp_path)
    world.worker.script = silent
    device = world.device(record=tmp_path / "out.mcap", deadline_s=0.0)
    results = [device.runtime.classify(frame) for frame in frames(2)]
    corrected: list[object] = []
    device.runtime.on_result(corrected.append)
    world.worker.reply(answer(results[0].row or 0))
    world.settle(device)
    world.close()
    recording = Recording(tmp_path / "out.mcap")
    assert str(Explanation(explained(recording, 1))) == str(results[1].explain())
    assert explained(recording, 0)["why"] == "cloud answered", "as it was corrected"
    done = run("ecc-device", "why", "0", "--recording", tmp_path / "out.mcap", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{corrected[0].explain()}\n"  # type: ignore[attr-defined]
    done = run("ecc-device", "why", "0", "--recording", tmp_path / "out.mcap", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["cloud"]["label"] == "7"
    with pytest.raises(DeviceError) as caught:
        explained(recording, 7)
    assert str(caught.value) == f"{tmp_path}/out.mcap: has no frame 7; it holds 2 frames"
