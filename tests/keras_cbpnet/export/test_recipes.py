"""Recipes: what each says of itself, and that a new one is a line of one table."""

import numpy as np
import pytest
import tensorflow as tf

from keras_cbpnet.errors import UserError
from keras_cbpnet.export import verify
from keras_cbpnet.export.accelerators import target_rows
from keras_cbpnet.export.backbone import convert
from keras_cbpnet.export.recipes import INTEGER, OF_TARGET, RECIPES, Recipe, recipes_for, recipes_help
from keras_cbpnet.export.tflite_file.ops import op_table

DESCRIBED = {  # of the manifest of every bundle so far
    "mixed": {
        "weights": "int8",
        "activations": "int8",
        "attention_norms_sums": "float32",
        "dense_scales": "per_tensor",
        "convolution_scales": "per_channel",
    },
    "int8": {
        "weights": "int8",
        "activations": "int8",
        "dense_scales": "per_tensor",
        "convolution_scales": "per_channel",
    },
    "hybrid": {
        "weights": "int8",
        "activations": "float32",
        "dense_scales": "per_tensor",
        "convolution_scales": "per_channel",
    },
    "float32": {"weights": "float32", "activations": "float32"},
}


class Dense(tf.Module):
    """48 pixels to 40 features, weights from -1 to 1."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(np.random.default_rng(0).uniform(-1, 1, (48, 40)).astype(np.float32))

    def __call__(self, image):
        return {"feature": tf.matmul(tf.reshape(tf.cast(image, tf.float32), (1, 48)), self.kernel)}


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (8, 4, 4, 3)).astype(np.uint8)


def test_the_manifest_says_what_it_always_said():
    assert {name: recipe.describe() for name, recipe in RECIPES.items()} == DESCRIBED
    assert [name for name, recipe in RECIPES.items() if recipe.integer] == [INTEGER]


def test_auto_is_what_the_target_runs():
    assert {target: recipes_for("auto", target) for target in OF_TARGET} == {
        "linux": ("int8", "hybrid"),
        "micro": ("int8",),
    }
    assert recipes_for("hybrid", "linux") == ("hybrid",)
    assert "auto, int8 and hybrid for --target linux, int8 for --target micro; " in recipes_help()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "weights", "kind"),
    [
        ("mixed", "INT8", "INT8"),
        ("int8", "INT8", "INT8"),
        ("hybrid", "INT8", "FLOAT32"),
        ("float32", "FLOAT32", "FLOAT32"),
    ],
)
def test_a_file_is_what_the_flags_say(name, weights, kind, images):
    file = convert(Dense(), 4, name, images)
    [dense] = [row for row in op_table(file) if row["op"] == "FULLY_CONNECTED"]
    assert (dense["weights"], dense["type"]) == (weights, kind)
    verify.check_ops({"backbone.tflite": op_table(file)}, {"backbone.tflite": name})
    verify.check_weights({"backbone.tflite": file}, {"backbone.tflite": name})


@pytest.mark.slow
def test_a_new_recipe_is_one_line(monkeypatch, images):
    monkeypatch.setitem(RECIPES, "halved", Recipe("a test's own", quantized_weights=True, quantized_activations=False))
    assert "; halved, a test's own" in recipes_help()
    file = convert(Dense(), 4, "halved", images)
    assert file == convert(Dense(), 4, "hybrid", images)
    assert RECIPES["halved"].describe() == DESCRIBED["hybrid"]
    assert target_rows(file, "halved")["edge_tpu"]["source"] == f"takes recipe {INTEGER}, not halved"
    plain = convert(Dense(), 4, "float32", images)
    with pytest.raises(UserError, match=f"recipe halved left float weights in .* of 1,920; use --recipe {INTEGER}"):
        verify.check_weights({"backbone.tflite": plain}, {"backbone.tflite": "halved"})
    monkeypatch.setitem(RECIPES, "halved", Recipe("a test's own", quantized_weights=True, quantized_activations=True))
    with pytest.raises(UserError, match=r"recipe halved left floating-point operators in backbone.tflite: "):
        verify.check_ops({"backbone.tflite": op_table(file)}, {"backbone.tflite": "halved"})
