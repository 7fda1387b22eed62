"""scikit-learn's handwritten digits, the data set that is always there."""

from __future__ import annotations

import numpy as np

from keras_cbpnet.data.dataset import Dataset, stratified_split
from keras_cbpnet.data.preprocessing import ImageSize, height_and_width

__all__ = ["load_digits"]


def load_digits(image_size: ImageSize, seed: int = 0) -> Dataset:
    """Load scikit-learn's 1,797 handwritten digits (8x8, 17 grey levels; Alpaydin & Kaynak, UCI 1998), split 80/20."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)  # (N, 8, 8)
    images = np.repeat(grey[..., None], 3, axis=3)
    labels = bunch.target.astype(np.int64)
    names = tuple(str(name) for name in bunch.target_names)
    train, test = stratified_split(labels, names)
    size = height_and_width(image_size)
    return Dataset(images[train], labels[train], images[test], labels[test], names, image_size=size)
