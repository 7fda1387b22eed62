"""CIFAR-100 (Krizhevsky 2009) through `keras.datasets`, with its official split and class names."""

from __future__ import annotations

import numpy as np

from keras_cbpnet.data.dataset import Dataset
from keras_cbpnet.data.download import Archive, fetch
from keras_cbpnet.data.files import datasets_folder
from keras_cbpnet.data.preprocessing import ImageSize, height_and_width

__all__ = ["CLASS_NAMES", "load_cifar100"]

ARCHIVE = Archive(
    "CIFAR-100",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",  # that Keras checks
    "its authors state no licence and ask to be cited (Krizhevsky 2009)",
)
FILE = "cifar-100-python-target_archive"  # the name Keras looks for

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
        UserError: it cannot be downloaded, or the archive there is damaged (Keras would replace it).
    """
    file = datasets_folder() / FILE
    fetch(ARCHIVE, file, f"CIFAR-100 is not in {file.parent}", f"save it as {file}")
    import keras

    (x_train, y_train), (x_test, y_test) = keras.datasets.cifar100.load_data()
    return Dataset(
        x_train,
        y_train.reshape(-1).astype(np.int64),
        x_test,
        y_test.reshape(-1).astype(np.int64),
        CLASS_NAMES,
        image_size=height_and_width(image_size),
    )
