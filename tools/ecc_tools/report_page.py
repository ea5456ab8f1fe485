"""report.html: one self-contained page, light or dark, wide or on a phone."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

from ecc_model.frames import Pixels
from ecc_model.optional import require
from ecc_tools import plots
from ecc_tools.demo_data import DemoData, Example, LearnerRow
from ecc_tools.report_record import (
    Report,
    check,
    fewer,
    percent,
    raw_frame_bytes,
    stream_rows,
    stream_title,
    uploads_needed,
    verdict,
)

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f5f6f8; --ink: #1c2330; --muted: #667080; --grid: #dfe3e8;
  --before: #8a94a3; --after: #1f6fd0; --edge: #d9730d; --target: #c0265a; --good: #17753b; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181f; --card: #1d232d; --ink: #e6eaf0; --muted: #98a2b3; --grid: #333c49; --before: #8d98a8;
    --after: #63a4ff; --edge: #f59a45; --target: #ff6f9c; --good: #5fce8a; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 64rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.headline { font-size: 1.1rem; } .note, figcaption { color: var(--muted); font-size: .875rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9375rem; }
th, td { text-align: left; padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--grid); vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; } td.number { white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; } .verdict { white-space: nowrap; }
.plots { display: grid; gap: 1.25rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); }
figure { margin: 0; } figure svg { display: block; width: 100%; height: auto; }
.examples { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(8.5rem, 1fr)); }
.example { background: var(--card); border-radius: .5rem; padding: .6rem; font-size: .875rem; }
.example img { display: block; width: 100%; image-rendering: pixelated; border-radius: .25rem; margin-bottom: .4rem; }
.example span { display: block; overflow-wrap: anywhere; }
pre { background: var(--card); border-radius: .5rem; padding: .75rem; overflow-x: auto; font-size: .8125rem; }
"""
# Whatever a label or a message may hold, the page itself loads and runs nothing.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_LEARNER_COLUMNS = (
    "learner",
    "edge accuracy",
    "lost on old classes",
    "upload rate",
    "the same without recalibration",
    "collaborative accuracy",
    "uploads needed",
)


def render(data: DemoData) -> str:
    """The whole page as text."""
    report = check(data.report)
    sections = [
        f'<h1>Edge and cloud: one run of the demo</h1><p class="headline">{_text(headline(data, report))}</p>',
        _checks(data.checks),
        _streams(report),
        _plots(data, report),
        _examples(data.examples),
        _update(report),
        _learners(data.learners),
        _counts(data, report),
        _provenance(report),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>ecc-snn: report of seed {report.seed}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(sections)
        + "\n</body></html>\n"
    )


def headline(data: DemoData, report: Report) -> str:
    """The main figures in a sentence or two, as they are: a rejected update or a loss is said, too."""
    first, last = report.streams[0], report.streams[-1]
    update = report.update
    if not update.accepted:
        what = (
            f"The update on {update.rows} uploaded frames was rejected ({update.reason}): the device keeps its model."
        )
    else:
        what = f"The device learnt from {update.rows} uploaded frames in {update.seconds:.1f} s."
    gain = 100 * (last.edge_accuracy - first.edge_accuracy)
    edge = (
        f"Edge accuracy went from {percent(first.edge_accuracy)} on the first stream to {percent(last.edge_accuracy)} "
        f"on the second ({gain:+.1f} points), the upload rate from {percent(first.upload_rate)} to "
        f"{percent(last.upload_rate)}."
    )
    before, after = uploads_needed(data)
    target = f"a collaborative accuracy of {percent(data.target_accuracy)}"
    saved = fewer(before, after)
    if saved is not None:
        change = f"{100 * abs(saved):.0f} % {'fewer' if saved >= 0 else 'more'}"
        needed = f"For {target}, {after} uploads are needed instead of {before} ({change})."
    elif after is not None:
        needed = f"For {target}, {after} uploads are needed."
    else:
        needed = f"After the update no number of uploads reaches {target}."
    return f"{what} {edge} {needed}"


