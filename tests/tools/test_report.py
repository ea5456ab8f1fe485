from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from ecc_model.errors import EccError
from ecc_tools.demo_data import Curve, DemoData, Example, LearnerRow, Stream
from ecc_tools.plots import running_mean
from ecc_tools.report import print_summary, print_table, summarize, write_report, write_summary
from ecc_tools.report_page import headline, picture
from ecc_tools.report_record import check, complete

FIRST, SECOND = 310, 290


def made_up_stream(name: str, frames: int, edge: float, cloud: float, rng: np.random.Generator) -> Stream:
    known = rng.random(frames) < 0.6
    edge_right = rng.random(frames) < np.where(known, 0.97, edge)
    uploaded = rng.random(frames) < np.where(edge_right, 0.1, 0.85)
    right = np.where(uploaded, rng.random(frames) < cloud, edge_right)
    return Stream(name, np.arange(frames) / 10.0, edge_right, right, uploaded, known)


def figures(stream: Stream) -> dict[str, Any]:
    return {
        "name": stream.name,
        "frames": len(stream.time_s),
        "edge_accuracy": float(stream.edge_right.mean()),
        "collab_accuracy": float(stream.right.mean()),
        "upload_rate": float(stream.uploaded.mean()),
        "old_accuracy": float(stream.edge_right[stream.known].mean()),
        "bytes_per_upload": 27.4,
        "latency_ms": {"p50": 1.4, "p95": 6.2, "p99": 11.0},
    }


def made_up(seed: int = 3) -> DemoData:
    """A whole run that looks like the demo's; its figures are drawn by `seed`."""
    rng = np.random.default_rng(seed)
    streams = [
        made_up_stream("first", FIRST, 0.0, 0.97, rng),
        made_up_stream("second", SECOND, 0.8, 0.97, rng),
    ]
    rise = np.linspace(0.0, 1.0, SECOND + 1)
    sent = int(streams[0].uploaded.sum() + streams[1].uploaded.sum())
    report = {
        "schema": 1,
        "seed": seed,
        "streams": [figures(stream) for stream in streams],
        "update": {"rows": 140, "seconds": 4.2, "accepted": True, "reason": "accepted: 2.1 points gained"},
        "worker": {"received": sent, "answered": sent},
        "device": {"sent": sent, "answered": sent},
        "versions": {"ecc-snn": "0.1.0", "python": "3.11.2", "torch": "2.13.0+cpu", "broker": "mosquitto 2.0.11"},
        "commands": [
            "ecc-broker start --port 0 --data runs/demo/broker",
            "ecc-cloud start --model runs/demo/cloud.pt --broker mqtt://127.0.0.1:41883",
            "ecc-device replay --model runs/demo/vgg9.pt --source runs/demo/second.npz",
        ],
        "machine": {"processor": "x86_64", "system": "Linux"},
        "seconds": {"setup": 81.2, "all": 140.0},
    }
    return DemoData(
        report=report,
        streams=streams,
        entropy_before=np.clip(rng.beta(0.35, 0.9, SECOND), 0, 1),
        entropy_after=np.clip(rng.beta(0.25, 1.6, SECOND), 0, 1),
        threshold_before=0.31,
        threshold_after=0.42,
        curve_before=Curve(0.6 + 0.37 * np.minimum(1.0, rise * 2.2), 122),
        curve_after=Curve(0.87 + 0.1 * np.minimum(1.0, rise * 4), 41),
        target_accuracy=0.94,
        learners=[
            LearnerRow("before the update", 60.3, 0.0, 42.1, 42.1, 94.0, 122),
            LearnerRow("lwf (ours)", 88.3, 1.1, 14.1, 30.3, 96.2, 51),
            LearnerRow("lwf as published", 83.1, 8.6, 19.7, 44.5, 94.8, 60),
        ],
        examples=[
            Example(rng.integers(0, 256, (16, 16, 1), np.uint8), str(6 + n % 4), (str(n % 6), 0.41), ("7", 0.983))
            for n in range(8)
        ],
        checks=[
            ("edge accuracy rises by at least 25 points", "28.0 points", True),
            ("uploads needed for equal accuracy fall by at least 40 %", "58 % (122 to 51)", True),
            ("collaborative accuracy at least the edge's in the first stream", "95.8 % against 60.3 %", True),
            ("the body of an upload is at most 32 bytes", "27.4 bytes", True),
        ],
    )


