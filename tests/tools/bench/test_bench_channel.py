"""Damage on the way: how often it happens, what is refused, and what that costs."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ecc_device.sources import save_npz
from ecc_tools.bench.channel import CHANNELS, SHARES, arrive, erase_bytes, forms, turn_bits
from ecc_tools.cli import app
from support.models import DIGITS, write_tiny_models
from support.rate_tables import rate_table, sample

SHAPE = (2, 3, 4, 5)
TABLE = rate_table("channel", SHAPE)


def test_bits_turn_and_bytes_vanish_as_often_as_said():
    body = np.full(100_000, 0b10110111, np.uint8)
    turned = turn_bits(body, 0.03, np.random.default_rng(0))
    assert np.unpackbits(turned ^ body).mean() == pytest.approx(0.03, abs=0.001)
    erased = erase_bytes(body, 0.1, np.random.default_rng(0))
    assert set(erased.tolist()) == {0, 0b10110111}
    assert (erased == 0).mean() == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("form", forms(TABLE))
@pytest.mark.parametrize("channel", CHANNELS.values())
@given(seed=st.integers(0, 100))
def test_an_undamaged_message_arrives_as_it_was(form, channel, seed):
    code = sample(TABLE, seed)[0]
    got = arrive(forms(TABLE)[form](code), SHAPE, TABLE, channel, 0.0, np.random.default_rng(seed))
    np.testing.assert_array_equal(got, code)


@given(seed=st.integers(0, 1000), share=st.floats(0.0, 0.5))
def test_raw_bits_always_arrive_and_the_checksum_notices_damage(seed, share):
    code = sample(TABLE, seed)[0]
    raw = arrive(forms(TABLE)["raw"](code), SHAPE, TABLE, turn_bits, share, np.random.default_rng(seed))
    assert raw is not None
    assert raw.shape == SHAPE
    checked = arrive(forms(TABLE)["coded, checked"](code), SHAPE, TABLE, turn_bits, share, np.random.default_rng(seed))
    assert checked is None or np.array_equal(checked, code)


def test_without_a_table_spikes_go_raw_only():
    assert list(forms(None)) == ["raw"]


def test_the_command_tells_every_channel_form_and_share(tmp_path):
    models = write_tiny_models(tmp_path, rates="channel+step")
    frames = np.random.default_rng(0).integers(0, 256, (30, 16, 16, 1), np.uint8)
    save_npz(tmp_path / "f.npz", frames, labels=np.arange(30) % 10, names=DIGITS, times=np.arange(30) / 10)
    arguments = ["bench", "channel", str(models.edge), str(models.cloud), "--data", str(tmp_path / "f.npz"), "--json"]
    run = CliRunner().invoke(app, arguments, catch_exceptions=False)
    found = json.loads(run.stdout)
    rows = {(row["channel"], row["sent_as"], row["share"]): row for row in found["rows"]}
    assert len(rows) == len(CHANNELS) * 3 * len(SHARES) == len(found["rows"])
    clean = {row["accuracy"] for key, row in rows.items() if key[2] == 0.0}
    assert len(clean) == 1
    assert rows["bits turned", "raw", 0.1]["arrived"] == 1.0
    assert (
        rows["bits turned", "coded, checked", 0.1]["arrived"] < rows["bits turned", "coded, checked", 0.003]["arrived"]
    )
    assert (found["n"], found["seed"]) == (30, 0)
    again = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert json.loads(again.stdout) == found
