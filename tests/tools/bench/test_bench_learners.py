"""Learners side by side, each in the process that a device starts for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ecc_tools.bench.learners import COMPARED, bench_learners
from ecc_tools.cli import main
from ecc_tools.processes import ProgramFailed
from support.models import write_tiny_models


def test_the_closed_form_is_measured_beside_gradients(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = write_tiny_models(tmp_path, learnable=True)
    argv = ["ecc-tools", "bench", "learners", "--model", str(models.edge), "--rows", "40", "--rounds", "1", "--json"]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["rounds"], tuple(found["learners"])) == (40, 1, COMPARED)
    analytic, lwf = (found["learners"][name] for name in COMPARED)
    assert (analytic["torch"], lwf["torch"]) == (False, True)
    assert analytic["mib"] < lwf["mib"]
    assert found["ratio"] == found["ratios"][0] == lwf["seconds"] / analytic["seconds"] > 1.0


def test_a_learner_that_fails_is_named_with_its_reason(tmp_path: Path) -> None:
    models = write_tiny_models(tmp_path, learnable=True, statistics=False)
    with pytest.raises(
        ProgramFailed, match=r"^the learner 'analytic' failed: the model file has no statistics to learn from"
    ):
        bench_learners(models.edge, 20, 1, lambda share: None)
