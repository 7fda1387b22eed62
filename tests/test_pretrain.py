"""The pretraining command: weights that load, a checkpoint it goes on from, one-line errors."""

import json

import numpy as np
import pytest

from keras_cbpnet import cli


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "stripes.npz"
    labels = np.arange(32) % 2
    pixels = rng.integers(0, 60, (32, 32, 32, 3), np.uint8)
    pixels[labels == 1, :, ::2] += 150
    part = {"x_train": pixels, "y_train": labels, "x_test": pixels[:8], "y_test": labels[:8]}
    np.savez(path, **part, class_names=np.array(["plain", "striped"]))
    return path


def test_pretraining_writes_weights_and_goes_on_where_it_stopped(images, tmp_path):
    from keras_cbpnet.models.backbone import Backbone
    from keras_cbpnet.models.weights import load_weights, named_variables
    from keras_cbpnet.pretrain import main

    output = tmp_path / "weights.npz"
    arguments = ["--data", f"npz:{images}", "--output", str(output), "--batch", "16", "--learning-rate", "1e-3"]
    assert main([*arguments, "--epochs", "1"]) == 0
    backbone = Backbone()
    backbone.build()
    load_weights(backbone, output)
    assert all(np.isfinite(variable.numpy()).all() for variable in named_variables(backbone).values())
    assert json.loads(output.with_suffix(".json").read_text())["parameters"] == backbone.count_params()

    before = output.read_bytes()
    assert cli.run(main, [*arguments, "--epochs", "2"]) == 2
    assert output.read_bytes() == before
    assert main([*arguments, "--epochs", "2", "--overwrite"]) == 0
    log = (tmp_path / "weights.work" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "0", "1"]  # the first epoch was not repeated


def test_missing_data_is_one_line(tmp_path, capsys):
    from keras_cbpnet.pretrain import main

    assert cli.run(main, ["--data", f"npz:{tmp_path / 'none.npz'}", "--output", str(tmp_path / "w.npz")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "w.npz").exists()
