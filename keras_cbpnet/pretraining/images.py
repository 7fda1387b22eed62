"""The images of a pretraining, as the student and as its teacher see them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data import open_dataset
from keras_cbpnet.data.few import drawn
from keras_cbpnet.data.preprocessing import resize_images
from keras_cbpnet.data.record import check_data, record_of
from keras_cbpnet.errors import UserError
from keras_cbpnet.pretraining.views import views

# Dimensions: N training images, M held-out ones, S x S pixels for the student, H x H for the teacher, K classes.


class Images(NamedTuple):
    """What is trained on and what is held out, at the size of the backbone.

    Attributes:
        train: uint8 [N, S, S, 3].
        shares: float32 [N, K], of the classes in each.
        test: uint8 [M, S, S, 3].
        labels: int64 [M].
        record: of the data set that they come from; see `record_of`.
        seen: uint8 [N, H, H, 3], the training images as the teacher sees them.
        seen_test: uint8 [M, H, H, 3].
    """

    train: NDArray[np.uint8]
    shares: NDArray[np.float32]
    test: NDArray[np.uint8]
    labels: NDArray[np.int64]
    record: dict[str, Any]
    seen: NDArray[np.uint8]
    seen_test: NDArray[np.uint8]


def prepared(args: argparse.Namespace, size: int, work: Path) -> Images:
    """Return the images of `--data`, as they are or, with `--views` or `--mosaics`, as `views`.

    With `--detail` the views are made at that size for the teacher, and reduced from there to `size` for the student.

    Raises:
        UserError: they are not those that a pretraining in the folder `work` began with.
    """
    data = open_dataset(args.data, size)
    check_data(work, args.data, data)
    record = record_of(args.data, data)
    classes = len(data.class_names)
    if not args.epochs + args.qat_epochs:  # nothing is trained
        data = data.with_training_rows(drawn(data.y_train, max(args.batch, classes)))
    if not args.mosaics and not args.views:
        data = data.resized()
        shares = np.eye(classes, dtype=np.float32)[data.y_train]
        train, test = data.x_train[:], data.x_test[:]
        return Images(train, shares, test, data.y_test, record, train, test)
    stored = data.x_train.shape[1:3]
    if stored[0] != stored[1]:
        raise UserError(f"--views and --mosaics need square images, got {stored[0]}x{stored[1]}; leave them out")
    count = args.views or len(data.x_train)
    detail = args.detail or size
    seen, shares = views(data.x_train[:], data.y_train, classes, detail, count, args.mosaics, args.seed)
    seen_test = resize_images(data.x_test[:], detail)
    train, test = (resize_images(images, size) for images in (seen, seen_test))
    return Images(train, shares, test, data.y_test, record, seen, seen_test)
