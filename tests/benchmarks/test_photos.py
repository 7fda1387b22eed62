"""benchmarks.photos: what cannot be meant is one line, and a draw tests all photos that it does not train on."""

import numpy as np
import pytest

from benchmarks import photos
from keras_cbpnet.errors import UserError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--shots", "abc"], "'abc' is not a list of different numbers"),
        (["--shots", "0"], "--shots must be at least 1, got 0"),
        (["--seeds", "1,1"], "'1,1' is not a list of different numbers"),
        (["--preset", "vit_giant"], "unknown preset 'vit_giant'"),
        (["--weights", "w.npz"], "--weights is of one backbone, --preset names 3"),
    ],
)
def test_bad_input_is_one_line(change, message, tmp_path, refused):
    assert message in refused(photos.main, ["--photos", str(tmp_path), *change])


def test_classes_that_lie_apart_are_told_apart():
    labels = np.repeat(np.arange(3), 20)
    features = np.eye(3)[labels] * 8 + np.random.default_rng(0).normal(size=(60, 3))
    assert min(photos.probes(features.astype(np.float32), labels, 5, seed=0).values()) > 0.95
    with pytest.raises(UserError, match="--shots 20: a class has 20 photos"):
        photos.probes(features, labels, 20, seed=0)
