"""CIFAR-100 (Krizhevsky 2009) through `keras.datasets`, with its official split and class names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.files import datasets_folder
from keras_cbpnet.data.preprocessing import ImageSize, height_and_width
from keras_cbpnet.errors import UserError

__all__ = ["CLASS_NAMES", "load_cifar100"]

URL = "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz"
ARCHIVE = "cifar-100-python-target_archive"  # the name Keras looks for
SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"  # that Keras checks

CLASS_NAMES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
    caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
    flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
    motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
    poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
    squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
    wardrobe whale willow_tree wolf woman worm
    """.split()
)


def load_cifar100(image_size: ImageSize, seed: int = 0) -> Dataset:
    """Load the 50,000 training and 10,000 test images, downloading them once.

    Args:
        image_size: side of the images in pixels, or (height, width), that `Dataset.images` gives them at.
        seed: has no influence.

    Returns:
        The data set.

    Raises:
        UserError: no network and no archive, or the archive there is damaged (Keras would replace it).
    """
    archive = datasets_folder() / ARCHIVE
    if archive.is_file() and _sha256(archive) != SHA256:
        raise UserError(
            f"{archive} is damaged or incomplete; remove it to download it again, or save {URL} under its name"
        )
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.cifar100.load_data()
    except Exception as error:  # Keras raises bare Exception when a download fails
        raise UserError(
            f"CIFAR-100 is not in Keras' folder and cannot be downloaded ({type(error).__name__}); "
            f"save {URL} as {archive}"
        ) from error
    return Dataset(
        x_train,
        y_train.reshape(-1).astype(np.int64),
        x_test,
        y_test.reshape(-1).astype(np.int64),
        CLASS_NAMES,
        image_size=height_and_width(image_size),
    )


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
