"""Training on a folder that is larger than what is kept of it in memory."""

import os
import subprocess
import sys

import pytest
from helpers import train_folder
from helpers.paths import TESTS
from PIL import Image

from keras_cbpnet.data import images

CLASSES = ("a", "b")
IMAGE = train_folder.SIZE**2 * 3 / 2**20  # MiB, decoded


@pytest.fixture
def peak(tmp_path):
    """peak(N): MiB of memory that a training on N images took at most."""

    def peak(count):
        root = tmp_path / f"{count} images"
        for label, name in enumerate(CLASSES):
            (root / name).mkdir(parents=True)
            colour = Image.new("RGB", (train_folder.SIZE, train_folder.SIZE), (90 * label, 60, 60))
            colour.save(root / name / "0.jpg")
            for index in range(1, count // len(CLASSES)):
                os.link(root / name / "0.jpg", root / name / f"{index}.jpg")
        work = tmp_path / f"work {count}"
        work.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(TESTS), "KERAS_CBPNET_CACHE": str(work / "cache")}
        command = [sys.executable, "-m", "helpers.train_folder", str(root), str(work)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return float(done.stdout.split()[-1])

    return peak


@pytest.mark.slow
def test_memory_does_not_grow_with_the_folder(peak):
    many = 1300
    train, test = (share * many * IMAGE for share in (0.8, 0.2))
    assert test < images.KEPT / 2**20 < train  # the test images are kept, those for training are not
    few, large = peak(120), peak(many)
    assert large - few < test + train / 2
    assert large < 2048
