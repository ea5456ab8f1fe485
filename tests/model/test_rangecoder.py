"""The range coder: every message there and back, one string for each, the same bytes from C and from Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecc_model import native, rangecoder
from ecc_model.errors import WireError
from ecc_model.rangecoder import decode, encode
from ecc_model.rate_rules import FollowTable, Rule, TableRule
from support.golden import Golden
from support.rules import NAMES, all_rules, bits_of, rules, table_rule

needs_c = pytest.mark.skipif(native.library() is None, reason="the C library is not built")


@pytest.fixture(params=["twin", pytest.param("c", marks=needs_c)])
def coder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Both coders, one after the other."""
    if request.param == "twin":
        monkeypatch.setattr(rangecoder, "library", lambda: None)
    return request.param


def by_twin(function: Callable[..., object], *arguments: object) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rangecoder, "library", lambda: None)
        return function(*arguments)


def entropy(rule: Rule, bits: np.ndarray) -> float:
    p = rule.rates(bits[None])[0] / 65536
    return float(-np.log2(np.where(bits, p, 1 - p)).sum())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_bits_come_back_at_every_rate(data: st.DataObject) -> None:
    rule = data.draw(rules())
    size, percent, seed = data.draw(st.tuples(st.integers(1, rule.size), st.integers(0, 100), st.integers(0, 2**32)))
    bits = bits_of(size, seed, percent)
    coded = encode(rule, bits)
    back = decode(rule, coded, size)
    assert back.dtype == np.bool_
    np.testing.assert_array_equal(back, bits)
    assert by_twin(encode, rule, bits) == coded
    np.testing.assert_array_equal(by_twin(decode, rule, coded, size), bits)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_bits_after_known_ones_come_back(data: st.DataObject) -> None:
    rule = data.draw(rules().filter(lambda rule: rule.size > 1))
    first = data.draw(st.integers(1, rule.size - 1))
    bits = bits_of(rule.size, data.draw(st.integers(0, 2**32)), data.draw(st.integers(0, 100)))
    coded = encode(rule, bits, first)
    assert by_twin(encode, rule, bits, first) == coded
    for read in (decode, lambda *given: by_twin(decode, *given)):
        np.testing.assert_array_equal(read(rule, coded, rule.size, bits[:first]), bits)
    start = encode(rule, bits[:first])
    assert len(start) + len(coded) <= len(encode(rule, bits)) + 2


@settings(max_examples=200, deadline=None)
@given(rules(), st.binary(max_size=30))
def test_any_bytes_are_one_message_or_refused_alike_by_both_coders(rule: Rule, data: bytes) -> None:
    outcomes = []
    for read in (decode, lambda *given: by_twin(decode, *given)):
        try:
            bits = read(rule, data, rule.size)
        except WireError as error:
            outcomes.append(str(error))
        else:
            assert encode(rule, bits) == data
            outcomes.append(bits.tobytes())
    assert outcomes[0] == outcomes[1]


def test_ten_thousand_random_strings(coder: str) -> None:
    rule = all_rules(24, 5)["neighbours"]
    chance = np.random.default_rng(9)
    outcomes = {True: 0, False: 0}
    for _ in range(10_000):
        data = chance.bytes(int(chance.integers(0, 7)))
        try:
            bits = decode(rule, data, 24)
        except WireError:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
            assert encode(rule, bits) == data
    assert min(outcomes.values()) > 1000


@pytest.mark.parametrize("name", NAMES)
def test_bytes_never_change(name: str, coder: str, golden: Golden) -> None:
    rule, bits = all_rules(180, 11)[name], bits_of(180, 12, 23)
    golden.check(f"rangecoder/{name}.bin", encode(rule, bits))
    golden.check(f"rangecoder/{name}-from-60.bin", encode(rule, bits, 60))


def interval(rule: Rule, bits: np.ndarray) -> tuple[Fraction, Fraction]:
    """The numbers of a message, from the definition, without bytes, carries or 32-bit words."""
    low, width, unit = Fraction(0), 2**32 - 1, Fraction(1, 2**32)
    for bit, rate in zip(bits.tolist(), rule.rates(bits[None])[0].tolist(), strict=True):
        one = width * rate // 65536
        low, width = (low + (width - one) * unit, one) if bit else (low, width - one)
        while width < 2**24:
            width, unit = width * 256, unit / 256
    return low, low + width * unit


@settings(max_examples=150, deadline=None)
@given(rules(), st.integers(0, 2**32), st.integers(0, 100))
def test_the_string_is_the_shortest_and_then_the_smallest_in_the_interval(rule: Rule, seed: int, percent: int) -> None:
    bits = bits_of(rule.size, seed, percent)
    low, high = interval(rule, bits)
    length = 0
    while (digits := math.ceil(low * 256**length)) >= high * 256**length:
        length += 1
    assert encode(rule, bits) == (digits.to_bytes(length, "big") or b"\0")


