"""Presets: parameters, budget, weights from a file, and DeiT-tiny's own against an independent forward pass."""

import dataclasses
import io
import json
import sys

import numpy as np
import pytest
from helpers import plain_vit
from helpers.paths import ROOT
from helpers.plain_vit import normalised, write
from PIL import Image

from keras_cbpnet import Backbone
from keras_cbpnet.config import BackboneConfig, TrainConfig, read_config
from keras_cbpnet.data.preprocessing import resize_images
from keras_cbpnet.errors import UserError
from keras_cbpnet.layers.cbp_head import CBPHead
from keras_cbpnet.methods.build import build_model
from keras_cbpnet.models.importers import timm
from keras_cbpnet.presets import PRESETS, Preset, get_preset

DATA = ROOT.parent / "shared" / "data"

PLAIN = {  # parameters of the original without its classifier, and here, where two norms a block are folded; tokens
    "deit_tiny_16_224": (5_524_416, 5_515_200, 197),
    "deit_small_16_224": (21_665_664, 21_647_232, 197),
    "vit_small_16_224": (21_665_664, 21_647_232, 197),
    "vit_base_16_224": (85_798_656, 85_761_792, 197),
    "dinov2_small_14": (21_628_800, 21_601_152, 257),  # two layer scales a block are folded as well
    "dinov2_small_14_reg": (21_630_336, 21_602_688, 261),
}


def original_parameters(config, layer_scale=False):
    return sum(int(np.prod(e.shape)) for e in timm.table(config).values() if layer_scale or not e.optional)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_parameters_of_a_preset_without_weights(name):
    config = get_preset(name).backbone
    model = Backbone(config)
    model.build()
    scaled = name.startswith("dinov2")
    assert (original_parameters(config, scaled), model.count_params(), model.embedding.tokens) == PLAIN[name]
    folded = 6 if scaled else 4  # vectors a block
    assert model.count_params() == PLAIN[name][0] - config.depth * folded * config.width
    for count in PLAIN[name][:2]:
        assert f"{count:,}" in " ".join(PRESETS[name].__doc__.split())


@pytest.mark.parametrize("head", [{"block": "residual", "units": 111}, {"block": "mlp", "units": 197}])
def test_the_block_costs_less_than_the_papers_share_of_vit_b(head):
    config = get_preset("vit_base_16_224").backbone
    budget = int(0.002 * original_parameters(config))
    assert budget == 171_597

    def added(units):
        layer = CBPHead({**head, "units": units, "slots": 100}, own_step=True)
        layer.build((None, config.width))
        of_block = ("w1", "b1", "w2", "b2")  # residual: the linear classifier w3, b3 is there without the block as well
        return sum(int(np.prod(layer.state[name].shape)) for name in of_block)

    assert added(head["units"]) < 0.002 * PLAIN["vit_base_16_224"][1] < budget
    assert added(head["units"] + 1) > budget


def test_a_preset_without_weights_says_what_to_give(monkeypatch):
    monkeypatch.setitem(PRESETS, "bare", lambda: Preset("bare", get_preset("deit_tiny_16_224").backbone))
    with pytest.raises(UserError, match=r"preset bare is shipped without weights; give weights=PATH \(--weights"):
        Backbone.from_preset("bare")


@pytest.mark.parametrize("name", ["vit_nano_32", "vit_base_16_224"])
def test_a_missing_weights_file_says_what_to_give(name):
    with pytest.raises(UserError, match=r"no weights file 'none\.npz'; give the path .*, or hf:OWNER/NAME"):
        Backbone.from_preset(name, weights="none.npz")


def test_a_run_takes_a_weights_file(monkeypatch, tmp_path):
    sizes = {"image_size": 16, "stem": (), "patch_size": 8, "width": 16, "depth": 5, "heads": 2, "mlp_width": 24}
    config = BackboneConfig(**sizes, activation="gelu", mean=(0.4, 0.5, 0.6), deviation=(0.2, 0.3, 0.25))
    monkeypatch.setitem(PRESETS, "tiny", lambda: Preset("tiny", config))
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    arrays = plain_vit.random_checkpoint(16, 8, 16, 5, 24)
    path = write(tmp_path / "weights.safetensors", arrays)
    run = TrainConfig(preset="tiny", weights=str(path), tasks=2, qat=False)
    found = plain_vit.forward(arrays, normalised(images, config.mean, config.deviation), heads=2)
    np.testing.assert_allclose(build_model(run, 4).query(images), found, rtol=0, atol=2e-4)
    with pytest.raises(UserError, match="preset tiny is shipped without weights"):
        build_model(dataclasses.replace(run, weights=""), 4)


def test_a_configuration_from_before_weights_files_still_loads(tmp_path):
    old = TrainConfig(seed=3).to_dict()
    del old["weights"]
    (tmp_path / "config.json").write_text(json.dumps({"version": "0.1.0", **old}))
    assert read_config(tmp_path) == TrainConfig(seed=3)


def test_deit_tiny_trains_prompts_by_the_first_task_alone():
    preset = get_preset("deit_tiny_16_224")
    assert preset.defaults("cifar100", "cbpnet") == {"prompt_tasks": 1}
    assert preset.defaults("cifar100", "dualprompt") == {}
    base = get_preset("vit_base_16_224")  # the paper's
    assert base.defaults("cifar100", "cbpnet") == base.training["cifar100"]
    assert get_preset("vit_nano_32").defaults("digits", "cbpnet") == {}


def cifar_images(n):
    with np.load(DATA / "cifar100_subset.npz") as packed:
        blob, offset, test = packed["blob"], packed["offset"], np.flatnonzero(packed["is_test"])
    chosen = test[:: len(test) // n][:n]  # of every class
    pictures = [Image.open(io.BytesIO(blob[offset[i] : offset[i + 1]].tobytes())) for i in chosen]
    return np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data beside the project")
def test_deit_tiny_equals_an_independent_forward_pass():
    weights = DATA / "deit_tiny_patch16_224_f16.npz"
    model = Backbone.from_preset("deit_tiny_16_224", weights=weights)
    small = cifar_images(64)
    config = model.config
    with np.load(weights) as file:
        arrays = dict(file)
    worst = 0.0
    for part in np.split(small, 8):
        found = np.asarray(model(model.preprocess(part)))
        pixels = normalised(resize_images(part, 224), config.mean, config.deviation)
        worst = max(worst, float(np.abs(found - plain_vit.forward(arrays, pixels, heads=3)).max()))
    assert worst < 1e-3


@pytest.mark.parametrize(
    ("dataset", "preset"),
    [
        ("folder:photos", "vit_tiny_96"),
        ("domains:photos", "vit_tiny_96"),
        ("core50", "vit_tiny_96"),
        ("digits", "vit_nano_32"),
        ("cifar100", "vit_nano_32"),
        ("npz:digits.npz", "vit_nano_32"),
    ],
)
def test_photographs_have_a_backbone_for_photographs_by_default(dataset, preset, monkeypatch):
    from keras_cbpnet import api, train

    seen = []
    monkeypatch.setattr(api, "check", lambda config: seen.append(config) or sys.exit(0))
    with pytest.raises(SystemExit):
        train.main(["--dataset", dataset])
    with pytest.raises(SystemExit):
        train.main(["--dataset", dataset, "--preset", "vit_micro_32"])
    assert [config.preset for config in seen] == [preset, "vit_micro_32"]