def changed(data: DemoData, **report: Any) -> DemoData:
    return dataclasses.replace(data, report={**data.report, **report})


def page_of(data: DemoData, folder: Path) -> str:
    write_report(data, folder)
    return (folder / "report.html").read_text(encoding="utf-8")


def terminal_of(data: DemoData, folder: Path) -> str:
    out = io.StringIO()
    print_table(data, Console(file=out, width=120), folder)
    return out.getvalue()


def summary_of(records: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    print_summary(records, Console(file=out, width=100))
    return out.getvalue()


def test_record_has_every_field_of_the_contract_in_its_order(tmp_path: Path) -> None:
    data = made_up()
    shuffled = dataclasses.replace(data, report=dict(reversed(data.report.items())))
    write_report(shuffled, tmp_path / "new" / "run")
    text = (tmp_path / "new" / "run" / "report.json").read_text(encoding="utf-8")
    record = json.loads(text)
    assert text.startswith('{\n  "schema": 1,\n  "seed": 3,\n  "streams": [')
    assert list(record) == [
        *("schema", "seed", "streams", "update", "worker", "device", "versions", "commands", "machine", "seconds"),
        *("raw_frame_bytes", "learners", "checks"),
    ]
    assert {key: record[key] for key in data.report} == data.report
    assert list(record["streams"][0]) == [
        *("name", "frames", "edge_accuracy", "collab_accuracy", "upload_rate", "old_accuracy"),
        *("bytes_per_upload", "latency_ms"),
    ]
    assert list(record["streams"][0]["latency_ms"]) == ["p50", "p95", "p99"]
    assert list(record["update"]) == ["rows", "seconds", "accepted", "reason"]
    assert record["raw_frame_bytes"] == 256
    assert record["learners"][1] == {
        "name": "lwf (ours)",
        "edge_accuracy": 88.3,
        "known_loss_points": 1.1,
        "upload_rate": 14.1,
        "upload_rate_not_recalibrated": 30.3,
        "collab_accuracy": 96.2,
        "uploads_needed": 51,
    }
    assert record["checks"][0] == {
        "promise": "edge accuracy rises by at least 25 points",
        "measured": "28.0 points",
        "kept": True,
    }


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"worker": {"received": 1}}, "missing required field `answered` - at `$.worker`"),
        ({"streams": []}, "no streams"),
        ({"seed": "one"}, "Expected `int`, got `str` - at `$.seed`"),
        ({"schema": 2}, "a report of schema 2, this version reads 1"),
    ],
)
def test_report_that_breaks_the_contract_is_refused_and_not_written(
    change: dict[str, Any], text: str, tmp_path: Path
) -> None:
    with pytest.raises(EccError) as caught:
        write_report(changed(made_up(), **change), tmp_path / "run")
    assert text in str(caught.value)
    assert str(caught.value).endswith("; make it again with: ecc-tools demo")
    assert not (tmp_path / "run").exists()


def test_percent_where_a_share_belongs_is_refused() -> None:
    report = made_up().report
    report["streams"][0]["edge_accuracy"] = 60.3
    with pytest.raises(EccError, match=r"Expected `float` <= 1\.0 - at .*edge_accuracy"):
        check(report)


def test_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = page_of(made_up(), tmp_path)
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert "<link" not in page
    assert "@import" not in page
    assert set(re.findall(r"""(?:src|href)=["'](.{5})""", page)) <= {"data:", *re.findall(r'href="(#.{4})', page)}
    assert page.count("<svg") == 5


