"""docs/install.md: the extras that it names exist, and so do the commands that it prints."""

from __future__ import annotations

import importlib
import re
import shlex

import pytest
import typer

from ecc_model.optional import _OPTIONAL
from support.imports import ROOT

PAGE = (ROOT / "docs/install.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^(ecc-(?:device|cloud|broker) .*)$", PAGE, re.MULTILINE)))


def test_the_extras_that_are_named_exist() -> None:
    declared = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    known = {*declared, *(extra for _, extra in _OPTIONAL.values())}
    named = {extra for extras in re.findall(r"'\.\[([\w,]+)\]'", PAGE) for extra in extras.split(",")}
    listed = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert named
    assert (named | listed) - known == set()


@pytest.mark.parametrize("text", COMMANDS)
def test_a_printed_command_is_accepted(text: str) -> None:
    program, name, *arguments = shlex.split(text)
    group = typer.main.get_command(importlib.import_module(f"{program.replace('-', '_')}.cli").app)
    with group.make_context(program, [name], resilient_parsing=True) as context:
        command = group.get_command(context, name)
        with command.make_context(name, arguments, parent=context):  # raises for what it does not know, or misses
            pass