@pytest.mark.parametrize("data", [b"\x80", b"\x01", b"\x12\x34", b"\xff\x80", b"\x80\0\0\0\0\x01"])
def test_a_carry_runs_through_all_full_bytes_before_it(data: bytes, coder: str) -> None:
    rule = table_rule(200, 3)
    bits = decode(rule, data, 200)
    before = int(interval(rule, bits)[0] * 256**14).to_bytes(14, "big")  # what was coded until the last bits carry
    assert int.from_bytes(before[: len(data)], "big") == int.from_bytes(data, "big") - 1
    assert before[len(data) :].startswith(b"\xff" * 5)
    assert encode(rule, bits) == data


def test_a_message_of_the_likeliest_bits_is_one_byte(coder: str) -> None:
    rule = TableRule(np.full(1, 1, np.uint16), np.zeros(200, np.uint16), np.arange(200, dtype=np.uint32), 200)
    assert encode(rule, np.zeros(200, np.bool_)) == b"\0"
    assert not decode(rule, b"\0", 200).any()


def test_nothing_is_impossible_nor_without_room(coder: str) -> None:
    rule = TableRule(np.full(1, 1, np.uint16), np.zeros(20_000, np.uint16), np.arange(20_000, dtype=np.uint32), 20_000)
    coded = encode(rule, np.ones(20_000, np.bool_))
    assert 40_000 <= len(coded) < 40_020  # 16 bits each, and a little for rounding
    assert decode(rule, coded, 20_000).all()


@pytest.mark.parametrize("percent", [1, 5, 18, 50])
@pytest.mark.parametrize("size", [100, 500, 2000])
def test_length_is_the_entropy_and_at_most_twelve_bits(size: int, percent: int, coder: str) -> None:
    rate = np.full(1, 65536 * percent // 100, np.uint16)
    rule = TableRule(rate, np.zeros(size, np.uint16), np.arange(size, dtype=np.uint32), size)
    over = []
    for seed in range(30):
        bits = bits_of(size, seed, percent)
        over.append(8 * len(encode(rule, bits)) - entropy(rule, bits))
    assert min(over) > -24  # where zeros at the end are left out
    assert max(over) < 8 + 0.001 * size
    assert np.mean(over) < 5


def test_length_is_that_of_constriction() -> None:
    stream = pytest.importorskip("constriction").stream
    rule = table_rule(2000, 3)
    for seed in range(20):
        bits = bits_of(2000, seed, 30)
        p = rule.rates(bits[None])[0] / 65536
        referee = stream.queue.RangeEncoder()
        referee.encode(bits.astype(np.int32), stream.model.Bernoulli(perfect=False), p.astype(np.float32))
        ours, theirs = 8 * len(encode(rule, bits)), referee.num_bits()
        assert abs(ours - entropy(rule, bits)) < 8
        assert theirs - 40 < ours <= theirs  # constriction ends on whole words of 32 bits


ZEROS = bits_of(50, 1, 0)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data + b"\0",
        lambda data: data + b"\x01",
        lambda data: data + b"\xff" * 40,
        lambda data: data[:-1] + b"\0",
        lambda data: b"\xff" * 60,
        lambda data: b"\0" * len(data),
    ],
)
def test_another_string_for_a_message_is_refused(spoil: Callable[[bytes], bytes], coder: str) -> None:
    rule = table_rule(50, 4)
    data = encode(rule, bits_of(50, 1, 50))
    assert len(data) > 3
    with pytest.raises(WireError, match=r"^\d+ range coded bytes that no sender makes of 50 spikes$"):
        decode(rule, spoil(data), 50)


@pytest.mark.parametrize(("count", "known"), [(0, 0), (51, 0), (10, 10), (10, 11), (51, 2)])
def test_counts_that_do_not_fit_the_rule_are_refused(count: int, known: int) -> None:
    rule = table_rule(50, 4)
    with pytest.raises(WireError, match=rf"^{count} spikes, {known} of them known, for a rate table of 50$"):
        decode(rule, b"\x01", count, np.zeros(known, np.bool_))


def test_bits_that_do_not_fit_the_rule_are_refused() -> None:
    rule = table_rule(50, 4)
    for bits, first in [
        (ZEROS[:0], 0),
        (np.zeros(51, np.bool_), 0),
        (ZEROS, 50),
        (ZEROS.reshape(5, 10), 0),
        (ZEROS, -1),
    ]:
        with pytest.raises(WireError, match=r"^\(.*\) spikes, .* of them known, for a rate table of 50$"):
            encode(rule, bits, first)


def test_work_goes_with_the_number_of_bits_whatever_the_bytes_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rangecoder, "library", lambda: None)
    asked = []
    rate = FollowTable.rate
    monkeypatch.setattr(FollowTable, "rate", lambda self, i: asked.append(i) or rate(self, i))
    rule = table_rule(100, 4)
    for data in (b"", b"\xff" * 100_000, bytes(100_000), b"\x80" * 30):
        asked.clear()
        with pytest.raises(WireError):
            decode(rule, data, 100)
        assert len(asked) == 200  # once to read, once to see that a sender would have written this
