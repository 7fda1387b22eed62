"""Weights of other projects: every naming scheme against an independent forward pass, and what is refused."""

import importlib.util
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from helpers import plain_vit
from helpers.paths import ROOT
from helpers.plain_vit import normalised, write
from safetensors.numpy import save_file

from keras_cbpnet import Backbone
from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.importers.positions import interpolate
from keras_cbpnet.models.weights import load_weights, named_variables, save_weights
from keras_cbpnet.presets import PRESETS, Preset

HEADS, DEPTH, SIZE, PATCH, WIDTH, HIDDEN = 2, 2, 32, 8, 16, 24
CONFIG = BackboneConfig(
    image_size=SIZE,
    stem=(),
    patch_size=PATCH,
    width=WIDTH,
    depth=DEPTH,
    heads=HEADS,
    mlp_width=HIDDEN,
    activation="gelu",
    mean=(0.4, 0.5, 0.6),
    deviation=(0.2, 0.3, 0.25),
)


def built(config=CONFIG):
    model = Backbone(config)
    model.build()
    return model


@pytest.fixture(scope="module")
def checkpoint():
    return plain_vit.random_checkpoint(SIZE, PATCH, WIDTH, DEPTH, HIDDEN)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def expected(checkpoint, images):
    return plain_vit.forward(checkpoint, normalised(images, CONFIG.mean, CONFIG.deviation), HEADS)


