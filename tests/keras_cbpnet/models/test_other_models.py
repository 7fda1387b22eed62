"""Checkpoints of other models: read where that needs no guess, else one line about the first array that is wrong."""

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest
from helpers import plain_vit
from helpers.plain_vit import write

from keras_cbpnet import Backbone
from keras_cbpnet.config import BackboneConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.models.rotation import rotate
from keras_cbpnet.models.weights import copy_weights, load_weights, save_weights

HEADS, DEPTH, SIZE, PATCH, WIDTH, HIDDEN = 2, 2, 32, 8, 16, 24
SIZES = {"patch_size": PATCH, "width": WIDTH, "depth": DEPTH, "heads": HEADS, "mlp_width": HIDDEN}
CONFIG = BackboneConfig(image_size=SIZE, stem=(), activation="gelu", **SIZES)
PLAIN = plain_vit.random_checkpoint(SIZE, PATCH, WIDTH, DEPTH, HIDDEN)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8)


def built(**changes):
    model = Backbone(dataclasses.replace(CONFIG, **changes))
    model.build()
    return model


def assert_read(arrays, path, model=None, reference=None):
    """Assert that the features are those of an independent forward pass; return them."""
    model = model or built()
    load_weights(model, path)
    found = np.asarray(model(model.preprocess(IMAGES)))
    expected = plain_vit.forward({**arrays, **(reference or {})}, IMAGES / 255, HEADS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)
    return found


def refused(path, **changes):
    with pytest.raises(UserError) as error:
        load_weights(built(**changes), path)
    assert "\n" not in str(error.value)
    return str(error.value)


# Layer scale and registers --------------------------------------------------------------------------------------------

NAMES = {
    "timm": lambda w: w,
    "timm, model.": lambda w: {f"model.{name}": array for name, array in w.items()},
    "Hugging Face": plain_vit.hugging_face_dinov2_names,
    "Hugging Face, dinov2.": lambda w: plain_vit.hugging_face_dinov2_names(w, "dinov2."),
}


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("names", NAMES)
def test_dinov2_has_layer_scale_and_registers(names, registers, tmp_path):
    arrays = plain_vit.with_layer_scale(PLAIN, registers)
    path = write(tmp_path / "dinov2.safetensors", NAMES[names](arrays))
    found = assert_read(arrays, path, built(registers=registers))
    for name in ("blocks.0.ls1.gamma", "blocks.1.ls2.gamma", "cls_token", *["reg_token"][: registers > 0]):
        changed = plain_vit.forward({**arrays, name: arrays[name] * 1.1}, IMAGES / 255, HEADS)
        assert np.abs(changed - found).max() > 1e-3, name


def test_positions_of_a_larger_image_without_one_of_the_class(tmp_path):
    """DINOv2 comes for 518 pixels and is used at 224."""
    large = plain_vit.with_layer_scale(plain_vit.random_checkpoint(48, PATCH, WIDTH, DEPTH, HIDDEN), 4)
    path = write(tmp_path / "large.npz", large)
    model = built(registers=4)
    grid = np.asarray(large["pos_embed"]).reshape(1, 6, 6, WIDTH)
    from keras import ops

    small = np.asarray(ops.image.resize(grid, (4, 4), interpolation="bicubic", antialias=True))
    assert_read(large, path, model, {"pos_embed": small.reshape(1, 16, WIDTH)})


def test_own_files_keep_registers(tmp_path):
    model, other = built(registers=4), built(registers=4)
    load_weights(model, write(tmp_path / "timm.npz", plain_vit.with_layer_scale(PLAIN, 4)))
    save_weights(model, tmp_path / "own.npz")
    load_weights(other, tmp_path / "own.npz")
    np.testing.assert_allclose(other.features(IMAGES), model.features(IMAGES), rtol=0, atol=3e-2)
    assert "unexpected embedding/register_tokens" in refused(tmp_path / "own.npz")


def test_a_rotation_turns_registers_too(tmp_path):
    model, white = built(registers=4), built(registers=4, whitening=True)
    load_weights(model, write(tmp_path / "timm.npz", plain_vit.with_layer_scale(PLAIN, 4)))
    copy_weights(model, white)
    before = np.asarray(white.features(IMAGES))
    ones = np.ones((WIDTH, 1))
    basis = np.linalg.qr(np.concatenate([ones, np.random.default_rng(0).normal(size=(WIDTH, WIDTH - 1))], axis=1))[0]
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(WIDTH - 1, WIDTH - 1)))[0]
    rotate(white, basis[:, 1:] @ turn @ basis[:, 1:].T + np.full((WIDTH, WIDTH), 1 / WIDTH))
    np.testing.assert_allclose(white.features(IMAGES), before, rtol=0, atol=1e-4)


def test_a_layer_with_registers(checked):
    from keras_cbpnet.layers.patch_embedding import PatchEmbedding

    images = np.random.default_rng(0).uniform(0, 255, (3, 16, 16, 3)).astype(np.float32)
    tokens = checked(PatchEmbedding(12, 8, registers=3), images, (3, 1 + 3 + 4, 12))
    np.testing.assert_array_equal(tokens[0, 1:4], tokens[1, 1:4])  # the same for every image
    np.testing.assert_allclose(tokens.mean(axis=-1), 0, atol=1e-5)


SCALED = plain_vit.with_layer_scale(PLAIN, 4)


