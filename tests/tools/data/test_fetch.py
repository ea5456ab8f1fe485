"""Fetching a set: downloads that break off, archives that cannot be trusted, checksums."""

import hashlib
import io
import stat
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from ecc_tools.data import cifar, download, unpacking
from ecc_tools.data import fetch as fetching
from ecc_tools.data.errors import ChecksumWrong, DataCorrupt, DataNotFound, DataUnreadable, DownloadFailed
from ecc_tools.data.fetch import NothingToFetch, fetch, verify
from ecc_tools.data.sets import open_dataset
from ecc_tools.data.unpacking import unpack
from support.datasets import web_server, write_cifar, write_classes, write_tiny_imagenet

AGAIN = "run the same command again to go on from there"


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def packed_tar(folder):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.add(folder, folder.name)
    return stream.getvalue()


def packed_zip(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with web_server({}) as served:
        yield served


@pytest.fixture
def official(tmp_path, monkeypatch, server):
    """A CIFAR-10 at its 'official address'; the archive's bytes."""
    source = tmp_path / "source"
    monkeypatch.setitem(cifar.LAYOUTS, "cifar-10", write_cifar(source))
    content = packed_tar(source / "cifar-10-batches-py")
    server.files["/cifar-10-python.tar.gz"] = content
    known = fetching.ARCHIVES["cifar-10"]
    url = f"{server.url}/cifar-10-python.tar.gz"
    monkeypatch.setitem(fetching.ARCHIVES, "cifar-10", replace(known, url=url, md5=md5(content)))
    return content


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_fetched_set_can_be_opened_and_verified(tmp_path, official, server):
    root = tmp_path / "new" / "data"
    assert fetch("cifar-10", root) == (root / "cifar-10-batches-py", True)
    assert names(root) == ["cifar-10-batches-py", "cifar-10-batches-py.sha256"]
    assert len(open_dataset("cifar-10", root).learning().labels) == 20
    assert verify("cifar-10", root) == "7 files are the official ones, by their MD5"
    assert fetch("cifar-10", root) == (root / "cifar-10-batches-py", False)
    assert server.asked == [("/cifar-10-python.tar.gz", None)]


def test_the_kept_checksums_are_those_of_sha256sum(tmp_path, official):
    fetch("cifar-10", tmp_path)
    command = ["sha256sum", "--strict", "-c", "cifar-10-batches-py.sha256"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count(": OK\n") == 7


def test_an_interrupted_download_goes_on_where_it_stopped(tmp_path, official, server):
    root, total = tmp_path / "data", len(official)
    server.cut_after = first = total // 3
    with pytest.raises(DownloadFailed) as caught:
        fetch("cifar-10", root)
    url = fetching.ARCHIVES["cifar-10"].url
    assert str(caught.value) == f"{url}: interrupted after {first:,} of {total:,} bytes; {AGAIN}"
    assert names(root) == ["cifar-10-python.tar.gz.part"]
    with pytest.raises(DownloadFailed) as caught:
        fetch("cifar-10", root)
    assert str(caught.value) == f"{url}: interrupted after {2 * first:,} of {total:,} bytes; {AGAIN}"
    server.cut_after = None
    assert fetch("cifar-10", root)[1]
    assert [wanted for _, wanted in server.asked] == [None, f"bytes={first}-", f"bytes={2 * first}-"]
    assert len(open_dataset("cifar-10", root).test().labels) == 3


def test_a_server_without_ranges_sends_all_again(tmp_path, official, server):
    root = tmp_path / "data"
    server.ranges, server.cut_after = False, 1000
    with pytest.raises(DownloadFailed, match="interrupted after 1,000 of"):
        fetch("cifar-10", root)
    server.cut_after = None
    assert fetch("cifar-10", root)[1]
    assert len(server.asked) == 2


def test_a_part_that_is_whole_already_is_only_checked(tmp_path, official, server):
    (tmp_path / "cifar-10-python.tar.gz.part").write_bytes(official)
    assert fetch("cifar-10", tmp_path)[1]
    assert server.asked == [("/cifar-10-python.tar.gz", f"bytes={len(official)}-")]


@pytest.mark.parametrize("extra", [b"", b"more"])
def test_what_is_not_the_official_archive_is_removed(tmp_path, official, server, extra):
    spoilt = bytes([official[0] ^ 1]) + official[1:] + extra
    (tmp_path / "cifar-10-python.tar.gz.part").write_bytes(spoilt)
    with pytest.raises(DownloadFailed) as caught:
        fetch("cifar-10", tmp_path)
    assert str(caught.value) == (
        f"{fetching.ARCHIVES['cifar-10'].url}: what came has not the official checksum and was removed; "
        "fetch the set again"
    )
    assert names(tmp_path) == ["source"]


def test_a_download_larger_than_any_set_stops(tmp_path, official, server, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 1000)
    with pytest.raises(DownloadFailed) as caught:
        fetch("cifar-10", tmp_path)
    assert str(caught.value).endswith(": more than 1,000 bytes; its server sends something else today")


def test_a_server_that_lacks_the_archive_is_told(tmp_path, official, server):
    server.files.clear()
    with pytest.raises(DownloadFailed) as caught:
        fetch("cifar-10", tmp_path)
    url = fetching.ARCHIVES["cifar-10"].url
    assert str(caught.value) == f"{url}: the server answers 404 Not Found; try again later"


def test_a_server_that_is_not_there_is_told(tmp_path, official, monkeypatch):
    gone = replace(fetching.ARCHIVES["cifar-10"], url="http://127.0.0.1:9/cifar-10-python.tar.gz")
    monkeypatch.setitem(fetching.ARCHIVES, "cifar-10", gone)
    with pytest.raises(DownloadFailed) as caught:
        fetch("cifar-10", tmp_path)
    assert str(caught.value) == (
        f"{gone.url}: cannot be reached (Connection refused); check the network, then try again"
    )


def test_a_disk_that_refuses_is_told(tmp_path, official):
    path = tmp_path / "cifar-10-python.tar.gz.part"
    path.mkdir()
    with pytest.raises(DataUnreadable) as caught:
        fetch("cifar-10", tmp_path)
    assert str(caught.value) == (f"{path}: Is a directory; check the path, its permissions, and the space on its disk")


def test_a_root_that_is_a_file_is_told(tmp_path):
    (tmp_path / "data").write_text("x")
    with pytest.raises(DataUnreadable) as caught:
        fetch("cifar-10", tmp_path / "data")
    assert str(caught.value) == (
        f"{tmp_path / 'data'}: File exists; check the path, its permissions, and the space on its disk"
    )


def test_an_archive_that_lies_there_is_used_and_kept(tmp_path, official, server):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(official)
    assert fetch("cifar-10", tmp_path)[1]
    assert server.asked == []
    assert (tmp_path / "cifar-10-python.tar.gz").exists()


def test_a_truncated_archive_that_lies_there_is_told(tmp_path, official, server):
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(official[:-100])
    with pytest.raises(ChecksumWrong) as caught:
        fetch("cifar-10", tmp_path)
    assert str(caught.value) == (f"{path}: its checksum is not the official one; delete it and fetch the set again")


def test_what_is_not_downloaded_is_told(tmp_path):
    known = "those that can be fetched are cifar-10, cifar-100, tiny-imagenet, caltech-101"
    for name, reason in (("digits", "comes with scikit-learn"), ("imagenet", "is no set with an address")):
        with pytest.raises(NothingToFetch) as caught:
            fetch(name, tmp_path)
        assert str(caught.value) == f"'{name}' {reason}; {known}"


def test_a_fetched_zip_is_verified_by_the_kept_checksums(tmp_path, server, monkeypatch):
    source = write_tiny_imagenet(tmp_path / "source")
    files = {path.relative_to(source.parent).as_posix(): path for path in source.rglob("*") if path.is_file()}
    content = packed_zip({name: path.read_bytes() for name, path in files.items()})
    server.files["/tiny-imagenet-200.zip"] = content
    known = fetching.ARCHIVES["tiny-imagenet"]
    monkeypatch.setitem(
        fetching.ARCHIVES, "tiny-imagenet", replace(known, url=f"{server.url}/tiny-imagenet-200.zip", md5=md5(content))
    )
    fetch("tiny-imagenet", tmp_path)
    assert verify("tiny-imagenet", tmp_path) == f"{len(files)} files are as they were fetched, by their SHA-256"
    changed = tmp_path / "tiny-imagenet-200" / "words.txt"
    changed.write_text("other")
    with pytest.raises(ChecksumWrong, match=r"words\.txt: its checksum is not the official one"):
        verify("tiny-imagenet", tmp_path)
    changed.unlink()
    with pytest.raises(DataNotFound, match=r"words\.txt: not there"):
        verify("tiny-imagenet", tmp_path)
    assert verify("tiny-imagenet", tmp_path / "source") == (
        "10 images can be read; there are no checksums to compare them with"
    )


def test_an_archive_inside_an_archive_is_unpacked(tmp_path):
    inside = packed_tar(write_classes(tmp_path / "101_ObjectCategories", {"anchor": 3}))
    path = tmp_path / "caltech-101.zip"
    path.write_bytes(packed_zip({"caltech-101/101_ObjectCategories.tar.gz": inside, "caltech-101/other.m": b"x"}))
    into = tmp_path / "into"
    into.mkdir()
    inner = fetching.ARCHIVES["caltech-101"].inner
    shares = []
    sums = unpack(path, "101_ObjectCategories", into, shares.append, inner=inner)
    assert sorted(sums) == [f"101_ObjectCategories/anchor/{index:03}.png" for index in range(3)]
    assert names(into) == ["101_ObjectCategories"]
    assert all(0 < share <= 1 for share in shares)
    with pytest.raises(DataCorrupt, match=r"caltech-101\.zip: damaged .*no item named 'other"):
        unpack(path, "101_ObjectCategories", into, shares.append, inner="other.tar.gz")


def tar_with(**entry):
    """An archive of a good file and a member with these attributes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        good = tarfile.TarInfo("set/good")
        good.size = 2
        tar.addfile(good, io.BytesIO(b"ok"))
        member = tarfile.TarInfo()
        vars_ = {"name": "set/bad", "size": 0} | entry
        for key, value in vars_.items():
            setattr(member, key, value)
        tar.addfile(member, io.BytesIO(b"x" * vars_["size"]))
    return stream.getvalue()


def zip_with(name, mode=stat.S_IFREG, method=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = (mode | 0o644) << 16
        info.compress_type = method
        archive.writestr(info, b"target")
    return stream.getvalue()


HOSTILE = [
    ("a.tar.gz", tar_with(name="set/../../out"), "'set/../../out' in it leads out of its folder"),
    ("a.tar.gz", tar_with(name="/etc/out"), "'/etc/out' in it leads out of its folder"),
    ("a.tar.gz", tar_with(name="set\\..\\out"), "'set\\\\..\\\\out' in it leads out of its folder"),
    ("a.tar.gz", tar_with(type=tarfile.SYMTYPE, linkname="/etc"), "'set/bad' in it is no plain file"),
    ("a.tar.gz", tar_with(type=tarfile.LNKTYPE, linkname="set/good"), "'set/bad' in it is no plain file"),
    ("a.tar.gz", tar_with(type=tarfile.FIFOTYPE), "'set/bad' in it is no plain file"),
    ("a.tar.gz", tar_with(name="set/good"), "'set/good' is in it twice"),
    ("a.tar.gz", tar_with(size=5000), "more than 4,000 bytes in it"),
    ("a.tar.gz", tar_with(size=3000)[:-20], "damaged"),
    ("a.tar.gz", b"", "damaged"),
    ("a.tar.gz", b"\x1f\x8b\x08\x00 no gzip", "damaged"),
    ("a.zip", zip_with("../out"), "'../out' in it leads out of its folder"),
    ("a.zip", zip_with("set/link", stat.S_IFLNK), "'set/link' in it is no plain file"),
    ("a.zip", zip_with("set/file", method=zipfile.ZIP_LZMA), "'set/file' in it is no plain file"),
    ("a.zip", zip_with("set/file")[:-4], "damaged (File is not a zip file)"),
    ("a.zip", zip_with("set/file").replace(b"target", b"tarGet"), "damaged (Bad CRC-32 for file 'set/file')"),
    ("a.zip", packed_zip({"other/x": b"x"}), "no folder 'set' in it"),
    ("a.zip", packed_zip({f"set/{index}": b"" for index in range(6)}), "more than 5 files in it"),
]


@pytest.mark.parametrize(("name", "content", "reason"), HOSTILE)
def test_an_archive_that_cannot_be_trusted_leaves_nothing(tmp_path, monkeypatch, name, content, reason):
    monkeypatch.setattr(unpacking, "MAX_BYTES", 4000)
    monkeypatch.setattr(unpacking, "MAX_FILES", 5)
    into = tmp_path / "below" / "into"
    into.mkdir(parents=True)
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataCorrupt, match=r"\A[^\n]+\Z") as caught:
        unpack(path, "set", into, lambda share: None)
    assert str(caught.value).startswith(f"{path}: {reason}")
    assert names(into) == []
    assert names(into.parent) == ["into"]
    assert not Path("/etc/out").exists()


def test_what_an_earlier_try_left_is_cleared(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(zip_with("set/file"))
    (tmp_path / ".set.unpacking" / "set").mkdir(parents=True)
    (tmp_path / ".set.unpacking" / "set" / "old").write_text("x")
    unpack(path, "set", tmp_path, lambda share: None)
    assert names(tmp_path / "set") == ["file"]
