"""CORe50 (Lomonaco and Maltoni, CoRL 2017): 50 household objects filmed in 11 sessions, indoors and outdoors."""

# N images

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.download import Archive, require_data
from keras_cbpnet.data.files import datasets_folder, read_lines
from keras_cbpnet.data.images import ImageFiles
from keras_cbpnet.data.preprocessing import ImageSize
from keras_cbpnet.errors import UserError

__all__ = ["CLASS_NAMES", "load_core50"]

ARCHIVE = Archive(
    "CORe50",
    "http://bias.csr.unibo.it/maltoni/download/core50/core50_128x128.zip",
    "745f3373fed08d69343f1058ee559e13",  # MD5, the one that is public
    "Creative Commons Attribution 4.0",
)

CATEGORIES = "plug_adapter mobile_phone scissor light_bulb can glass ball marker cup remote_control".split()
CLASS_NAMES = tuple(f"{name}{number}" for name in CATEGORIES for number in range(1, 6))  # o1 ... o50
TEST_SESSIONS = (3, 7, 10)
TRAIN_SESSIONS = (1, 2, 4, 5, 6, 8, 9, 11)

IMAGE = re.compile(r"s(\d+)/o(\d+)/C_\d+_\d+_\d+\.png")


def load_core50(image_size: ImageSize, seed: int = 0) -> Dataset:
    """Load the 164,866 cropped images: 50 classes (objects, official names), the training sessions as domains.

    The split is the official one: sessions 3, 7 and 10 are for testing, the other eight for training. Testing is on
    one fixed set whatever has been learned (section 5.2 of the paper), so `domain_test` is None: training sessions have
    no test images.

    They are downloaded once (some 5 GB). In datasets/core50 of Keras' folder lie core50_128x128 (s1 ... s11, in each
    o1 ... o50 with C_SS_OO_FFF.png) and, if unpacked there, the official batches_filelists: then the lists of
    NI_inc/run0 say which images are used, and for what. Classes are read from the paths, because NC lists number the
    objects differently in every run. With test_filelist.txt replaced by the official test_filelist_reduced.txt, every
    twentieth test image is used.

    Args:
        image_size: side of the images in pixels, or (height, width).
        seed: has no influence.

    Returns:
        The data set.

    Raises:
        UserError: the folder cannot be downloaded, or a list, an object or an image is missing or damaged.
    """
    root = datasets_folder() / "core50"
    images = root / "core50_128x128"
    require_data(images, ARCHIVE)
    lists = root / "batches_filelists"
    train, test = _listed(lists / "NI_inc" / "run0") if lists.is_dir() else _by_session(images)

    train_sessions, train_labels = _sessions_and_labels(train)
    _, test_labels = _sessions_and_labels(test)
    sessions, domains = np.unique(train_sessions, return_inverse=True)
    return Dataset(
        ImageFiles((images / path for path in train), image_size),
        train_labels,
        ImageFiles((images / path for path in test), image_size),
        test_labels,
        CLASS_NAMES,
        domain_names=tuple(f"s{session}" for session in sessions),
        domain_train=domains.astype(np.int64),
    )


def _by_session(images: Path) -> tuple[list[str], list[str]]:
    train, test = (
        [path for session in sessions for path in _frames(images, session)]
        for sessions in (TRAIN_SESSIONS, TEST_SESSIONS)
    )
    return train, test


def _frames(images: Path, session: int) -> list[str]:
    frames = []
    for number in range(1, len(CLASS_NAMES) + 1):
        folder = images / f"s{session}" / f"o{number}"
        files = sorted(folder.glob("C_*.png"))  # D_*.png are depth maps
        if not files:
            raise UserError(f"folder {folder} has no images C_*.png; unpack core50_128x128.zip again")
        frames += [file.relative_to(images).as_posix() for file in files]
    return frames


def _listed(run: Path) -> tuple[list[str], list[str]]:
    batches = sorted(run.glob("train_batch_*_filelist.txt"))
    if not batches:
        raise UserError(f"{run} has no train_batch_*_filelist.txt; unpack batches_filelists.zip again, or remove it")
    train, test = (
        [_path(file, line) for file in files for line in read_lines(file)]
        for files in (batches, [run / "test_filelist.txt"])
    )
    return train, test


def _path(file: Path, line: str) -> str:
    """Return the path in a line of `<path> <label>`."""
    path = line.partition(" ")[0]
    match = IMAGE.fullmatch(path)
    if not match or not 1 <= int(match[2]) <= len(CLASS_NAMES):
        raise UserError(
            f"{file} has the line '{line}', not s1/o1/C_01_01_000.png 0; unpack batches_filelists.zip again"
        )
    return path


def _sessions_and_labels(paths: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    numbers = np.asarray([[int(part[1:]) for part in path.split("/")[:2]] for path in paths], np.int64)  # (N, 2)
    return numbers[:, 0], numbers[:, 1] - 1
