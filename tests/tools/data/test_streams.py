import numpy as np
import pytest
from typer.testing import CliRunner

from ecc_device.sources import open_source
from ecc_tools.data.cli import data_app
from ecc_tools.data.sets import open_dataset
from ecc_tools.data.streams import TooFewImages, write_streams


def read(path):
    source = open_source(str(path))
    frames = list(source)
    source.close()
    return np.stack([frame.pixels for frame in frames]), [frame.label for frame in frames], [f.time_s for f in frames]


def test_recordings_share_no_image_and_hold_equally_many_of_each_class(tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    write_streams(open_dataset("digits"), paths, 100, 0, 5.0)
    (first, labels, times), (second, others, _) = map(read, paths)
    for names in (labels, others):
        assert {name: names.count(name) for name in names} == dict.fromkeys("0123456789", 10)
    assert labels != sorted(labels)
    every = np.concatenate([first, second]).reshape(200, -1)
    assert len(np.unique(every, axis=0)) == 200
    assert times[:3] == [0.0, 0.2, 0.4]
    test = open_dataset("digits").test().frames.reshape(-1, 256)
    assert all((test == frame).all(axis=1).any() for frame in every)


def test_the_seed_decides_and_the_same_bytes_come_again(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_streams(open_dataset("digits"), [tmp_path / f"{name}.npz"], 50, seed, 10.0)
    blobs = [(tmp_path / f"{name}.npz").read_bytes() for name in "abc"]
    assert blobs[0] == blobs[1] != blobs[2]


@pytest.mark.parametrize("frames", [5, 310])
def test_more_frames_than_there_are_images_are_refused(tmp_path, frames):
    message = (
        rf"^digits: 2 recordings of {frames} frames need \d+ test images of each of 10 classes, and one class has 60;"
    )
    with pytest.raises(TooFewImages, match=message):
        write_streams(open_dataset("digits"), [tmp_path / "a.npz", tmp_path / "b.npz"], frames, 0, 10.0)


def test_the_command_writes_and_names_the_files(tmp_path):
    done = CliRunner().invoke(data_app, ["record", "digits", "--frames", "20", "--out", str(tmp_path / "a.npz")])
    assert done.exit_code == 0
    assert done.stdout == f"{tmp_path / 'a.npz'}: {(tmp_path / 'a.npz').stat().st_size} bytes\n"