@pytest.mark.parametrize(
    ("arrays", "registers", "line"),
    [
        (SCALED, 0, "unexpected reg_token; give"),
        (PLAIN, 4, "missing reg_token; give"),
        (SCALED, 3, "reg_token has shape [1, 4, 16], expected [1, 3, 16]; give"),
        ({n: a for n, a in SCALED.items() if n != "blocks.1.ls2.gamma"}, 4, "missing blocks.1.ls2.gamma; give"),
        ({**SCALED, "blocks.0.ls1.gamma": np.ones(8, np.float32)}, 4, "ls1.gamma has shape [8], expected [16]; give"),
    ],
)
def test_registers_and_layer_scale_that_do_not_fit(arrays, registers, line, tmp_path):
    assert line in refused(write(tmp_path / "wrong.npz", arrays), registers=registers)


# Other models ---------------------------------------------------------------------------------------------------------


def distilled(arrays):
    rows = np.concatenate([arrays["pos_embed"][:, :1], arrays["pos_embed"]], axis=1)
    return {**arrays, "dist_token": arrays["cls_token"], "pos_embed": rows, "head_dist.weight": np.zeros((7, WIDTH))}


def distilled_hugging_face(arrays):
    renamed = plain_vit.hugging_face_names(arrays, "deit.")
    renamed["deit.embeddings.distillation_token"] = arrays["cls_token"]
    renamed["deit.embeddings.position_embeddings"] = distilled(arrays)["pos_embed"]
    return renamed


def other(width=WIDTH, patch=PATCH, depth=DEPTH, hidden=HIDDEN, size=SIZE):
    return plain_vit.random_checkpoint(size, patch, width, depth, hidden)


def swin():
    names = ("patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias")
    inside = {f"layers.0.{name}": array for name, array in PLAIN.items() if name.startswith("blocks")}
    return {**{name: PLAIN[name] for name in names}, **inside}


OTHERS = {
    "ResNet": (
        {"conv1.weight": np.zeros((8, 3, 7, 7)), "fc.bias": np.zeros(9)},
        "(conv1.weight, fc.bias, ...) are not",
    ),
    "Swin": (swin(), "read as timm's names, does not fit the backbone: missing blocks.0.attn.proj.bias (and"),
    "average pooling": ({**other(), "fc_norm.weight": np.ones(WIDTH)}, "unexpected fc_norm.weight; give"),
    "wider": (other(width=24), "cls_token has shape [1, 1, 24], expected [1, 1, 16] (and 27 more"),
    "deeper": (other(depth=3), "unexpected blocks.2.attn.proj.bias (and 11 more"),
    "less deep": (other(depth=1), "missing blocks.1.attn.proj.bias (and 11 more"),
    "other patches": (other(patch=4), "patch_embed.proj.weight has shape [16, 3, 4, 4], expected [16, 3, 8, 8]; give"),
    "other MLP": (other(hidden=32), "blocks.0.mlp.fc1.weight has shape [32, 16], expected [24, 16] (and"),
    "distilled": (distilled(PLAIN), "unexpected dist_token (and 1 more that do not fit); give weights of a model"),
    "distilled, Hugging Face": (distilled_hugging_face(PLAIN), "unexpected deit.embeddings.distillation_token (and 1"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_model_is_one_line_with_the_first_array(name, tmp_path):
    arrays, line = OTHERS[name]
    assert line in refused(write(tmp_path / "other.npz", arrays))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("prefix", ["module.", "model."])
def test_what_a_training_program_writes(prefix, dtype, tmp_path):
    arrays = {f"{prefix}{name}": array.astype(dtype) for name, array in PLAIN.items()}
    rounded = {name: array.astype(dtype).astype(np.float64) for name, array in PLAIN.items()}
    assert_read(rounded, write(tmp_path / "half.safetensors", arrays))


# Several files --------------------------------------------------------------------------------------------------------

PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def listing(tmp_path):
    """The list of a model in two files."""
    names = sorted(PLAIN)
    listed = {name: PARTS[number] for number in (0, 1) for name in names[number::2]}
    for part in PARTS:
        write(tmp_path / part, {name: PLAIN[name] for name, file in listed.items() if file == part})
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}))
    return path


def test_several_files_are_read_as_one(listing):
    assert_read(PLAIN, listing)


def test_several_files_that_are_not_whole(listing, tmp_path):
    assert f"weights {tmp_path} is a folder; give the file in it, {listing}" in refused(tmp_path)
    line = refused(tmp_path / PARTS[0])
    assert "; it is one of 2 files: give the list of them, model.safetensors.index.json" in line
    assert "missing blocks.0.attn.proj.weight" in line
    write(tmp_path / PARTS[1], {"norm.weight": PLAIN["norm.weight"]})
    assert f"{tmp_path / PARTS[1]} has no " in refused(listing)
    (tmp_path / PARTS[1]).write_bytes(b"\0" * 100)
    assert f"cannot read weights file {tmp_path / PARTS[1]}: " in refused(listing)
    (tmp_path / PARTS[1]).unlink()
    assert f"{listing} names {PARTS[1]}, which is not beside it; fetch all of its 2 file(s)" in refused(listing)


def test_a_safetensors_file_may_begin_like_json(tmp_path):
    """Its first bytes are the length of its header: this one's are a space and a brace."""
    names = {f"more_{number:06d}": np.zeros(1, np.float32) for number in range(400)}
    rows = json.dumps(
        {n: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i, n in enumerate(names)}
    )
    length = int.from_bytes(b" {", "little")
    assert len(rows) <= length
    (tmp_path / "model.safetensors").write_bytes(
        length.to_bytes(8, "little") + rows.ljust(length).encode() + bytes(4 * len(names))
    )
    assert "its names (more_000000, more_000001, more_000002, ...) are not known" in refused(
        tmp_path / "model.safetensors"
    )
