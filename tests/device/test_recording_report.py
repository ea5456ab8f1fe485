"""`ecc-device report`: one page with the recording's figures, whatever its texts hold."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ecc_device.frame import Frame
from ecc_device.recordings import Recording
from ecc_device.recordings.charts import Series, dots, histogram, lines, running_mean, strip
from ecc_device.recordings.report import render, write_report
from ecc_device.recordings.survey import MAX_EVENTS, survey
from ecc_device.recordings.timeline import Timeline
from ecc_model.errors import DeviceError
from support.models import TinyModels
from support.processes import run
from support.workers import World, answer, frames

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def recorded(models: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty frames: answered, late, with a broken link, with an event of a hostile text."""
    folder = tmp_path_factory.mktemp("recorded")
    world = World(models, folder)
    world.worker.script = lambda request: [] if request.id % 5 == 0 else [answer(request.id)]
    device = world.device(record=folder / "out.mcap")
    for frame in frames(20):
        deadline_s = 0.0 if frame.index % 5 == 4 else None  # what stays without an answer is not waited for
        device.runtime.classify(Frame(frame.index, frame.time_s, frame.pixels, "7"), deadline_s)
    world.worker.reply(answer(5), answer(10))
    world.settle(device)
    device.health.say("worker", HOSTILE)
    world.broker.stop()
    for frame in frames(30)[20:]:
        device.runtime.classify(Frame(frame.index, frame.time_s, frame.pixels, "7"))
    world.close()
    return folder / "out.mcap"


def pictures(page: str) -> list[ET.Element]:
    """Every plot, parsed."""
    return [ET.fromstring(text) for text in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def test_the_survey_counts_what_was_recorded(recorded: Path) -> None:
    found = survey(Recording(recorded))
    assert dict(found.reasons) == {"cloud answered": 16, "deadline": 4, "offline": 10}
    assert (found.late, found.labelled, found.right) == (2, 30, 16)
    assert list(found.uploaded) == 20 * [1.0] + 10 * [0.0]
    assert found.waiting[-1] == 12, "four late ones, less two, and ten that were never sent"
    assert found.at_s[-1] == pytest.approx(2.9)
    assert len(found.answers) == 16
    assert [up for _, up in found.link] == [True, False]
    assert [model.no for _, model in found.models] == [1]


def test_the_page_shows_the_figures_and_plots(recorded: Path) -> None:
    page = render(Recording(recorded), survey(Recording(recorded)))
    for text in ("<b>30</b><span>frames", "<b>66.7%</b><span>uploads (20)", "<b>2</b><span>late answers"):
        assert text in page
    assert "<b>53.3%</b><span>right, edge and cloud" in page
    titles = re.findall("<h2>(.*?)</h2>", page)
    assert titles == [
        "Uploads",
        "Score and threshold",
        "Entropy",
        "Decisions",
        "Buffer",
        "Link",
        "Answers",
        "Reasons",
        "Models",
        "Events",
    ]
    assert len(pictures(page)) == 7


def test_the_page_loads_and_runs_nothing(recorded: Path) -> None:
    page = render(Recording(recorded), survey(Recording(recorded)))
    assert HOSTILE not in page
    assert "&lt;script&gt;alert" in page
    assert not re.search(r"""<script|<link|<img|src=|href=|url\(|@import""", page)
    assert "default-src 'none'" in page


def test_nothing_is_drawn_outside_of_its_plot(recorded: Path) -> None:
    for picture in pictures(render(Recording(recorded), survey(Recording(recorded)))):
        width, height = map(float, picture.attrib["viewBox"].split()[2:])
        for path in picture.iter("path"):
            for x, y in re.findall(r"([\d.-]+),([\d.-]+)", path.attrib["d"]):
                assert -1 <= float(x) <= width + 1
                assert -1 <= float(y) <= height + 1


def test_a_recording_of_one_frame_has_a_report(models: TinyModels, tmp_path: Path) -> None:
    world = World(models, tmp_path)
    device = world.device(record=tmp_path / "out.mcap")
    device.runtime.classify(frames(1)[0])
    world.close()
    assert len(pictures(render(Recording(tmp_path / "out.mcap"), survey(Recording(tmp_path / "out.mcap"))))) == 7


def test_many_events_are_counted_not_listed(models: TinyModels, tmp_path: Path) -> None:
    world = World(models, tmp_path)
    device = world.device(record=tmp_path / "out.mcap")
    device.runtime.classify(frames(1)[0])
    for number in range(MAX_EVENTS + 6):
        device.health.say(f"cause-{number}", "x")
    world.close()
    found = survey(Recording(tmp_path / "out.mcap"))
    assert (len(found.events), found.more_events) == (MAX_EVENTS, 7)
    assert "<p>7 more.</p>" in render(Recording(tmp_path / "out.mcap"), found)


def test_the_timeline_cuts_gaps_and_jumps_short() -> None:
    timeline = Timeline()
    assert [timeline.at(time_s) for time_s in (1e9, 1e9 + 1, 5e9, 3.0, 4.0)] == [0.0, 1.0, 11.0, 11.0, 12.0]


def test_charts_of_hardly_anything_are_drawn() -> None:
    one = Series("a", [0.0], "edge")
    for text in (
        lines([0.0], [one], unit="%"),
        histogram([one, Series("b", [], "cloud")], mark=(0.5, "x")),
        dots([0.0], ["a"], [True], ["a"]),
        strip(0.0, [(0.0, True)]),
    ):
        assert len(pictures(text)) == 1


def test_a_histogram_puts_every_value_into_its_bar() -> None:
    picture = ET.fromstring(histogram([Series("a", [0.0, 0.01, 0.5, 1.0], "sure")], mark=(2.0, "beyond")))
    bars = [bar for bar in picture.iter("rect") if "bar" in bar.attrib["class"]]
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert len(bars) == 3
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)


def test_a_running_mean_looks_back() -> None:
    assert running_mean([1, 0, 0, 1, 1], 2) == [1.0, 0.5, 0.0, 0.5, 1.0]


def test_the_command_writes_beside_the_recording(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "out.mcap").write_bytes(recorded.read_bytes())
    done = run("ecc-device", "report", "out.mcap", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "out.html\n", "")
    assert (tmp_path / "out.html").read_text().startswith("<!doctype html>")
    with pytest.raises(DeviceError) as caught:
        write_report(Recording(recorded), tmp_path / "no" / "out.html")
    assert str(caught.value) == (
        f"{tmp_path}/no/out.html: the report cannot be written (No such file or directory); choose another file"
    )
