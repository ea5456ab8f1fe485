"""`ecc-device` as a person, a service manager or a program meets it: real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ecc_broker.mqtt import MqttLink
from ecc_device.sources import save_npz
from ecc_model.modelfile import FORMAT
from support.brokers import BrokerProcess
from support.models import DIGITS, TinyModels
from support.processes import PATIENCE_S, Process, run
from support.workers import frames

ALONE = "offline: no broker given; working alone"
NO_TORCH = 'raise ImportError("torch was imported by a device")\n'


@pytest.fixture(scope="module")
def work(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models good and bad, and with sources good and bad."""
    folder = tmp_path_factory.mktemp("work")
    good = models.edge.read_bytes()
    (folder / "vgg9.pt").write_bytes(good)
    (folder / "cloud.pt").write_bytes(models.cloud.read_bytes())
    (folder / "cut.pt").write_bytes(good[: len(good) // 2])
    (folder / "flipped.pt").write_bytes(flip(good))
    torch.save({"weight": torch.zeros(2)}, folder / "plain.pt")
    newer(folder / "vgg9.pt", folder / "newer.pt")
    pixels = np.stack([frame.pixels for frame in frames(30)])
    save_npz(folder / "stream.npz", pixels, np.arange(30) % 10, DIGITS)
    save_npz(folder / "two.npz", np.zeros((3, 16, 16, 2), np.uint8))
    np.savez(folder / "floats.npz", frames=np.zeros((3, 16, 16), np.float32))
    np.savez(folder / "empty.npz", other=np.zeros(3))
    (folder / "notes.txt").write_text("no frames")
    (folder / "nothing").mkdir()
    (folder / "images").mkdir()
    for index in range(3):
        Image.fromarray(pixels[index, :, :, 0]).save(folder / "images" / f"{index}.png")
    return folder


def flip(data: bytes) -> bytes:
    """One bit of the program's record altered."""
    at = data.index(b"program.safetensors") + 2000
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def newer(source: Path, target: Path) -> None:
    """The same model file in a format that only a later version writes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith("manifest.json"):
                data = data.replace(b'"format":1', f'"format":{FORMAT + 1}'.encode(), 1)
            new.writestr(info.filename, data)


def device(work: Path, state: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return run("ecc-device", *arguments, cwd=work, ECC_STATE=str(state), **environment)


def replay(work: Path, state: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    arguments = ("--model", "vgg9.pt", "--state", state, *arguments)
    return device(work, state, "replay", "stream.npz", *arguments, **environment)


# ---- what goes well ----


def test_a_replay_alone_reports_as_json_and_writes_its_results(work: Path, tmp_path: Path) -> None:
    done = replay(work, tmp_path / "s", "--json", "--results", tmp_path / "results.jsonl")
    assert (done.returncode, done.stderr) == (0, f"{ALONE}\n")
    summary = json.loads(done.stdout)
    assert {name: summary[name] for name in ("frames", "uploads", "upload_rate", "model_no", "counts")} == {
        "frames": 30,
        "uploads": 0,
        "upload_rate": 0.0,
        "model_no": 1,
        "counts": {},
    }
    assert summary["edge_accuracy"] == summary["collab_accuracy"]
    records = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [record["frame"] for record in records] == list(range(30))
    assert sum(record["label"] == record["truth"] for record in records) == round(30 * summary["edge_accuracy"])


def test_a_replay_for_people_is_a_table(work: Path, tmp_path: Path) -> None:
    done = replay(work, tmp_path / "s")
    assert done.returncode == 0
    for text in ("edge accuracy", "upload rate", "0 of 0.0 bytes", "latency", "p50"):
        assert text in done.stdout


def test_two_processes_write_the_same_results(work: Path, tmp_path: Path) -> None:
    for name, seed in (("one", "1"), ("two", "2")):
        replay(work, tmp_path / name, "--results", tmp_path / f"{name}.jsonl", PYTHONHASHSEED=seed)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_a_device_never_imports_torch(work: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(NO_TORCH)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = replay(work, tmp_path / "s", "--json", PYTHONPATH=path)
    assert (done.returncode, done.stderr) == (0, f"{ALONE}\n")
    assert json.loads(done.stdout)["frames"] == 30


def test_a_folder_of_images_alone_runs_to_its_end(work: Path, tmp_path: Path) -> None:
    done = device(work, tmp_path / "s", "start", "--model", "vgg9.pt", "--source", "images", "--json")
    assert done.returncode == 0
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["frame"] for result in results] == [0, 1, 2]
    assert {result["why"] for result in results} == {"offline"}
    assert all(result["time_s"] > 1.6e9 for result in results), "live frames have the wall clock's stamps"
    assert done.stderr.splitlines() == [
        ALONE,
        f"device: images (3 frames of 16 x 16 x 3, 10 a second), model 1, state in {tmp_path / 's'}",
        "3 frames, 0 went up (0 bytes)",
    ]


def test_without_a_broker_at_its_address_it_works_alone_and_says_so_once(work: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"mqtt://127.0.0.1:{probe.getsockname()[1]}"
        done = device(work, tmp_path / "s", "start", "--model", "vgg9.pt", "--source", "stream.npz", "--broker", url)
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if line.startswith("offline")]
    assert len(said) == 1
    assert url in said[0]
    assert said[0].endswith("; working alone")
    assert "30 frames, 0 went up (0 bytes)" in done.stderr


# ---- commands beside a device ----


def test_commands_without_a_running_device(work: Path, tmp_path: Path) -> None:
    state = tmp_path / "s"
    replay(work, state)
    found = json.loads(device(work, state, "buffer", "--json").stdout)
    assert found["rows"] == {"learnt": 0, "waiting": 30, "labelled": 0}
    assert (found["state"], found["drops"], found["max_bytes"]) == (str(state), {}, 64 * 2**20)
    assert [(model["no"], model["state"], model["reason"]) for model in found["models"]] == [
        (1, "active", "factory model")
    ]
    status = json.loads(device(work, state, "status", "--json").stdout)
    assert status == {"running": False} | found
    assert re.search(r"rows waiting +30", device(work, state, "buffer").stdout)
    no_device = f"error: no device is running in {state}; start one with: ecc-device start --model vgg9.pt\n"
    told = device(work, state, "notify", "charging")
    assert (told.returncode, told.stdout, told.stderr) == (1, "", no_device)
    back = device(work, state, "rollback")
    assert (back.returncode, back.stderr) == (1, "error: there is no earlier model to go back to\n")


def test_commands_to_a_running_device(work: Path, tmp_path: Path) -> None:
    state = tmp_path / "s"
    arguments = ("replay", work / "stream.npz", "--model", work / "vgg9.pt", "--state", state, "--stay", "--json")
    with Process("ecc-device", *arguments) as running:
        running.line('"counts"')
        running.line("}")
        status = json.loads(device(work, state, "status", "--json").stdout)
        assert (status["running"], status["frames"], status["connected"]) == (True, 30, False)
        assert status["health"] == {"offline": "no broker given; working alone"}
        assert device(work, state, "notify", "undocked").stdout == "told device: undocked\n"
        assert json.loads(device(work, state, "notify", "online", "--json").stdout) == {"event": "online"}
        decision = device(work, state, "notify", "charging", "--wait", "--json")
        assert decision.returncode == 1
        assert json.loads(decision.stdout)["reason"] == "0 labelled rows to learn from; an update needs 20"
        for_people = device(work, state, "notify", "charging", "--wait")
        assert for_people.stdout.startswith("the model stays: 0 labelled rows to learn from; an update needs 20 (")
        back = device(work, state, "rollback")
        assert (back.returncode, back.stderr) == (1, "error: there is no earlier model to go back to\n")
        second = replay(work, state)
        text = f"error: {state}: in use by process {running.popen.pid}; stop that process, or choose another state"
        assert second.returncode == 1
        assert second.stderr.startswith(text)
        assert json.loads(device(work, state, "buffer", "--json").stdout)["rows"]["waiting"] == 30
        assert running.end() == 0
    assert running.errors == [ALONE]
    assert json.loads(device(work, state, "status", "--json").stdout)["running"] is False


def test_commands_to_a_running_device_that_does_not_learn(work: Path, tmp_path: Path) -> None:
    state = tmp_path / "s"
    arguments = ("replay", work / "stream.npz", "--model", work / "vgg9.pt", "--state", state, "--stay", "--json")
    why = "this device does not learn, its learner is 'none'; start it with another one"
    with Process("ecc-device", *arguments, "--learner", "none") as running:
        running.line('"counts"')
        told = device(work, state, "notify", "charging")
        assert (told.returncode, told.stdout, told.stderr) == (0, "told device: charging\n", f"{why}\n")
        waited = device(work, state, "notify", "charging", "--wait")
        assert (waited.returncode, waited.stdout, waited.stderr) == (1, "", f"error: {why}\n")


def test_without_ecc_state_each_device_has_a_folder_in_the_home(work: Path, tmp_path: Path) -> None:
    arguments = ("start", "--source", "images", "--model", "vgg9.pt", "--device", "robot-7")
    run("ecc-device", *arguments, cwd=work, ECC_STATE="", HOME=str(tmp_path))
    assert (tmp_path / ".local/state/ecc-snn/robot-7/store.sqlite").is_file()


def test_a_replay_leaves_the_robots_own_folder_alone(work: Path, tmp_path: Path) -> None:
    (tmp_path / "removed").mkdir()
    done = device(work, tmp_path / "own", *REPLAY, TMPDIR=str(tmp_path / "removed"))
    assert (done.returncode, done.stderr) == (0, f"{ALONE}\n")
    assert not (tmp_path / "own").exists()
    assert list((tmp_path / "removed").iterdir()) == []


# ---- signals ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_live_device_in_order(work: Path, tmp_path: Path, number: signal.Signals) -> None:
    slow = tmp_path / "slow.npz"
    save_npz(slow, np.zeros((3, 16, 16, 1), np.uint8), times=np.array([0.0, 0.1, 3600.0]))
    arguments = ("start", "--model", work / "vgg9.pt", "--source", slow, "--state", tmp_path / "s", "--json")
    with Process("ecc-device", *arguments) as running:
        running.line('"frame": 1')
        assert running.end(number) == 0
    assert running.errors[-1] == "2 frames, 0 went up (0 bytes)"
    assert not (tmp_path / "s" / "control.sock").exists()
    found = json.loads(device(work, tmp_path / "s", "buffer", "--json").stdout)
    assert found["rows"]["waiting"] == 2


def test_a_signal_ends_a_replay_that_waits_for_a_worker(work: Path, tmp_path: Path, mosquitto: BrokerProcess) -> None:
    arguments = ("replay", work / "stream.npz", "--model", work / "vgg9.pt", "--state", tmp_path / "s")
    listener = MqttLink(mosquitto.url, "listener")
    here = threading.Event()
    listener.subscribe("ecc/1/default/device/status", lambda _: here.set())
    listener.start()
    with Process("ecc-device", *arguments, "--broker", mosquitto.url, "--patience-s", "3600") as running:
        assert here.wait(PATIENCE_S)
        assert running.end() == 1
    listener.close()
    assert running.errors == ["error: stopped at frame 0; replay again from the start"]


def test_a_signal_ends_a_device_whose_camera_hangs(work: Path, tmp_path: Path) -> None:
    """A driver that never returns from the second read."""
    (tmp_path / "cv2.py").write_text(
        "import sys, threading\n"
        "import numpy as np\n"
        "CAP_PROP_FPS, COLOR_BGR2RGB = 5, 4\n"
        "class VideoCapture:\n"
        "    def __init__(self, number): self.reads = 0\n"
        "    def isOpened(self): return True\n"
        "    def get(self, what): return 30.0\n"
        "    def release(self): pass\n"
        "    def read(self):\n"
        "        self.reads += 1\n"
        "        if self.reads > 1: print('hangs', file=sys.stderr, flush=True) or threading.Event().wait()\n"
        "        return True, np.zeros((16, 16, 3), np.uint8)\n"
        "def cvtColor(image, how): return image\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    arguments = ("start", "--model", work / "vgg9.pt", "--state", tmp_path / "s", "--json")
    with Process("ecc-device", *arguments, PYTHONPATH=path) as running:
        assert json.loads(running.line())["frame"] == 0
        running.line("hangs", "stderr")
        assert running.end() == 0
    assert running.errors[-1] == "1 frames, 0 went up (0 bytes)"


# ---- mistakes ----

REPLAY = ["replay", "stream.npz", "--model", "vgg9.pt"]
START = ["start", "--source", "stream.npz", "--model", "vgg9.pt"]
MISTAKES: dict[str, tuple[list[str], str]] = {
    "missing model": (
        [*REPLAY[:3], "none.pt"],
        "none.pt: no such model file; check the path, or make one with: ecc-tools demo-train",
    ),
    "missing model, and no camera": (
        ["start", "--model", "none.pt"],
        "none.pt: no such model file; check the path, or make one with: ecc-tools demo-train",
    ),
    "truncated model": (
        [*REPLAY[:3], "cut.pt"],
        "cut.pt: not a usable model file (File is not a zip file); copy it ag",
    ),
    "altered model": ([*REPLAY[:3], "flipped.pt"], "flipped.pt: not a usable model file ("),
    "not a model": (
        [*REPLAY[:3], "notes.txt"],
        "notes.txt: not a usable model file (File is not a zip file); copy it ",
    ),
    "a folder": ([*REPLAY[:3], "images"], "images: not a usable model file ("),
    "newer model": (
        [*REPLAY[:3], "newer.pt"],
        f"newer.pt: model file of format {FORMAT + 1}, this version reads formats 1 to {FORMAT}; update ecc-snn or ",
    ),
    "the worker's model": (
        [*REPLAY[:3], "cloud.pt"],
        "cloud.pt: a model of kind 'cloud' where one of kind 'edge' is needed; give vgg9.pt to ecc-device and cloud.pt",
    ),
    "plain checkpoint": (
        [*REPLAY[:3], "plain.pt"],
        "plain.pt: a PyTorch checkpoint without an integer program; compile it with: ecc-tools compile plain.pt"
        " --data VALIDATION.npz --steps T --out vgg9.pt",
    ),
    "no such source": (
        ["replay", "none.npz", *REPLAY[2:]],
        "none.npz: no such file or folder; a source is a folder of images or events, a video, ",
    ),
    "unknown source": (
        ["replay", "notes.txt", *REPLAY[2:]],
        "notes.txt: not a known kind of source; a source is a fol",
    ),
    "folder without images": (
        ["replay", "nothing", *REPLAY[2:]],
        "nothing: holds no images; put .png, .jpg, .jpeg, .bm",
    ),
    "source of floats": (
        ["replay", "floats.npz", *REPLAY[2:]],
        "floats.npz: 'frames' must be uint8, it is float32; convert it to 0-255 and save it again",
    ),
    "source without frames": (
        ["replay", "empty.npz", *REPLAY[2:]],
        "empty.npz: has no array 'frames' (it holds: other)",
    ),
    "wrong shape, replay": (
        ["replay", "two.npz", *REPLAY[2:]],
        "two.npz: frame 0: this network takes 1 channels, the frame has 2",
    ),
    "wrong shape, start": (
        ["start", "--source", "two.npz", *START[3:]],
        "two.npz: frame 0: this network takes 1 channels, the frame has 2",
    ),
    "camera replayed": (
        ["replay", "camera:x", *REPLAY[2:]],
        "camera:x: 'x' is not a camera number; a source is a folder",
    ),
    "unknown filter": (
        [*REPLAY, "--filter", "guess"],
        "'guess' is not a filter; choose one of: entropy, energy, margin, max-prob, novelty, entropy+novelty, random, "
        "cloud-only, edge-only",
    ),
    "unknown learner": ([*REPLAY, "--learner", "guess"], "there is no learner 'guess'; choose one of: "),
    "unknown send": ([*REPLAY, "--send", "smoke"], "nothing is sent as 'smoke'; choose one of: features, frames"),
    "unknown event": (
        ["notify", "lunch"],
        "'lunch' is not an event; a device knows: charging, undocked, offline, online",
    ),
    "bad broker address": (
        [*START, "--broker", "localhost:1883"],
        "broker address 'localhost:1883' cannot be used; write it as mqtt://host:port or mqtts://host:port",
    ),
    "another machine": (
        [*START, "--broker", "mqtt://192.0.2.1"],
        "mqtt://192.0.2.1:1883 is another machine and mqtt:// is not encrypted; use mqtts://, or allow it with --ins",
    ),
    "bad device name": (
        [*START, "--device", "Robot 1"],
        "device name 'Robot 1' cannot be used; take 1 to 16 characters ",
    ),
    "no such folder": (["status", "--state", "none"], "none: no device has run here; name its folder with --state"),
    "state is a file": (
        [*REPLAY, "--state", "notes.txt"],
        "notes.txt: a file, where the state folder should be; choose ",
    ),
    "results to a dash": (
        [*REPLAY, "--results", "-"],
        "-: results are written to a file; name one, /dev/stdout for example",
    ),
    "certificates for nobody": (
        [*START, "--ca", "none.crt"],
        "certificates are given and no broker; give a broker, or leave them out",
    ),
    "results to nowhere": (
        [*REPLAY, "--results", "none/r.jsonl"],
        "none/r.jsonl: results cannot be written (No such file or directory); choose another file",
    ),
}


WRONG_USAGE = (
    ["start"],
    ["replay"],
    [*REPLAY, "--patience-s", "-1"],
    ["notify"],
    ["fly"],
    [*REPLAY, "--stay"],
    [*START, "--deadline-ms", "x"],
    [*START, "--threads", "0"],
)
HELP = tuple([name, "--help"] for name in ("start", "replay", "status", "buffer", "notify", "rollback"))
Ended = Callable[[list[str]], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def ended(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ended]:
    """How each of the short commands below ended; they run beside each other, each on a folder of its own."""
    folder = tmp_path_factory.mktemp("states")
    commands = [*(arguments for arguments, _ in MISTAKES.values()), *WRONG_USAGE, *HELP]
    with ThreadPoolExecutor(4) as pool:
        started = {
            tuple(arguments): pool.submit(device, work, folder / str(number), *arguments)
            for number, arguments in enumerate(commands)
        }
        yield lambda arguments: started[tuple(arguments)].result(PATIENCE_S)


@pytest.mark.parametrize(("arguments", "text"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_1(ended: Ended, arguments: list[str], text: str) -> None:
    done = ended(arguments)
    assert (done.returncode, done.stdout) == (1, "")
    *before, last = done.stderr.splitlines()
    assert last.startswith(f"error: {text}")
    assert [
        line for line in before if line != ALONE and not line.startswith("device: two.npz (3 frames of 16 x 16 x 2, ")
    ] == []


def test_a_source_that_is_not_there_starts_no_device(work: Path, tmp_path: Path) -> None:
    done = device(
        work, tmp_path / "s", "start", "--source", "none.npz", "--model", "vgg9.pt", "--record", tmp_path / "r.mcap"
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: none.npz: no such file or folder; a source is ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", WRONG_USAGE, ids=" ".join)
def test_wrong_usage_is_exit_code_2(ended: Ended, arguments: list[str]) -> None:
    done = ended(arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_every_command_has_an_example(ended: Ended, arguments: list[str]) -> None:
    done = ended(arguments)
    assert done.returncode == 0
    assert f"Example: ecc-device {arguments[0]}" in done.stdout


def test_debug_shows_the_traceback(work: Path, tmp_path: Path) -> None:
    done = device(work, tmp_path / "s", "replay", "stream.npz", "--model", "none.pt", "--debug")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "ModelNotFound: none.pt: no such model file" in done.stderr
