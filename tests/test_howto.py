"""What the how-to pages print: commands that exist, Python that runs, links that lead somewhere."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import typer

from support.imports import ROOT
from support.models import write_tiny_models

PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
BLOCK = re.compile(r"^```(sh|ini|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:^|[\s/=])(ecc-(?:device|cloud|broker|tools) [a-z].*)")
INLINE = re.compile(r"`(ecc-(?:device|cloud|broker|tools) \w+ [^`]*)`")


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of `languages`, long lines joined again."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [text.replace("\\\n", "") for language, text in found if language in languages]


def commands() -> list[str]:
    """Every call of one of our commands with its arguments."""
    lines = [line for page in PAGES for block in blocks(page, "sh", "ini") for line in block.splitlines()]
    found = [match[1] for line in lines if (match := COMMAND.search(line))]
    return sorted({*found, *(text for page in PAGES for text in INLINE.findall(page.read_text(encoding="utf-8")))})


def test_the_pages_print_every_command_that_runs_something() -> None:
    used = {tuple(shlex.split(text)[:2]) for text in commands()}
    assert used >= {
        ("ecc-broker", "start"),
        ("ecc-cloud", "start"),
        *(("ecc-device", name) for name in ("start", "replay", "status", "buffer", "notify", "rollback")),
    }


@pytest.mark.parametrize("text", commands())
def test_a_printed_command_is_accepted(text: str) -> None:
    program, *arguments = shlex.split(text)
    group = typer.main.get_command(importlib.import_module(f"{program.replace('-', '_')}.cli").app)
    with group.make_context(program, arguments, resilient_parsing=True) as context:
        name, command, rest = group.resolve_command(context, arguments)
        with command.make_context(name, rest, parent=context):  # raises for what it does not know, or misses
            pass


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_printed_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_models(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECC_STATE", str(tmp_path / "state"))
    names: dict[str, object] = {"pixels": np.zeros((16, 16), np.uint8)}
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
