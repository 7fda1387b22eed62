"""What the student sees of a view is what its teacher sees, reduced."""

import argparse

import numpy as np

from keras_cbpnet.data.preprocessing import resize_images
from keras_cbpnet.pretraining.images import prepared


def test_a_teacher_sees_the_same_views_in_more_detail(tmp_path):
    rng = np.random.default_rng(0)
    part = {"x_train": rng.integers(0, 256, (12, 32, 32, 3), np.uint8), "y_train": np.arange(12) % 3}
    part |= {"x_test": part["x_train"][:4], "y_test": part["y_train"][:4]}
    np.savez(tmp_path / "noise.npz", **part, class_names=np.array(["a", "b", "c"]))
    args = argparse.Namespace(
        epochs=1, qat_epochs=0, data=f"npz:{tmp_path}/noise.npz", views=10, mosaics=0.5, seed=0, detail=24
    )
    images = prepared(args, 8, tmp_path)
    assert images.seen.shape == (10, 24, 24, 3)
    assert images.seen_test.shape == (4, 24, 24, 3)
    np.testing.assert_array_equal(images.train, resize_images(images.seen, 8))
    np.testing.assert_array_equal(images.test, resize_images(images.seen_test, 8))
    args.detail = 0
    without = prepared(args, 8, tmp_path)
    assert without.seen is without.train
    np.testing.assert_allclose(without.shares, images.shares)  # the same views
