"""CIFAR's official files."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecc_tools.data import cifar
from ecc_tools.data.cifar import open_cifar, verify_cifar
from ecc_tools.data.errors import ChecksumWrong, DataCorrupt, DataError, DataNotFound, DataUnreadable
from support.datasets import CIFAR_NAMES, cifar_batch, write_cifar

REAL = Path(os.environ.get("ECC_DATA", "none"))
FOLDER = "cifar-10-batches-py"


@pytest.fixture
def root(tmp_path, monkeypatch):
    layout = write_cifar(tmp_path)
    monkeypatch.setitem(cifar.LAYOUTS, "cifar-10", layout)
    return tmp_path


def test_images_come_row_by_row_with_their_labels(root):
    data = open_cifar("cifar-10", root)
    assert data.names == tuple(name.decode() for name in CIFAR_NAMES)
    learning = data.learning()
    assert learning.labels.tolist() == [0, 1, 2, 0] * 5
    planes = cifar_batch([0, 1, 2, 0], seed=1)[b"data"].reshape(4, 3, 32, 32)
    assert learning.frames.shape == (20, 32, 32, 3)
    assert np.array_equal(learning.frames[4:8, 5, 7], planes[:, :, 5, 7])
    assert data.test().labels.tolist() == [2, 1, 0]


def test_the_test_file_is_not_opened_before_it_is_asked_for(root):
    (root / FOLDER / "test_batch").unlink()
    data = open_cifar("cifar-10", root)
    train, validation = data.training()
    assert len(train.labels) + len(validation.labels) == 20
    with pytest.raises(DataNotFound) as caught:
        data.test()
    assert str(caught.value) == (
        f"{root / FOLDER / 'test_batch'}: not there; fetch the set with 'ecc-tools data fetch', "
        "or name its folder with --root or ECC_DATA"
    )


def test_an_altered_file_is_told_by_its_checksum(root):
    path = root / FOLDER / "data_batch_3"
    blob = bytearray(path.read_bytes())
    blob[-40] ^= 1
    path.write_bytes(blob)
    text = f"{path}: its checksum is not the official one; delete it and fetch the set again"
    with pytest.raises(ChecksumWrong) as caught:
        open_cifar("cifar-10", root).learning()
    assert str(caught.value) == text
    with pytest.raises(ChecksumWrong) as caught:
        verify_cifar("cifar-10", root, lambda share: None)
    assert str(caught.value) == text
    assert len(open_cifar("cifar-10", root, verify=False).learning().labels) == 20


def test_verify_counts_the_files_and_tells_how_far_it_is(root):
    shares = []
    assert verify_cifar("cifar-10", root, shares.append) == 7
    assert shares == [pytest.approx(number / 7) for number in range(1, 8)]


WRONG = [
    ({b"data": np.zeros((2, 3071), np.uint8)}, "its 'data' is no matrix of 3072 columns"),
    ({b"data": np.zeros(3072, np.uint8)}, "its 'data' is no matrix of 3072 columns"),
    ({b"data": [1, 2]}, "its 'data' is no matrix of 3072 columns"),
    ({b"labels": [0]}, "it has 2 images, and no list 'labels' of as many"),
    ({b"labels": b"ab"}, "it has 2 images, and no list 'labels' of as many"),
    ({b"labels": [0, 3]}, "it has labels outside of 0 to 2"),
    ({b"labels": [0, -1]}, "it has labels outside of 0 to 2"),
    ({b"labels": [0, True]}, "it has labels outside of 0 to 2"),
    ({b"data": np.zeros((2, 3072))}, "its pickle cannot be read: an array in it does not hold bytes"),
    ({b"x": Path("x")}, "its pickle cannot be read: it names 'pathlib"),
]


@pytest.mark.parametrize(("change", "reason"), WRONG)
def test_content_that_does_not_fit_is_told(root, change, reason):
    path = root / FOLDER / "test_batch"
    path.write_bytes(pickle.dumps(cifar_batch([0, 1]) | change))
    with pytest.raises(DataCorrupt) as caught:
        open_cifar("cifar-10", root, verify=False).test()
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert str(caught.value).endswith("; fetch the set again")


def test_a_set_without_names_is_told(root):
    path = root / FOLDER / "batches.meta"
    path.write_bytes(pickle.dumps({b"label_names": [1, 2]}))
    with pytest.raises(DataCorrupt) as caught:
        open_cifar("cifar-10", root, verify=False)
    assert str(caught.value) == f"{path}: it has no list 'label_names'; fetch the set again"


def test_a_file_larger_than_any_official_one_is_not_read(root, monkeypatch):
    monkeypatch.setattr(cifar, "MAX_BYTES", 1000)
    path = root / FOLDER / "test_batch"
    with pytest.raises(DataCorrupt) as caught:
        open_cifar("cifar-10", root).test()
    assert str(caught.value) == f"{path}: it has more than 1,000 bytes; fetch the set again"


def test_a_folder_in_place_of_a_file_is_told(root):
    path = root / FOLDER / "test_batch"
    path.unlink()
    path.mkdir()
    with pytest.raises(DataUnreadable) as caught:
        open_cifar("cifar-10", root).test()
    assert str(caught.value) == f"{path}: Is a directory; check the path, its permissions, and the space on its disk"


@pytest.fixture(scope="module")
def one_file(tmp_path_factory):
    root = tmp_path_factory.mktemp("cifar")
    write_cifar(root)
    path = root / FOLDER / "test_batch"
    return root, path, path.read_bytes()


@given(st.data())
def test_corrupted_bytes_raise_nothing_but_data_errors(one_file, data):
    root, path, whole = one_file
    blob = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4))):
        if blob:
            blob[data.draw(st.integers(0, min(len(blob), 400) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(blob)
    try:
        part = open_cifar("cifar-10", root, verify=False).test()
    except DataError:
        return
    assert part.frames.shape == (len(part.labels), 32, 32, 3)


SHA256 = {  # of the pixels followed by the labels
    "cifar-10": (
        "f912919bdea371136f1aa4feed6beeca728015a5f08b1899a29c932a7e30be2b",
        "8193b3fbce55bec361cd1b8fd4880cb1649832dc4d6de6da1e7a21847a4843aa",
    ),
    "cifar-100": (
        "14886c20287690f03728355958fe0858f491f72573360ceb2c75e0feff0833ba",
        "1a89522ef3d4d89d962566436ca6223f42f4a2dcbfa3bd870b2ead933a83e54a",
    ),
}


@pytest.mark.parametrize(("name", "classes"), [("cifar-10", 10), ("cifar-100", 100)])
def test_the_official_sets(name, classes):
    if not (REAL / cifar.LAYOUTS[name].folder).is_dir():
        pytest.skip(f"ECC_DATA has no {name}")
    data = open_cifar(name, REAL)
    learning, test = data.learning(), data.test()
    assert np.bincount(learning.labels).tolist() == [50_000 // classes] * classes
    assert np.bincount(test.labels).tolist() == [10_000 // classes] * classes
    assert (learning.sha256, test.sha256) == SHA256[name]
    assert len(set(data.names)) == classes
