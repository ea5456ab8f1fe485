"""The reader of pickles: what official files and their copies look like, and what it refuses."""

import pickle
import pickletools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ecc_tools.data import pickled
from ecc_tools.data.pickled import PickleRefused, read_pickle
from support.datasets import cifar_batch

BATCH = cifar_batch([0, 1, 255, 256, 70_000, -1, 1 << 40])


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_what_python_and_numpy_write(protocol, order):
    pixels = np.asarray(BATCH[b"data"], order=order)
    found = read_pickle(pickle.dumps(BATCH | {b"data": pixels, "text": "ä"}, protocol=protocol))
    assert np.array_equal(found.pop("data"), pixels)
    assert found == {
        "batch_label": b"a batch",
        "labels": BATCH[b"labels"],
        "filenames": BATCH[b"filenames"],
        "text": "ä",
    }


@pytest.mark.parametrize("old", [b"numpy._core.multiarray", b"numpy.core.multiarray"])
def test_reads_arrays_of_numpy_1_and_2(old):
    blob = pickle.dumps(BATCH, protocol=2)
    written = b"cnumpy._core.multiarray\n" if b"_core" in blob else b"cnumpy.core.multiarray\n"
    assert np.array_equal(read_pickle(blob.replace(written, b"c" + old + b"\n"))["data"], BATCH[b"data"])


def test_reads_what_python_2_wrote():
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x04cnumpy\nndarray\nq\x05K\x00\x85U\x01b\x87Rq\x06(K\x01K\x01K\x02\x86"
        b"cnumpy\ndtype\nq\x07U\x02u1K\x00K\x01\x87Rq\x08(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"T\x02\x00\x00\x00\x07\x09tb"
    )
    found = read_pickle(b"\x80\x02}q\x01(U\x04dataq\x02" + array + b"U\x06labelsq\x0a]q\x0b(K\x03K\x04eu.")
    assert found["data"].tolist() == [[7, 9]]
    assert found["labels"] == [3, 4]


class Hostile:
    def __reduce__(self):
        return (print, ("called",))


DAMAGED = [
    (b"", "truncated"),
    (b"\x80\x02}", "truncated"),
    (b"}", "truncated"),
    (b".", "damaged"),
    (b"].", "it holds no dictionary"),
    (b"}T\xff\xff\xff\x7f", "truncated"),
    (b"I1\n.", "its opcode b'I' has no place in such a file"),
    (b"cos\nsystem\n(U\x02lstR.", "it names 'os.system', which has no place in such a file"),
    (b"cos\ndtype\n.", "it names 'os.dtype', which has no place in such a file"),
    (b"c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00utf8\x86R.", "bytes in it are written in another code"),
    (b"cnumpy\n" + b"a\\n" * 60 + b"\n.", "has no place in such a file"),
    (pickle.dumps({b"x": Hostile()}, protocol=4), "it names 'builtins.print', which has no place in such a file"),
    (pickle.dumps({b"x": np.zeros(3, np.int64)}, protocol=2), "an array in it does not hold bytes"),
    (pickle.dumps({(1, 2): 3}), "a dictionary in it has keys that are no text"),
    (b"}K\x01a.", "it appends to something that is no list"),
    (b"K\x01K\x02R.", "it calls something that has no name"),
    (b"}K\x01b.", "it fills something that is no array"),
    (b"cnumpy\nndarray\n)R.", "damaged"),
    (b"h\x05.", "damaged"),
    (b"\x85.", "damaged"),
]


@pytest.mark.parametrize(("blob", "text"), DAMAGED)
def test_refuses_what_has_no_place(blob, text, capsys):
    with pytest.raises(PickleRefused, match=r"\A[^\n]+\Z") as caught:
        read_pickle(blob)
    assert text in str(caught.value)
    assert capsys.readouterr().out == ""


def test_a_program_has_an_end(monkeypatch):
    monkeypatch.setattr(pickled, "MAX_OPCODES", 1000)
    with pytest.raises(PickleRefused, match="it has more than 1,000 opcodes"):
        read_pickle(b"N" * 1001)


HUGE = [
    (b"(K\x01J\x00\x00\x00\x7fJ\x00\x00\x00\x7f\x86", "no shape that 2 bytes fill"),
    (b"(K\x01K\x02K\x02\x86", "an array of shape (2, 2) in it holds 2 bytes"),
    (b"(K\x01J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86", "no shape that 2 bytes fill"),
    (b"(K\x01K\x02", "no shape that 2 bytes fill"),
]


@pytest.mark.parametrize(("shape", "text"), HUGE)
def test_an_array_is_as_large_as_its_bytes(shape, text):
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    state = shape + b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R\x89U\x02\x07\x09tb"
    with pytest.raises(PickleRefused) as caught:
        read_pickle(b"}U\x04data" + made + state + b"s.")
    assert text in str(caught.value)


OPCODES = [code.code.encode("latin-1") for code in pickletools.opcodes]
WHOLE = pickle.dumps(cifar_batch([0, 1]), protocol=2)


@given(st.lists(st.one_of(st.sampled_from(OPCODES), st.binary(max_size=6)), max_size=30).map(b"".join))
@example(b"(")
def test_no_program_makes_anything_but_a_dictionary_or_a_refusal(blob):
    try:
        found = read_pickle(blob + b".")
    except PickleRefused:
        return
    assert isinstance(found, dict)


@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=4))
def test_no_altered_file_makes_anything_but_a_dictionary_or_a_refusal(at, patch):
    try:
        found = read_pickle(WHOLE[:at] + patch + WHOLE[at + len(patch) :])
    except PickleRefused:
        return
    assert isinstance(found, dict)