def test_ids_of_the_plots_are_unique_and_resolve(tmp_path: Path) -> None:
    page = page_of(made_up(), tmp_path)
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", page)) | set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)


def test_plots_take_their_colours_from_the_page(tmp_path: Path) -> None:
    page = page_of(made_up(), tmp_path)
    plots = page[page.index("<svg") : page.rindex("</svg>")]
    assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", plots)) <= {
        *("none", "var(--ink)", "var(--muted)", "var(--grid)", "var(--before)", "var(--after)", "var(--edge)"),
        "var(--target)",
    }


def test_same_data_gives_the_same_page(tmp_path: Path) -> None:
    assert page_of(made_up(), tmp_path / "a") == page_of(made_up(), tmp_path / "b")


def test_all_text_is_escaped(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>\"'&"
    data = made_up()
    streams = [{**data.report["streams"][0], "name": hostile}, data.report["streams"][1]]
    update = {"rows": 1, "seconds": 1.0, "accepted": False, "reason": hostile}
    data = changed(data, streams=streams, update=update, versions={hostile: hostile}, commands=[hostile])
    data = dataclasses.replace(
        data,
        examples=[Example(np.zeros((4, 4, 3), np.uint8), hostile, (hostile, 0.5), (hostile, 0.9))],
        learners=[dataclasses.replace(row, name=hostile) for row in data.learners],
        checks=[(hostile, hostile, True)],
    )
    page = page_of(data, tmp_path)
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 14


def test_failed_check_is_shown_as_failed(tmp_path: Path) -> None:
    data = made_up()
    data.checks.append(("old classes lose at most 3 points", "4.4 points", False))
    page = page_of(data, tmp_path)
    assert "Not kept in this run: 1 of 5." in page
    row = page[page.index("old classes lose at most 3 points") :].split("</tr>")[0]
    assert '<span class="verdict bad">✗ not kept</span>' in row
    assert page.count("✓ kept</span>") == 4
    terminal = terminal_of(data, tmp_path)
    assert "✗ not kept: old classes lose at most 3 points: 4.4 points" in terminal
    assert terminal.count("✓ kept: ") == 4


def test_all_checks_kept_says_so(tmp_path: Path) -> None:
    assert "All 4 were kept in this run." in page_of(made_up(), tmp_path)


def test_empty_run_still_gives_a_report(tmp_path: Path) -> None:
    data = made_up()
    for stream in data.report["streams"]:
        stream["bytes_per_upload"] = None
    nothing = np.empty(0)
    no = np.empty(0, np.bool_)
    data = dataclasses.replace(
        data,
        streams=[Stream("first", nothing, no, no, no, no), made_up_stream("second", 1, 0, 0, np.random.default_rng(1))],
        entropy_before=nothing,
        entropy_after=nothing,
        curve_before=Curve(np.array([0.5]), 0),
        curve_after=Curve(np.array([0.5]), 0),
        learners=[],
        examples=[],
        checks=[],
    )
    page = page_of(data, tmp_path)
    assert "<h2>Frames that went up</h2><p>None in this run.</p>" in page
    assert "None were made in this run." in page
    assert page.count("<svg") == 4
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert record["learners"] == []
    assert summarize([record])["figures"]["uploads_saved"]["values"] == [None]
    assert record["raw_frame_bytes"] is None
    assert "bytes per upload" in terminal_of(data, tmp_path)


def test_accuracy_never_reached_is_said(tmp_path: Path) -> None:
    data = made_up()
    data.learners[1] = dataclasses.replace(data.learners[1], uploads_needed=None)
    page = page_of(data, tmp_path)
    assert "After the update no number of uploads reaches a collaborative accuracy of 94.0&nbsp;%." in page
    assert '<td class="number">not reached</td>' in page


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (51, "51 uploads are needed instead of 122 (58 % fewer)."),
        (183, "183 uploads are needed instead of 122 (50 % more)."),
    ],
)
def test_headline_says_whether_uploads_fell_or_rose(after: int, said: str) -> None:
    data = made_up()
    data.learners[1] = dataclasses.replace(data.learners[1], uploads_needed=after)
    assert headline(data, check(data.report)).endswith(said)


