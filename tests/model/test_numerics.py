"""Softmax and entropy: right to the last digits, and the same bits everywhere."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecc_model.numerics import exp, exps, log, logs, normalized_entropy, softmax

LOGITS = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12)


def relative_error(found: float, exact: Decimal) -> Decimal:
    return abs(Decimal(found) - exact) / abs(exact) if exact else abs(Decimal(found))


@given(st.floats(-700.0, 0.0))
def test_exp_is_right_to_1e_15(x: float) -> None:
    with localcontext() as context:
        context.prec = 50
        assert relative_error(exp(x), Decimal(x).exp()) < Decimal("1e-15")


@given(st.floats(1e-305, 1e305) | st.floats(0.5, 2.0))
def test_log_is_right_to_1e_15(x: float) -> None:
    with localcontext() as context:
        context.prec = 50
        assert relative_error(log(x), Decimal(x).ln()) < Decimal("1e-15")


def test_ends_of_exp_and_log() -> None:
    assert (exp(0.0), exp(-0.0), exp(-700.5), exp(-math.inf)) == (1.0, 1.0, 0.0, 0.0)
    assert (log(1.0), log(2.0), log(0.5)) == (0.0, math.log(2), -math.log(2))


@given(st.floats(-700.0, 0.0), st.floats(1e-9, 1.0))  # well above one rounding of x
def test_exp_rises(x: float, step: float) -> None:
    assert exp(x) <= exp(min(0.0, x + step))
    assert exp(x - step) < exp(x)


@given(st.floats(1e-300, 1e300), st.floats(1e-12, 1.0))
def test_log_rises(x: float, step: float) -> None:
    assert log(x) < log(x * (1 + step))


@given(LOGITS, st.floats(0.05, 50.0))
def test_probabilities_sum_to_one_and_keep_the_order_of_the_logits(logits: list[float], temperature: float) -> None:
    probabilities = softmax(logits, temperature)
    assert math.fsum(probabilities) == pytest.approx(1.0, abs=1e-14)
    assert all(0.0 <= p <= 1.0 for p in probabilities)
    assert probabilities[logits.index(max(logits))] == max(probabilities)
    rounding = 1e-14 + 4e-16 * max(map(abs, logits)) / temperature  # of what is taken to the power
    for z, p in zip(logits, probabilities, strict=True):
        assert p == pytest.approx(reference_softmax(logits, temperature, z), rel=rounding, abs=1e-300)


def reference_softmax(logits: list[float], temperature: float, z: float) -> float:
    with localcontext() as context:
        context.prec = 60
        weights = [(Decimal(x) / Decimal(temperature)).exp() for x in logits]
        return float((Decimal(z) / Decimal(temperature)).exp() / sum(weights))


@given(LOGITS, st.floats(0.1, 10.0), st.floats(1.01, 4.0))
def test_a_higher_temperature_never_makes_an_answer_surer(logits: list[float], temperature: float, by: float) -> None:
    cold = normalized_entropy(softmax(logits, temperature))
    warm = normalized_entropy(softmax(logits, temperature * by))
    assert 0.0 <= cold <= warm + 1e-12 <= 1.0 + 1e-12


@given(LOGITS)
def test_entropy_is_that_of_the_formula(logits: list[float]) -> None:
    probabilities = softmax(logits)
    expected = -math.fsum(p * math.log(p) for p in probabilities if p > 0) / max(math.log(len(logits)), 1e-300)
    assert normalized_entropy(probabilities) == pytest.approx(min(1.0, max(0.0, expected)), abs=1e-14)


def test_entropy_at_its_ends() -> None:
    assert normalized_entropy([1.0]) == 0.0
    assert normalized_entropy([1.0, 0.0, 0.0]) == 0.0
    assert [normalized_entropy([1 / n] * n) for n in (2, 4, 8)] == [1.0, 1.0, 1.0]
    assert normalized_entropy(softmax([900.0, 0.0])) == 0.0


# A changed bit here means that a device decides otherwise than the recording it replays: never edit, find the cause.
GOLDEN = [
    (
        [1.0, 2.0, 3.0],
        1.0,
        "0x1.70c3e5f682bdap-4 0x1.f534335ca4bcfp-3 0x1.549a766a06790p-1",
        "0x1.83ee84324ec6dp-1",
    ),
    (
        [0.1, -0.7, 12.5, 3.25],
        1.7,
        "0x1.6256e1b2fd8e2p-11 0x1.baaa55711136ep-12 0x1.fd3b09f5b06efp-1 0x1.1a85839a57bedp-8",
        "0x1.b6532bfeadffbp-6",
    ),
    (
        [-3.0, -3.0],
        0.5,
        "0x1.0000000000000p-1 0x1.0000000000000p-1",
        "0x1.0000000000000p+0",
    ),
    (
        [100.0, -650.0, 99.9],
        1.0,
        "0x1.0cca12729afabp-1 0x0.0p+0 0x1.e66bdb1aca0abp-2",
        "0x1.427446fb83c8cp-1",
    ),
]


@pytest.mark.parametrize(("logits", "temperature", "probabilities", "entropy"), GOLDEN)
def test_the_bits_are_pinned(logits: list[float], temperature: float, probabilities: str, entropy: str) -> None:
    found = softmax(logits, temperature)
    assert " ".join(p.hex() for p in found) == probabilities
    assert normalized_entropy(found).hex() == entropy


@given(st.lists(st.floats(-1e300, 0.0) | st.floats(-710.0, 0.0) | st.sampled_from([-700.0, -0.0]), min_size=1))
def test_many_exps_have_the_bits_of_one(x: list[float]) -> None:
    assert exps(np.array(x)).tolist() == [exp(number) for number in x]


@given(st.lists(st.floats(5e-324, 1e308) | st.floats(0.4, 2.1) | st.sampled_from([1.0, 0.5**0.5]), min_size=1))
def test_many_logs_have_the_bits_of_one(x: list[float]) -> None:
    assert logs(np.array(x)).tolist() == [log(number) for number in x]
