"""CUB-200-2011 (Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011): 200 species of birds."""

# N images

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.download import Archive, require_data
from keras_cbpnet.data.files import datasets_folder, read_lines
from keras_cbpnet.data.images import ImageFiles
from keras_cbpnet.data.preprocessing import ImageSize
from keras_cbpnet.errors import UserError

__all__ = ["load_cub200"]

ARCHIVE = Archive(
    "CUB-200-2011",
    "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
    "0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
    "its authors state no licence; the photographs, from Flickr, belong to their makers",
)


def load_cub200(image_size: ImageSize, seed: int = 0) -> Dataset:
    """Load the 11,788 images with the official split, 5,994 and 5,794; they are downloaded once (1.2 GB).

    Classes keep their official order and spelling, without the number in front: `Black_footed_Albatross`.

    Args:
        image_size: side of the images in pixels, or (height, width).
        seed: has no influence.

    Returns:
        The data set.

    Raises:
        UserError: the folder CUB_200_2011 cannot be downloaded, or one of its lists or images is missing or damaged.
    """
    root = datasets_folder() / "CUB_200_2011"
    require_data(root, ARCHIVE)
    classes = _table(root / "classes.txt")
    names = tuple(name.partition(".")[2] or name for name in classes.values())
    images = _table(root / "images.txt")
    labels = _column(root / "image_class_labels.txt", images, {number: i for i, number in enumerate(classes)})
    training = _column(root / "train_test_split.txt", images, {"0": 0, "1": 1}) == 1

    files = [root / "images" / name for name in images.values()]
    train, test = ([file for file, mine in zip(files, part) if mine] for part in (training, ~training))
    return Dataset(
        ImageFiles(train, image_size), labels[training], ImageFiles(test, image_size), labels[~training], names
    )


def _table(file: Path) -> dict[str, str]:
    """Read lines of `<number> <value>`."""
    table = {}
    for line in read_lines(file):
        number, _, value = line.partition(" ")
        if not value:
            raise UserError(f"{file} has the line '{line}', not a number and a value; unpack CUB_200_2011.tgz again")
        table[number] = value
    return table


def _column(file: Path, images: Iterable[str], meaning: Mapping[str, int]) -> NDArray[np.int64]:
    """Read one value per image, int64 [N] in the order of `images`."""
    table = _table(file)
    for image in images:
        if table.get(image) not in meaning:
            raise UserError(f"{file} says {table.get(image)} of image {image}; unpack CUB_200_2011.tgz again")
    return np.asarray([meaning[table[image]] for image in images], np.int64)