def test_headline_says_that_an_update_was_rejected() -> None:
    data = changed(
        made_up(), update={"rows": 12, "seconds": 3.0, "accepted": False, "reason": "loses 5 points on guard rows"}
    )
    assert headline(data, check(data.report)).startswith(
        "The update on 12 uploaded frames was rejected (loses 5 points on guard rows): the device keeps its model."
    )


def test_counts_stand_side_by_side_and_a_difference_is_said(tmp_path: Path) -> None:
    data = changed(made_up(), device={"sent": 203, "answered": 202}, worker={"received": 204, "answered": 204})
    page = page_of(data, tmp_path)
    assert '<td>requests</td><td class="number">203</td><td class="number">204</td>' in page
    assert '<td>answers</td><td class="number">202</td><td class="number">204</td>' in page
    assert "The counts differ." in page
    assert "The counts agree." in page_of(made_up(), tmp_path)


@pytest.mark.parametrize(
    ("shape", "mode"),
    [((6, 5), "L"), ((6, 5, 1), "L"), ((6, 5, 2), "RGB"), ((6, 5, 3), "RGB"), ((2, 6, 5, 1), "L")],
)
def test_picture_keeps_the_frame_in_its_own_size(shape: tuple[int, ...], mode: str) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    kind, _, data = picture(pixels).partition(",")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "data:image/png;base64"
    assert (image.mode, image.size) == (mode, (5, 6))
    first = pixels[0] if len(shape) == 4 else pixels
    assert np.asarray(image).reshape(6, 5, -1)[2, 3, 0] == first.reshape(6, 5, -1)[2, 3, 0]


def test_running_mean_covers_whole_windows_only() -> None:
    values = np.array([1, 1, 0, 0, 1], np.bool_)
    assert running_mean(values, 2).tolist() == [1.0, 0.5, 0.0, 0.5]
    assert running_mean(values, 25).tolist() == [pytest.approx(0.6)]
    assert running_mean(values[:0], 25).tolist() == []


def test_terminal_names_the_files_and_keeps_brackets(tmp_path: Path) -> None:
    data = made_up()
    data.checks.append(("labels such as [bold] stay", "[red]1[/red]", True))
    text = terminal_of(data, tmp_path)
    assert "collaborative accuracy" in text
    assert "1.4 / 6.2 ms" in text
    assert "labels such as [bold] stay: [red]1[/red]" in text
    assert text.splitlines()[-2:] == [str(tmp_path / "report.html"), str(tmp_path / "report.json")]


def records() -> list[dict[str, Any]]:
    made = [complete(made_up(seed)) for seed in (1, 2, 3)]
    for record, (edge, after, loss) in zip(made, [(0.80, 60, 1.0), (0.90, 40, -0.5), (0.85, 50, 4.0)], strict=True):
        record["streams"][0]["edge_accuracy"] = 0.5
        record["streams"][1]["edge_accuracy"] = edge
        record["learners"][0]["uploads_needed"] = 100
        record["learners"][1] |= {"uploads_needed": after, "known_loss_points": loss}
    return made


