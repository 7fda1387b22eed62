"""Features as a file: what benchmarks that take --features read."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.common import features
from benchmarks.plasticity.stream import load_raw
from keras_cbpnet.models.backbone import Backbone


@pytest.mark.slow
def test_the_file_holds_the_backbone_s_features(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_CBPNET_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    images = {part: rng.integers(0, 256, (n, 32, 32, 3), np.uint8) for part, n in (("train", 500), ("test", 20))}
    labels = {part: np.arange(len(x)) % 10 for part, x in images.items()}
    arrays = {f"{name}_{part}": values[part] for name, values in (("x", images), ("y", labels)) for part in images}
    np.savez(tmp_path / "data.npz", **arrays, class_names=np.array(list("abcdefghij")))
    output = tmp_path / "features.npz"
    assert features.main(["--data", f"npz:{tmp_path / 'data.npz'}", "--preset", "vit_micro_32", str(output)]) == 0
    found = load_raw(output)
    np.testing.assert_array_equal(found.y_test, labels["test"])
    expected = Backbone.from_preset("vit_micro_32").features(images["test"])
    np.testing.assert_allclose(found.x_test, expected, atol=1e-4)
