import numpy as np

from ecc_tools.digits import KNOWN, PARTS, load_digits


def test_parts_have_their_sizes_and_share_no_scan():
    parts = load_digits(0)
    assert {name: len(part.labels) for name, part in parts.items()} == {n: 10 * count for n, count in PARTS.items()}
    # 1,797 scans hold a few exact twins; as many different frames must remain as the data set has
    every = np.concatenate([part.frames.reshape(len(part.frames), -1) for part in parts.values()])
    assert len(np.unique(every, axis=0)) == len(every)


def test_the_seed_decides_and_every_digit_is_in_every_part():
    once, again, other = load_digits(1), load_digits(1), load_digits(2)
    for name, count in PARTS.items():
        assert np.array_equal(once[name].frames, again[name].frames)
        assert not np.array_equal(once[name].frames, other[name].frames)
        assert np.bincount(once[name].labels).tolist() == [count] * 10


def test_the_edges_digits_are_a_part_of_their_own():
    known = load_digits(0)["first"].of(range(KNOWN))
    assert set(known.labels.tolist()) == set(range(KNOWN))
    assert known.frames.shape == (PARTS["first"] * KNOWN, 16, 16, 1)
    assert known.frames.dtype == np.uint8
