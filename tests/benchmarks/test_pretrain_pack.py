"""The archive for a pretraining elsewhere: what is in it, and that it is not larger than was asked for."""

import subprocess
import sys
import tarfile

import numpy as np
import pytest

from benchmarks import pretrain_pack
from keras_cbpnet import cli
from keras_cbpnet.data import open_dataset


@pytest.fixture
def road(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"class_names": np.array(["a", "b"])}
    for part, each in (("train", 300), ("test", 20)):
        arrays[f"x_{part}"] = rng.integers(0, 256, (2 * each, 32, 32, 3), np.uint8)
        arrays[f"y_{part}"] = np.repeat([0, 1], each)
    np.savez(tmp_path / "data.npz", **arrays)
    np.savez(tmp_path / "teacher.npz", x=np.zeros(3))
    return tmp_path


def pack(road, *options):
    files = (
        "--data",
        f"npz:{road / 'data.npz'}",
        "--teacher-weights",
        road / "teacher.npz",
        "--output",
        road / "pack.tgz",
    )
    return cli.run(pretrain_pack.main, [*map(str, files), "--preset", "vit_micro_32", *options])


def test_the_archive_trains_with_as_many_images_as_fit(road, capsys):
    assert pack(road, "--megabytes", "1.5") == 0
    assert (road / "pack.tgz").stat().st_size <= 1.5e6
    with tarfile.open(road / "pack.tgz") as tar:
        tar.extractall(road / "there", filter="data")
    there = road / "there"
    assert [path.name for path in (there / "keras_cbpnet" / "weights").iterdir()] == ["vit_micro_32.npz"]
    assert (there / "teacher.npz").read_bytes() == (road / "teacher.npz").read_bytes()
    data = open_dataset(f"folder:{there / 'images'}", 32)
    counts = np.bincount(data.y_train)
    assert counts.min() > 20
    assert np.ptp(counts) <= 1
    assert len(data.y_train) < 600  # noise is large: not all fit
    assert len(data.y_test) >= 2
    command = (there / "train.sh").read_text().splitlines()[-1].split(" exec python3 ")[1].split()
    help_ = subprocess.run([sys.executable, *command, "--help"], cwd=there, capture_output=True, text=True)
    assert help_.returncode == 0  # the code in the archive is enough, and knows every option
    assert "sh train.sh" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--megabytes", "0.2"), "--megabytes is 0.2; code and weights take"),
        (("--quality", "0"), "--quality is 0; use 1 to 100"),
    ],
)
def test_bad_input_is_one_line(road, capsys, options, message):
    assert pack(road, *options) == 2
    assert message in capsys.readouterr().err
    assert not (road / "pack.tgz").exists()
