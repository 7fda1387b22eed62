"""The paper's experiment as it stands, on a small random checkpoint and ImageNet-R's own folder layout."""

import dataclasses
import json

import numpy as np
import pytest
from helpers import plain_vit
from PIL import Image

from keras_cbpnet import cli
from keras_cbpnet.presets import PRESETS, vit_base_16_224

CLASSES, IMAGES = 200, 5  # 4 for training and 1 for testing of each class
SMALL = {"image_size": 32, "patch_size": 16, "width": 16, "depth": 5, "heads": 2, "mlp_width": 24}
COMMON = {"tasks": 10, "batch": 24, "head_epochs": 0, "qat": False, "block": "residual"}
WANTED = {
    "cifar100": {**COMMON, "epochs": 5, "expert_length": 5, "learning_rate": 2.8e-3, "prompt_learning_rate": 2.8e-3},
    "imagenet_r": {
        **COMMON,
        "epochs": 50,
        "expert_length": 20,
        "learning_rate": 4.7e-4,
        "prompt_learning_rate": 4.7e-4,
    },
}


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A checkpoint under timm's names, and the preset with sizes to match."""
    preset = vit_base_16_224()
    small = dataclasses.replace(preset, backbone=dataclasses.replace(preset.backbone, **SMALL))
    monkeypatch.setitem(PRESETS, "vit_base_16_224", lambda: small)
    return plain_vit.write(tmp_path / "model.safetensors", plain_vit.random_checkpoint(32, 16, 16, 5, 24))


@pytest.fixture
def imagenet_r(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for index in range(CLASSES):
        folder = tmp_path / "keras" / "datasets" / "imagenet-r" / f"n{index:08d}"
        folder.mkdir(parents=True)
        for style in range(IMAGES):
            Image.fromarray(rng.integers(0, 256, (40, 36, 3), np.uint8)).save(folder / f"art_{style}.jpg")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cbpnet", "dualprompt"])
def test_the_papers_run_goes_through(method, weights, imagenet_r, tmp_path, capsys):
    from keras_cbpnet.train import main

    run = tmp_path / method
    named = ["--preset", "vit_base_16_224", "--weights", str(weights), "--dataset", "imagenet_r", "--method", method]
    assert cli.run(main, [*named, "--output", str(run), "--epochs", "1"]) == 0
    config = json.loads((run / "config.json").read_text())
    wanted = {**WANTED["imagenet_r"], "epochs": 1}  # what is given counts more than the preset's default
    assert {name: config[name] for name in wanted} == wanted
    metrics = json.loads((run / "metrics.json").read_text())
    assert np.shape(metrics["accuracy_matrix"]) == (10, 10)
    assert len(metrics["classes"]) == CLASSES
    assert "defaults of vit_base_16_224: tasks 10" in capsys.readouterr().err


@pytest.mark.parametrize("dataset", list(WANTED))
def test_its_defaults_are_the_papers(dataset):
    from keras_cbpnet.config import TrainConfig

    found = TrainConfig(**vit_base_16_224().training[dataset]).to_dict()
    assert {name: found[name] for name in WANTED[dataset]} == WANTED[dataset]
    assert set(vit_base_16_224().training) == set(WANTED)