def _text(text: str) -> str:
    """Text as HTML; a number stays on one line with its percent sign."""
    return re.sub(r"(?<=\d) (?=%)", "&nbsp;", escape(text))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Cells are HTML already; all but the `left` first columns are numbers."""
    kinds = ["" if column < left else ' class="number"' for column in range(len(head))]
    top = "".join(f"<th{kind}>{_text(name)}</th>" for kind, name in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _checks(checks: Sequence[tuple[str, str, bool]]) -> str:
    if not checks:
        return "<h2>Checks</h2><p>None were made in this run.</p>"
    missed = sum(not kept for _, _, kept in checks)
    total = (
        f"Not kept in this run: {missed} of {len(checks)}." if missed else f"All {len(checks)} were kept in this run."
    )
    rows = [
        (
            _text(promise),
            _text(measured),
            f'<span class="verdict {"good" if kept else "bad"}">{"✓" if kept else "✗"} {verdict(kept)}</span>',
        )
        for promise, measured, kept in checks
    ]
    return f"<h2>What was promised</h2><p>{total}</p>" + _table(("promise", "measured", "result"), rows, left=3)


def _streams(report: Report) -> str:
    head = ("", *(stream_title(stream.name) for stream in report.streams))
    rows = [(_text(name), *map(_text, cells)) for name, cells in stream_rows(report)]
    note = (
        "The two streams are different frames, unseen at Setup. Edge: the edge's own answer to every frame; "
        "collaborative: the answer that stands. Old classes are those that the edge was trained on at Setup."
    )
    return f'<h2>The two streams</h2>{_table(head, rows, left=2)}<p class="note">{note}</p>'


def _plots(data: DemoData, report: Report) -> str:
    sizes = [
        (f"upload, {stream.name} stream", stream.bytes_per_upload)
        for stream in report.streams
        if stream.bytes_per_upload is not None
    ]
    raw = raw_frame_bytes(data)
    forms = sizes if raw is None else [*sizes, ("raw frame", float(raw))]
    drawn = [
        (plots.accuracy_over_time(data.streams), f"Running mean over {plots.WINDOW} frames; dashed: the update."),
        (plots.uploads_over_time(data.streams), f"Frames that went up, running mean over {plots.WINDOW} frames."),
        (
            plots.entropy_histogram(
                data.entropy_before, data.entropy_after, (data.threshold_before, data.threshold_after)
            ),
            "The second stream with the old and the new model; frames right of a dashed line go up. Counts above "
            "10 are on a logarithmic scale.",
        ),
        (
            plots.upload_curves(
                data.curve_before,
                data.curve_after,
                data.target_accuracy,
                uploads_needed(data),
                ("before the update", "after it"),
            ),
            "The second stream. Dots: where the threshold puts each model; dotted: uploads needed for the target, "
            "which is the old model's collaborative accuracy at its threshold.",
        ),
    ]
    if forms:
        drawn.append((plots.bytes_bars(forms), "Mean body of an upload (packed spikes) against the frame's pixels."))
    figures = "".join(f"<figure>{svg}<figcaption>{_text(text)}</figcaption></figure>" for svg, text in drawn)
    return f'<h2>Over time, and before and after</h2><div class="plots">{figures}</div>'


def _examples(examples: Sequence[Example]) -> str:
    title = "<h2>Frames that went up</h2>"
    if not examples:
        return f"{title}<p>None in this run.</p>"
    return f'{title}<div class="examples">{"".join(map(_example, examples))}</div>'


def _example(example: Example) -> str:
    answers = "".join(
        f'<span class="{"good" if label == example.truth else "bad"}">{who}: {_text(label)} '
        f"({100 * probability:.0f} %) {'✓' if label == example.truth else '✗'}</span>"
        for who, (label, probability) in (("edge", example.edge), ("cloud", example.cloud))
    )
    truth = _text(example.truth)
    return (
        f'<div class="example"><img alt="a frame of {truth}" src="{picture(example.pixels)}">'
        f"<span>true: {truth}</span>{answers}</div>"
    )


def picture(pixels: Pixels) -> str:
    """A frame (H, W), (H, W, C) or (T, H, W, C) as a data URI, PNG in its own size; of T steps the first is shown.

    Two channels (event polarities) become red and blue.
    """
    frame = pixels[0] if pixels.ndim == 4 else pixels
    if frame.ndim == 3 and frame.shape[2] == 1:
        frame = frame[..., 0]
    elif frame.ndim == 3 and frame.shape[2] == 2:
        frame = np.stack([frame[..., 0], np.zeros_like(frame[..., 0]), frame[..., 1]], axis=2)
    out = io.BytesIO()
    require("PIL.Image", "the demo's report").fromarray(np.ascontiguousarray(frame)).save(out, "PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def _update(report: Report) -> str:
    """The candidates, what the gate said of each, and how the shadow run ended."""
    figures = report.update.figures
    if not figures.candidates and not figures.skipped:
        return ""
    rows = [
        (
            _text(one.learner),
            _text(("taken: " if one.learner == figures.learner and report.update.accepted else "") + one.reason),
            _text(percent(one.held_agreement_after)),
            f"{one.known_loss_points:.1f} points",
            f"{one.ece_after:.3f}",
        )
        for one in figures.candidates
    ]
    rows += [(_text(learner), _text(f"left out: {why}"), "–", "–", "–") for learner, why in figures.skipped.items()]
    head = ("candidate", "the gate", "held-out rows as the cloud says", "lost on old classes", "calibration error")
    notes = [
        f"Learnt from {report.update.rows} rows; {figures.unsure} wait because the cloud was unsure of them, "
        f"{figures.contradicted} because it contradicts a clear answer of the edge. "
        f"Judged by {figures.judge_rows} rows of old classes and {figures.held_rows} held-out ones."
    ]
    if figures.shadow_frames is not None:
        notes.append(
            f"Shadow run: {figures.shadow_frames} frames, answered silently beside the old model. Of "
            f"{figures.shadow_clear} clear answers it changed {figures.shadow_changed} to another old class; "
            f"it took {figures.shadow_new} for new classes."
        )
    return f"<h2>The update</h2>{_table(head, rows, left=2)}" + "".join(
        f'<p class="note">{_text(note)}</p>' for note in notes
    )


def _learners(learners: Sequence[LearnerRow]) -> str:
    rows = [
        (
            _text(row.name),
            f"{row.edge_accuracy:.1f} %",
            f"{row.known_loss_points:.1f} points",
            f"{row.upload_rate:.1f} %",
            f"{row.upload_rate_not_recalibrated:.1f} %",
            f"{row.collab_accuracy:.1f} %",
            "not reached" if row.uploads_needed is None else str(row.uploads_needed),
        )
        for row in learners
    ]
    note = (
        "Learners on the same uploaded frames, judged on the second stream. Recalibration fits temperature and "
        "threshold again after the update; without it they stay as they were. Uploads needed: for the collaborative "
        "accuracy that the old model has at its threshold."
    )
    return f'<h2>Learners</h2>{_table(_LEARNER_COLUMNS, rows)}<p class="note">{note}</p>'


def _counts(data: DemoData, report: Report) -> str:
    device, worker = report.device, report.worker
    sent = int(sum(stream.uploaded.sum() for stream in data.streams)) if device is None else device.sent
    rows = [("requests", str(sent), str(worker.received))]
    rows.append(("answers", "not counted" if device is None else str(device.answered), str(worker.answered)))
    same = "The counts agree." if sent == worker.received else "The counts differ."
    table = _table(("", "device", "worker"), rows)
    return f'<h2>What crossed the link</h2>{table}<p class="note">{same}</p>'


def _provenance(report: Report) -> str:
    versions = [(_text(name), _text(version)) for name, version in (report.versions | report.machine).items()]
    times = "".join(f"; {_text(name)} {seconds:.0f} s" for name, seconds in report.seconds.items())
    commands = escape("\n".join(report.commands))
    return f"<h2>How to get these figures again</h2><p>Seed {report.seed}{times}.</p><pre>{commands}</pre>" + _table(
        ("what", "which"), versions, left=2
    )
