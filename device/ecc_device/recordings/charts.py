"""Plots as SVG text, without any library: lines, histograms, dots in rows. Colours are the page's CSS classes."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 190
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 10, 30
BINS = 240  # points of a line at most
BARS = 40


@dataclass(frozen=True)
class Series:
    """Values of one colour. css: the class that paints it."""

    name: str
    values: Sequence[float]
    css: str


@dataclass(frozen=True)
class Axes:
    """The drawing area: what its edges stand for."""

    low_x: float
    high_x: float
    low_y: float
    high_y: float
    height: int = HEIGHT

    def x(self, value: float) -> float:
        """Pixels from the left."""
        return LEFT + (value - self.low_x) / (self.high_x - self.low_x) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        return self.height - BOTTOM - (value - self.low_y) / (self.high_y - self.low_y) * (self.height - TOP - BOTTOM)


def lines(
    at: Sequence[float], series: Sequence[Series], *, unit: str, marks: Iterable[tuple[float, str]] = (), top: float = 0
) -> str:
    """Means over time, a line for each series. marks: (time, name) of vertical lines. top: the scale ends no lower."""
    drawn = [(one, _means(at, one.values)) for one in series]
    highest = max([top, *(y for _, points in drawn for _, y in points)])
    axes = Axes(0.0, max(at[-1], 1e-3), 0.0, highest * 1.05 or 1.0)
    parts = [_grid(axes, unit), _marks(axes, marks)]
    for one, points in drawn:
        path = "L".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in points)
        parts.append(f'<path class="line {one.css}" d="M{path}"/>')
    return _svg(axes, parts) + _legend(series)


def histogram(series: Sequence[Series], *, mark: tuple[float, str], unit: str = "frames") -> str:
    """How often values from 0 to 1 come, the series on top of one another."""
    counts = [[0] * BARS for _ in series]
    for row, one in zip(counts, series, strict=True):
        for value in one.values:
            row[min(BARS - 1, max(0, int(value * BARS)))] += 1
    axes = Axes(0.0, 1.0, 0.0, max(map(sum, zip(*counts, strict=True))) * 1.05 or 1.0)
    parts = [_grid(axes, unit, time=False)]
    width = axes.x(1 / BARS) - axes.x(0) - 1
    for bar in range(BARS):
        below = 0
        for row, one in zip(counts, series, strict=True):
            if row[bar]:
                y, base = axes.y(below + row[bar]), axes.y(below)
                place = f'x="{axes.x(bar / BARS):.1f}" y="{y:.1f}" width="{width:.1f}" height="{base - y:.1f}"'
                parts.append(f'<rect class="bar {one.css}" {place}/>')
                below += row[bar]
    parts.append(_marks(axes, [mark] if 0 <= mark[0] <= 1 else []))
    return _svg(axes, parts) + _legend(series)


def dots(at: Sequence[float], rows: Sequence[str], cloud: Sequence[bool], names: Sequence[str]) -> str:
    """One dot a frame in the row of its label. cloud: painted as the cloud's answer."""
    height = TOP + BOTTOM + 14 * len(names)
    axes = Axes(0.0, max(at[-1], 1e-3), -0.5, len(names) - 0.5, height)
    place = {name: axes.y(len(names) - 1 - index) for index, name in enumerate(names)}
    parts = [_time_ticks(axes)]
    parts += [
        f'<text class="tick end" x="{LEFT - 8}" y="{y + 4:.1f}">{_text(name)}</text>' for name, y in place.items()
    ]
    seen: set[tuple[int, str, bool]] = set()
    for x, name, by_cloud in zip(at, rows, cloud, strict=True):
        pixel = (round(axes.x(x)), name, by_cloud)
        if pixel not in seen and name in place:
            seen.add(pixel)
            css = "cloud" if by_cloud else "edge"
            parts.append(f'<circle class="dot {css}" cx="{pixel[0]}" cy="{place[name] + 2 * by_cloud:.1f}" r="2"/>')
    return _svg(axes, parts) + _legend([Series("edge", (), "edge"), Series("cloud", (), "cloud")])


def strip(end: float, changes: Sequence[tuple[float, bool]]) -> str:
    """When something was up: a band in one colour, and in another where it was down."""
    axes = Axes(0.0, max(end, 1e-3), 0.0, 1.0, TOP + BOTTOM + 18)
    parts = [_time_ticks(axes)]
    for (start, up), (stop, _) in zip(changes, [*changes[1:], (end, True)], strict=True):
        width = max(1.0, axes.x(stop) - axes.x(start))
        place = f'x="{axes.x(start):.1f}" y="{TOP}" width="{width:.1f}" height="18"'
        parts.append(f'<rect class="{"up" if up else "down"}" {place}><title>{"up" if up else "down"}</title></rect>')
    return _svg(axes, parts) + _legend([Series("up", (), "up"), Series("down", (), "down")])


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """For each value the mean of it and of those before it, `window` of them at most."""
    sums = [0.0, *itertools.accumulate(values)]
    return [(sums[end] - sums[max(0, end - window)]) / min(end, window) for end in range(1, len(sums))]


def _means(at: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """(time, mean) of at most `BINS` equal parts of the frames."""
    size = -(-len(at) // BINS)
    parts = [slice(start, start + size) for start in range(0, len(at), size)]
    return [(sum(at[p]) / len(at[p]), sum(values[p]) / len(values[p])) for p in parts]


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers between two others."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]


def _grid(axes: Axes, unit: str, *, time: bool = True) -> str:
    parts = [f'<text class="tick unit" x="{LEFT - 8}" y="{TOP - 1}">{_text(unit)}</text>']
    for value in _ticks(axes.low_y, axes.high_y, 4):
        y = axes.y(value)
        parts.append(f'<path class="grid" d="M{LEFT},{y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 8}" y="{y + 4:.1f}">{value:g}</text>')
    return "".join(parts) + _time_ticks(axes, "s" if time else "")


def _time_ticks(axes: Axes, unit: str = "s") -> str:
    y, unit = axes.height - BOTTOM, f"&#8239;{unit}" if unit else ""
    ticks = [
        f'<text class="tick middle" x="{axes.x(value):.1f}" y="{y + 18}">{value:g}{unit}</text>'
        for value in _ticks(axes.low_x, axes.high_x, 8)
    ]
    return f'<path class="axis" d="M{LEFT},{y}H{WIDTH - RIGHT}"/>' + "".join(ticks)


def _marks(axes: Axes, marks: Iterable[tuple[float, str]]) -> str:
    parts = []
    for value, name in marks:
        x, end = axes.x(value), " end" if axes.x(value) > WIDTH - 160 else ""
        parts.append(f'<path class="mark" d="M{x:.1f},{TOP}V{axes.height - BOTTOM}"/>')
        parts.append(f'<text class="tick{end}" x="{x + (-4 if end else 4):.1f}" y="{TOP + 10}">{_text(name)}</text>')
    return "".join(parts)


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ""
    keys = "".join(f'<span><i class="{one.css}"></i>{_text(one.name)}</span>' for one in series)
    return f'<p class="legend">{keys}</p>'


def _svg(axes: Axes, parts: Iterable[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {axes.height}" role="img">{"".join(parts)}</svg>'


def _text(text: str) -> str:
    return html.escape(text if len(text) <= 24 else f"{text[:23]}…")
