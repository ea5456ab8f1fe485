"""The ledger as it is printed for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecc_tools.energy import CONSTANTS
from ecc_tools.evaluation.printing import si
from ecc_tools.ledger.account import Entry, Technology
from ecc_tools.ledger.anatomy import Anatomy
from ecc_tools.ledger.compare import Compared, Published
from ecc_tools.ledger.published import (
    PAPER_AC,
    PAPER_BYTES,
    PAPER_ROLLS,
    POINTS_LOST,
    RIVAL_BYTES,
    RIVAL_MAC,
    ROWS,
    TABLE_1,
    TABLE_3,
)
from ecc_tools.ledger.rates import Kind, Rates

TITLES: dict[Technology, str] = {
    "mac": "a dense network, MACs at 45 nm",
    "ac": "spikes, ACs at 45 nm",
    "rolls": "spikes, ROLLS; layers without spikes as MACs at 45 nm",
}
BASIS: dict[Kind, str] = {
    "measured": "modelled",
    "borrowed": "modelled at borrowed firing rates",
    "assumed": "modelled at an assumed firing rate",
}


def print_ledger(
    anatomy: Anatomy,
    rates: Rates,
    entries: Sequence[Entry],
    published: Sequence[Published] | None,
    console: Console,
    *,
    everything: bool,
) -> None:
    """The split points, all parts where asked for, and the published tables where they are about this network."""
    spec, basis = anatomy.spec, BASIS[rates.kind]
    height, width_px, channels = spec.frame
    title = f"{spec.kind}, width {spec.width:g}, T {spec.steps}, {height} x {width_px} x {channels}"
    _say(console, f"{title}. Per frame, up to each split point; firing rates {rates.about}")
    console.print(_splits(entries, f"As the papers count; mJ {basis}, MAC mJ modelled"))
    if everything:
        for technology, words in TITLES.items():
            said = "modelled" if technology == "mac" else basis
            title = f"mJ of a frame that goes up, {words}: {said}; radio assumed"
            console.print(_everything(entries, technology, title))
    if published is not None:
        console.print(_bytes(entries, published))
        console.print(_energy(entries, published, basis))
    constants = ", ".join(f"{name} {CONSTANTS[name].value:g} {CONSTANTS[name].unit}" for name in ("mac", "ac", "rolls"))
    _say(console, f"Constants: {constants}. None of this was measured with a meter; see --measure.")


def _splits(entries: Sequence[Entry], title: str) -> Table:
    table = _table(title, "split", "map", "sent", "bytes", "MACs", "rate %", "SOPs", "MAC mJ", "AC mJ", "ROLLS mJ")
    for entry in entries:
        cut = entry.cut
        mac, ac, rolls = (entry.spent[name].convolutions for name in TITLES)
        _add(
            table,
            cut.name,
            _times(cut.channels, cut.height, cut.width_px),
            _times(entry.code.steps, *entry.code.shape(cut)),
            str(entry.bytes),
            si(entry.macs),
            f"{100 * entry.rate:.1f}",
            si(entry.sops),
            *(_mj(value) for value in (mac, ac, rolls)),
        )
    return table


def _everything(entries: Sequence[Entry], technology: Technology, title: str) -> Table:
    parts = ("paper's", "stem", "shortcuts", "encoder", "exit")
    table = _table(title, "split", *parts, "modelled\nall", "assumed\nradio", "modelled\n+ assumed")
    for entry in entries:
        spent = entry.spent[technology]
        figures = (spent.convolutions, spent.stem, spent.shortcuts, spent.encoder, spent.exit, spent.modelled)
        _add(table, entry.cut.name, *map(_mj, (*figures, spent.radio, spent.modelled_and_assumed)))
    return table


def _bytes(entries: Sequence[Entry], published: Sequence[Published]) -> Table:
    names = (RIVAL_BYTES, PAPER_BYTES)
    table = _table(f"Beside {TABLE_1}, ours from shapes at its T", "split", "T", *_headings(*names), "points\nlost")
    for index, (entry, beside) in enumerate(zip(entries, published, strict=True)):
        cells = (cell for name in names for cell in _pair(beside.figures[name], 0))
        _add(table, entry.cut.name, str(beside.steps), *cells, f"{ROWS[POINTS_LOST].values[index]:.2f}")
    return table


def _energy(entries: Sequence[Entry], published: Sequence[Published], basis: str) -> Table:
    names = {RIVAL_MAC: 2, PAPER_AC: 2, PAPER_ROLLS: 3}
    title = f"Beside {TABLE_3} ({', '.join(names)}), ours at its T: mJ {basis}, MAC mJ modelled"
    table = _table(title, "split", *_headings("MAC", "AC", "ROLLS"), "its AC implies\nrate %")
    for entry, beside in zip(entries, published, strict=True):
        cells = (cell for name, digits in names.items() for cell in _pair(beside.figures[name], digits))
        _add(table, entry.cut.name, *cells, f"{100 * beside.implied_rate:.1f}")
    return table


def _headings(*names: str) -> list[str]:
    """A line above for the figure, one below for whose it is."""
    return [f"{above}\n{below}" for name in names for above, below in ((name, "paper"), ("", "ours"), ("", "diff."))]


def _pair(pair: Compared, digits: int) -> tuple[str, str, str]:
    ours = round(pair.ours, digits)
    return f"{pair.published:.{digits}f}", f"{ours:.{digits}f}", f"{ours - pair.published:+.{digits}f}"


def _table(title: str, first: str, *headings: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _add(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def _mj(value: float) -> str:
    return f"{value:.3g}"


def _times(*sides: int) -> str:
    return "x".join(map(str, sides))