@pytest.fixture
def tiny_preset(monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", lambda: Preset("tiny", CONFIG))


# Naming schemes -------------------------------------------------------------------------------------------------------

SCHEMES = {
    "timm": lambda w: w,
    "Hugging Face, vit.": plain_vit.hugging_face_names,
    "Hugging Face, deit.": lambda w: plain_vit.hugging_face_names(w, "deit."),
    "Hugging Face, no prefix": lambda w: plain_vit.hugging_face_names(w, ""),
    "Google": lambda w: plain_vit.google_names(w, HEADS),
    "Google, opt/target/": lambda w: plain_vit.google_names(w, HEADS, "opt/target/"),
}


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_features_equal_an_independent_forward_pass(scheme, ending, checkpoint, images, expected, tmp_path):
    model = built()
    load_weights(model, write(tmp_path / f"weights.{ending}", SCHEMES[scheme](checkpoint)))
    np.testing.assert_allclose(model(model.preprocess(images)), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(model.features(images), expected, rtol=0, atol=1e-4)
    assert np.ptp(expected, axis=0).min() > 0.05


def test_the_reference_tells_scales_offsets_and_positions_apart(checkpoint, images, expected):
    for name in ("blocks.0.norm1.weight", "blocks.1.norm2.bias", "norm.weight", "pos_embed", "cls_token"):
        changed = {**checkpoint, name: checkpoint[name] * 1.1}
        other = plain_vit.forward(changed, normalised(images, CONFIG.mean, CONFIG.deviation), HEADS)
        assert np.abs(other - expected).max() > 1e-3, name


def test_the_file_is_known_by_what_is_in_it(checkpoint, images, expected, tmp_path):
    write(tmp_path / "a.npz", checkpoint).rename(tmp_path / "a.safetensors")
    write(tmp_path / "b.safetensors", checkpoint).rename(tmp_path / "b.pretrained")
    for name in ("a.safetensors", "b.pretrained"):
        model = built()
        load_weights(model, tmp_path / name)
        np.testing.assert_allclose(model.features(images), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_floating_point_types(dtype, checkpoint, images, tmp_path):
    if dtype is np.float64:
        path = write(tmp_path / "weights.npz", {name: array.astype(dtype) for name, array in checkpoint.items()})
    else:
        path = write(tmp_path / "weights.safetensors", {name: a.astype(dtype) for name, a in checkpoint.items()})
    rounded = {name: array.astype(dtype).astype(np.float64) for name, array in checkpoint.items()}
    model = built()
    load_weights(model, path)
    found = plain_vit.forward(rounded, normalised(images, CONFIG.mean, CONFIG.deviation), HEADS)
    np.testing.assert_allclose(model.features(images), found, rtol=0, atol=1e-4)


def test_own_files_go_round(checkpoint, images, tmp_path):
    model, other = built(), built()
    load_weights(model, write(tmp_path / "timm.npz", checkpoint))
    save_weights(model, tmp_path / "own.npz")
    load_weights(other, tmp_path / "own.npz")
    np.testing.assert_allclose(other.features(images), model.features(images), rtol=0, atol=3e-2)
    assert not any("norm1" in name or "norm2" in name for name in named_variables(model))


# What is refused ------------------------------------------------------------------------------------------------------


def without(arrays, *names):
    return {name: array for name, array in arrays.items() if name not in names}


def refused(model, path):
    before = [np.array(variable) for variable in model.weights]
    with pytest.raises(UserError) as error:
        load_weights(model, path)
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    message = str(error.value)
    assert str(path) in message
    return message


CHANGES = {
    "timm": ("blocks.1.attn.qkv.bias", "norm.weight", [8, 48], "blocks.0.attn.qkv.weight", [48, 16]),
    "Hugging Face, vit.": (
        *("vit.encoder.layer.1.attention.attention.key.bias", "vit.layernorm.weight"),
        *([24, 8], "vit.encoder.layer.0.intermediate.dense.weight", [24, 16]),
    ),
    "Google": (
        *("Transformer/encoderblock_1/MultiHeadDotProductAttention_1/key/bias", "cls"),
        *([16, 4, 4], "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/query/kernel", [16, 2, 8]),
    ),
}
TITLES = {"timm": "timm's names", "Hugging Face, vit.": "Hugging Face's ViT names", "Google": "Google's ViT names"}


@pytest.mark.parametrize("scheme", CHANGES)
def test_the_error_names_the_first_array_that_does_not_fit(scheme, checkpoint, tmp_path):
    missing, misplaced, shape, misshapen, wanted = CHANGES[scheme]
    arrays = dict(SCHEMES[scheme](checkpoint))
    arrays["dist_token"] = arrays[misplaced]
    arrays = {**without(arrays, missing, misplaced), misshapen: np.zeros(shape, np.float32)}
    message = refused(built(), write(tmp_path / "wrong.npz", arrays))
    first = min(missing, misplaced)
    assert f"read as {TITLES[scheme]}, does not fit the backbone: missing {first} (and " in message
    one = {**SCHEMES[scheme](checkpoint), misshapen: np.zeros(shape, np.float32)}
    message = refused(built(), write(tmp_path / "shape.npz", one))
    assert f"backbone: {misshapen} has shape {shape}, expected {wanted}; give weights of a model" in message


def test_a_deeper_model_is_refused(checkpoint, tmp_path):
    deeper = plain_vit.random_checkpoint(SIZE, PATCH, WIDTH, DEPTH + 1, HIDDEN)
    message = refused(built(), write(tmp_path / "deeper.npz", deeper))
    assert "unexpected blocks.2.attn.proj.bias (and 11 more that do not fit); give weights of a model" in message


def test_arrays_that_are_no_floating_point_numbers_are_refused(checkpoint, tmp_path):
    for array in (np.zeros((1, 1, WIDTH), np.int64), np.full((1, 1, WIDTH), "text")):
        message = refused(built(), write(tmp_path / "integers.npz", {**checkpoint, "cls_token": array}))
        assert f"cls_token has type {array.dtype}, expected floating point; give" in message


@pytest.mark.parametrize("rows", [1, 15, 18, 27])
def test_positions_of_no_square_are_refused(rows, checkpoint, tmp_path):
    arrays = {**checkpoint, "pos_embed": np.zeros((1, rows, WIDTH), np.float32)}
    message = refused(built(), write(tmp_path / "positions.npz", arrays))
    assert f"pos_embed has shape [1, {rows}, 16], expected [1, 17, 16]" in message


def test_a_backbone_with_a_stem_takes_no_plain_vit(checkpoint, tmp_path):
    path = write(tmp_path / "timm.npz", checkpoint)
    model = built(BackboneConfig(image_size=16, width=WIDTH, depth=1, heads=2, mlp_width=HIDDEN, whitening=True))
    assert "read as timm's names, is a plain Vision Transformer, and this backbone has a stem and whitening" in refused(
        model, path
    )


def damaged_files(folder):
    np.savez(folder / "whole.npz", cls_token=np.zeros(2000))
    save_file({"cls_token": np.zeros(2000)}, folder / "whole.safetensors")
    for ending in ("npz", "safetensors"):
        whole = (folder / f"whole.{ending}").read_bytes()
        (folder / f"half.{ending}").write_bytes(whole[: len(whole) // 2])
    (folder / "flipped.npz").write_bytes((folder / "whole.npz").read_bytes().replace(b"\0" * 64, b"\1" * 64, 1))
    (folder / "text.npz").write_text("this is text\n")
    np.savez_compressed(folder / "deflated.npz", cls_token=np.arange(2000.0))
    deflated = bytearray((folder / "deflated.npz").read_bytes())
    deflated[120] ^= 0xFF
    (folder / "deflated.npz").write_bytes(deflated)
    return ("half.npz", "half.safetensors", "flipped.npz", "text.npz", "deflated.npz")


def test_damaged_files_are_one_line(tmp_path):
    model = built()
    for name in damaged_files(tmp_path):
        message = refused(model, tmp_path / name)
        assert message.startswith("cannot read weights file")
        assert message.endswith("fetch it again"), name
    (tmp_path / "half.pth").write_bytes((tmp_path / "half.npz").read_bytes())
    assert "half.pth is neither a .npz nor a .safetensors file (" in refused(model, tmp_path / "half.pth")
    assert refused(model, tmp_path / "none.npz").startswith("no weights file")
    assert f"{tmp_path} is a folder; give the file in it" in refused(model, tmp_path)


def test_names_of_no_scheme_are_refused(tmp_path):
    message = refused(built(), write(tmp_path / "data.npz", {"x_train": np.zeros(3), "y_train": np.zeros(3)}))
    assert "its names (x_train, y_train, ...) are not known; give a file with one of: " in message
    for title in ("names of save_weights", *TITLES.values()):
        assert title in message


# Position embeddings --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["timm", "Hugging Face, vit.", "Google"])
def test_a_preset_of_another_image_size(scheme, tiny_preset, checkpoint, images, tmp_path):
    path = write(tmp_path / "weights.npz", SCHEMES[scheme](checkpoint))
    model = Backbone.from_preset("tiny", weights=path, image_size=48)
    larger = model.preprocess(images)
    assert larger.shape == (3, 48, 48, 3)
    changed = {**checkpoint, "pos_embed": interpolate(checkpoint["pos_embed"], 37)}
    np.testing.assert_allclose(model(larger), plain_vit.forward(changed, larger, HEADS), rtol=0, atol=1e-4)


@pytest.mark.slow
def test_the_shipped_preset_of_another_image_size():
    model = Backbone.from_preset("vit_nano_32", image_size=64)
    assert model.embedding.tokens == 65
    features = np.asarray(model(model.preprocess(np.random.default_rng(0).integers(0, 256, (2, 9, 9, 3), np.uint8))))
    assert features.shape == (2, 192)
    assert np.isfinite(features).all()


@pytest.mark.parametrize(("name", "size", "step"), [("tiny", 44, 8), ("tiny", 0, 8), ("vit_nano_32", 36, 8)])
def test_an_image_size_between_the_patches_is_refused(name, size, step, tiny_preset, checkpoint, tmp_path):
    path = write(tmp_path / "weights.npz", checkpoint)
    with pytest.raises(UserError, match=f"image_size must be a multiple of {step} for preset {name}, got {size}"):
        Backbone.from_preset(name, weights=path, image_size=size)


# Any backend ----------------------------------------------------------------------------------------------------------

NEUTRAL = """
import sys
import numpy as np
from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.models.weights import load_weights
images, expected = (np.load(path) for path in sys.argv[2:4])
model = Backbone(BackboneConfig.from_dict(eval(sys.argv[4])))
model.build()
load_weights(model, sys.argv[1])
assert model.embedding.tokens == 17
for found in (model(model.preprocess(images)), model.features(images)):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=1e-4)
assert "tensorflow" not in sys.modules
"""


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="jax is not installed")
def test_the_backbone_runs_on_jax(checkpoint, images, expected, tmp_path):
    write(tmp_path / "weights.safetensors", checkpoint)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "expected.npy", expected)
    files = [str(tmp_path / name) for name in ("weights.safetensors", "images.npy", "expected.npy")]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", NEUTRAL, *files, repr(CONFIG.to_dict())]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