def test_summary_gives_mean_and_range(tmp_path: Path) -> None:
    write_summary(records(), tmp_path / "new")
    text = summary_of(records())
    assert re.search(r"edge accuracy gained +│ 35.0 points │ 30.0 to 40.0", text)
    summary = json.loads((tmp_path / "new" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["schema"], summary["seeds"], summary["not_kept"]) == (1, [1, 2, 3], [])
    assert summary["figures"]["edge_gain"] == {
        "unit": "points",
        "mean": pytest.approx(35.0),
        "min": pytest.approx(30.0),
        "max": pytest.approx(40.0),
        "values": [pytest.approx(30.0), pytest.approx(40.0), pytest.approx(35.0)],
    }
    saved, loss = summary["figures"]["uploads_saved"], summary["figures"]["old_loss"]
    assert (saved["mean"], saved["min"], saved["max"]) == pytest.approx((50.0, 40.0, 60.0))
    assert (loss["mean"], loss["min"], loss["max"]) == pytest.approx((1.5, -0.5, 4.0))
    assert summary["figures"]["old_loss_published"]["mean"] == pytest.approx(8.6)


def test_summary_does_not_average_away_a_seed_without_the_figure() -> None:
    made = records()
    made[1]["learners"][1]["uploads_needed"] = None
    figure = summarize(made)["figures"]["uploads_saved"]
    assert (figure["mean"], figure["min"], figure["max"]) == (None, None, None)
    assert figure["values"] == [pytest.approx(40.0), None, pytest.approx(50.0)]
    assert "none in 1 of 3" in summary_of(made)


def test_summary_names_the_checks_that_a_seed_did_not_keep() -> None:
    made = records()
    assert "✓ every check kept by every seed" in summary_of(made)
    made[2]["checks"][3]["kept"] = False
    assert summarize(made)["not_kept"] == [
        {"seed": 3, "promise": "the body of an upload is at most 32 bytes", "measured": "27.4 bytes"}
    ]
    last = summary_of(made).splitlines()[-1]
    assert last == "✗ seed 3, not kept: the body of an upload is at most 32 bytes: 27.4 bytes"


def test_summary_of_reports_without_checks_does_not_claim_that_they_were_kept() -> None:
    assert "kept" not in summary_of([made_up().report])


def test_summary_of_nothing_is_an_error() -> None:
    with pytest.raises(EccError, match=r"^no reports to summarize; run: ecc-tools demo$"):
        summarize([])


def test_document_names_every_field_of_the_contract() -> None:
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    named = " ".join(re.findall(r"`([^`]+)`", text))
    record = complete(made_up())
    keys = {*record, *record["streams"][0], *record["update"], *record["worker"], *record["device"]}
    keys |= {*record["learners"][0], *record["checks"][0], *summarize([record])}
    assert sorted(key for key in keys if not re.search(rf"\b{key}\b", named)) == []


def candidate(learner: str, reason: str, held: float, lost: float) -> dict[str, Any]:
    figures = {"held_agreement_after": held, "known_loss_points": lost, "ece_after": 0.05}
    return {"learner": learner, "reason": reason} | figures


def test_the_update_is_shown_with_its_candidates_and_its_shadow_run(tmp_path):
    decided = {
        "learner": "analytic",
        "candidates": [
            candidate("analytic", "held-out rows 5% -> 58%", 0.58, 1.1),
            candidate("lwf", "known classes lose 4.7 points", 0.79, 4.7),
        ],
        "skipped": {"both": "lwf: no torch"},
        "unsure": 62,
        "contradicted": 3,
        "judge_rows": 360,
        "held_rows": 19,
        "shadow_frames": 100,
        "shadow_clear": 37,
        "shadow_changed": 1,
        "shadow_new": 6,
    }
    data = made_up()
    page = page_of(changed(data, update={**data.report["update"], "figures": decided}), tmp_path)
    assert "<td>analytic</td><td>taken: held-out rows 5% -&gt; 58%</td>" in page
    assert "<td>lwf</td><td>known classes lose 4.7 points</td>" in page
    assert "<td>both</td><td>left out: lwf: no torch</td>" in page
    assert "62 wait because the cloud was unsure of them, 3 because it contradicts a clear answer" in page
    assert "Of 37 clear answers it changed 1 to another old class; it took 6 for new classes." in page
    assert "The update</h2>" not in page_of(data, tmp_path)
