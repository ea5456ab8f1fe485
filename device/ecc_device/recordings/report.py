"""`ecc-device report`: one recording as one HTML page that loads nothing from anywhere."""

from __future__ import annotations

import html
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from ecc_device.recordings.charts import Series, dots, histogram, lines, running_mean, strip
from ecc_device.recordings.recording import Recording
from ecc_device.recordings.survey import Survey, survey
from ecc_device.results import WHY
from ecc_model.errors import DeviceError

MAX_LABELS = 24  # rows of the plot of decisions; the rarest are left out, and counted
WINDOW = 25  # frames in a running mean
EPOCH_S = 1e9  # stamps above are seconds since 1970, others since the start of a replay

_STYLE = """
:root { --ink: #1f2430; --muted: #69707f; --grid: #e6e8ee; --paper: #ffffff; --tile: #f5f6f9;
  --edge: #d9730d; --cloud: #1f6fd1; --sure: #8fa3bf; --unsure: #d9730d; --good: #2f9e62; --bad: #c2334d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaf0; --muted: #9aa2b1; --grid: #2b303b; --paper: #14171d;
  --tile: #1d212a; --edge: #f0964a; --cloud: #5aa2f5; --sure: #5f7391; --unsure: #f0964a; --good: #4fc286;
  --bad: #ef6f86; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 780px; padding: 28px 20px 60px; color: var(--ink); background: var(--paper);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 22px; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 16px; margin: 34px 0 2px; }
p { margin: 2px 0 8px; color: var(--muted); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)); gap: 10px; margin: 20px 0; }
.tiles div { background: var(--tile); border-radius: 8px; padding: 10px 12px; }
.tiles b { display: block; font-size: 20px; } .tiles span { color: var(--muted); font-size: 13px; }
svg { width: 100%; height: auto; display: block; font: 11px system-ui, sans-serif; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
td, th { text-align: left; padding: 4px 10px 4px 0; border-bottom: 1px solid var(--grid); vertical-align: top;
  overflow-wrap: anywhere; }
th { color: var(--muted); font-weight: normal; white-space: nowrap; } td:first-child { white-space: nowrap; }
.tick { fill: var(--muted); } .end, .unit { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: var(--grid); } .axis { stroke: var(--muted); } .mark { stroke: var(--ink); stroke-dasharray: 3 3; }
.line { fill: none; stroke-width: 1.6; } .line.edge { stroke: var(--edge); } .line.cloud { stroke: var(--cloud); }
.line.sure { stroke: var(--sure); } .bar.sure { fill: var(--sure); } .bar.unsure { fill: var(--unsure); }
.dot.edge { fill: var(--edge); } .dot.cloud { fill: var(--cloud); }
.up { fill: var(--good); } .down { fill: var(--bad); }
.legend span { margin-right: 16px; font-size: 13px; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 2px; margin-right: 6px; }
i.edge { background: var(--edge); } i.cloud { background: var(--cloud); } i.sure { background: var(--sure); }
i.unsure { background: var(--unsure); } i.up { background: var(--good); } i.down { background: var(--bad); }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"  # whatever a label may hold, the page runs nothing


def write_report(recording: Recording, path: Path) -> None:
    """Write the page. `DeviceError`: it cannot be written."""
    page = render(recording, survey(recording))
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as exc:
        raise DeviceError(f"{path}: the report cannot be written ({exc.strerror}); choose another file") from exc


def render(recording: Recording, found: Survey) -> str:
    """The whole page."""
    title = html.escape(recording.path.name)
    sections = "".join([_head(recording, found), _tiles(found), *_plots(found), _tables(found)])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body>{sections}</body></html>\n"
    )


def _head(recording: Recording, found: Survey) -> str:
    began = ""
    if recording.first_s > EPOCH_S:
        moment = datetime.fromtimestamp(recording.first_s, timezone.utc)
        began = f", {moment:%Y-%m-%d %H:%M:%S} UTC"
    cut = (
        ""
        if recording.cut_off is None
        else f"<p>The file is {html.escape(recording.cut_off)}; this is what it holds.</p>"
    )
    who = f"{recording.device} at {recording.site}, {found.at_s[-1]:.1f} s{began}"
    return f"<h1>{html.escape(recording.path.name)}</h1><p>{html.escape(who)}</p>{cut}"


def _tiles(found: Survey) -> str:
    frames, uploads = len(found.at_s), int(sum(found.uploaded))
    tiles = [
        (f"{frames:,}", "frames"),
        (f"{uploads / frames:.1%}", f"uploads ({uploads:,})"),
        (f"{found.bytes_up:,} B", "went up"),
        (f"{found.bytes_down:,} B", "came down"),
        (f"{statistics.median(found.latency_ms):.1f} ms", "median latency"),
        (f"{found.late:,}", "late answers"),
    ]
    if found.labelled:
        tiles.append((f"{found.edge_right / found.labelled:.1%}", "right, edge alone"))
        tiles.append((f"{found.right / found.labelled:.1%}", "right, edge and cloud"))
    return '<div class="tiles">' + "".join(f"<div><b>{b}</b><span>{s}</span></div>" for b, s in tiles) + "</div>"


def _plots(found: Survey) -> list[str]:
    at, models = found.at_s, [(at_s, f"model {model.no}") for at_s, model in found.models[1:]]
    rate = Series("uploads", [100 * value for value in running_mean(found.uploaded, WINDOW)], "cloud")
    scores = [Series("score", found.score, "edge"), Series("threshold", found.threshold, "sure")]
    common = Counter(found.labels).most_common(MAX_LABELS)
    names = sorted(name for name, _ in common)
    left_out = len(set(found.labels)) - len(names)
    more = f" {left_out} rarer labels are left out." if left_out else ""
    sections = [
        _section(
            "Uploads",
            f"Share of the last {WINDOW} frames that went up.",
            lines(at, [rate], unit="%", marks=models, top=10),
        ),
        _section(
            "Score and threshold",
            "Above the threshold a frame is ambiguous.",
            lines(at, scores, unit="", marks=models, top=0.1),
        ),
        _section("Entropy", "Of the edge's answers: 0 is sure, 1 is no idea.", _entropy(found)),
        _section(
            "Decisions", f"The label that stands, and whose it is.{more}", dots(at, found.labels, found.by_cloud, names)
        ),
        _section(
            "Buffer",
            "Rows of this recording that wait for an answer.",
            lines(at, [Series("waiting", found.waiting, "edge")], unit="rows", top=1),
        ),
    ]
    if found.link:
        sections.append(_section("Link", "Connection to the broker.", strip(at[-1], found.link)))
    if found.answers:
        times, took = zip(*found.answers, strict=True)
        text = "Time to a frame's result, where the cloud answered in time."
        sections.append(_section("Answers", text, lines(times, [Series("answers", took, "cloud")], unit="ms")))
    return sections


def _entropy(found: Survey) -> str:
    pairs = list(zip(found.entropy, found.score, found.threshold, strict=True))
    sure = Series("sure", [entropy for entropy, score, threshold in pairs if score <= threshold], "sure")
    unsure = Series("ambiguous", [entropy for entropy, score, threshold in pairs if score > threshold], "unsure")
    return histogram([sure, unsure], mark=(found.threshold[-1], "last threshold"))


def _tables(found: Survey) -> str:
    reasons = [(f"{count:,}", why, WHY.get(why, "")) for why, count in found.reasons.most_common()]
    models = [
        (f"{at_s:.1f} s", str(model.no), model.sha256[:12], ", ".join(model.labels), f"{model.threshold:.4f}")
        for at_s, model in found.models
    ]
    events = [(f"{at_s:.1f} s", kind, detail) for at_s, kind, detail in found.events]
    more = f"<p>{found.more_events:,} more.</p>" if found.more_events else ""
    return (
        _section("Reasons", "", _table(("frames", "why", ""), reasons))
        + _section("Models", "", _table(("from", "no", "sha-256", "labels", "threshold"), models))
        + (_section("Events", "", _table(("at", "what", ""), events) + more) if events else "")
    )


def _section(title: str, text: str, body: str) -> str:
    return f"<h2>{title}</h2>" + (f"<p>{text}</p>" if text else "") + body


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
