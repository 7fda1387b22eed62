"""The server under use, shortened: predictions while one client teaches, memory that stays."""

import argparse

import numpy as np
import pytest

from benchmarks import serve

pytestmark = pytest.mark.slow


def test_memory_stays_while_it_predicts_and_learns(make, tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "EACH_S", 3.0)
    bundle = make.write_bundle(tmp_path / "bundle", bank=True, slots=8)
    images, labels = make.images(["red", "green", "blue"], 8)
    pictures = [serve.jpeg(np.asarray(image)) for image in images]
    args = argparse.Namespace(bundle=bundle, runtime="numpy", minutes=6)
    camera = serve.Camera(pictures)
    assert serve.first_prediction(args, camera, tmp_path) > 0
    used = serve.use(args, camera, tmp_path, pictures, labels)
    assert used["per_second"]["predictions"] > 0
    assert used["per_second"]["lessons"] > 0
    assert max(used["memory_mb"]) <= serve.MEMORY_MIB
    assert used["memory_mb"][-1] - used["memory_mb"][1] <= serve.GROWTH_MIB
    record = {"first_prediction_s": [0.5], **used}
    assert "lessons a second" in serve.render(record)
    assert len(serve.reached(0.5, used)) == 4
