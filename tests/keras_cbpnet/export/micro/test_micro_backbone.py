"""backbone.tflite as --target micro arranges it: the same numbers in a smaller arena."""

import importlib.util

import numpy as np
import pytest
import tensorflow as tf

from keras_cbpnet.export.backbone import convert
from keras_cbpnet.export.micro.arena import measure_arena, shared_arena
from keras_cbpnet.export.micro.backbone import lean_backbone
from keras_cbpnet.export.tflite_file.graph import Model

# Dimensions: N tokens, D width, H heads.
SIZE, N, D, H = 8, 8, 24, 2


class Attention(tf.Module):
    """What an encoder block has: vectors times themselves, queries times keys, weights times values."""

    def __call__(self, image):
        x = tf.reshape(image, (1, N, D)) / 64.0 - 2.0
        square = tf.matmul(tf.reshape(x, (1, N, 1, D)), tf.reshape(x, (1, N, D, 1)))
        x = x * tf.math.rsqrt(tf.reshape(square, (1, N, 1)) / D + 1e-6)
        query, key, value = (
            tf.transpose(tf.reshape(x * gain, (1, N, H, D // H)), (0, 2, 1, 3)) for gain in (0.25, 1.5, 2.5)
        )  # (1, H, N, D/H)
        scores = tf.nn.softmax(tf.matmul(query, tf.transpose(key, (0, 1, 3, 2))))
        feature = tf.reshape(tf.transpose(tf.matmul(scores, value), (0, 2, 1, 3)), (1, N * D))
        return {"feature": feature, "prompt": tf.argmax(feature, axis=1, output_type=tf.int32)}


@pytest.fixture(scope="module")
def models():
    images = np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3), dtype=np.uint8)
    before = convert(Attention(), SIZE, "int8", images)
    return images, before, lean_backbone(before)


def outputs(model, images):
    runner = tf.lite.Interpreter(model_content=model).get_signature_runner()
    return [runner(image=image[None]) for image in images]


@pytest.mark.slow
def test_every_number_stays(models):
    images, before, after = models
    for expected, found in zip(outputs(before, images), outputs(after, images), strict=True):
        np.testing.assert_array_equal(found["feature"], expected["feature"])
        np.testing.assert_array_equal(found["prompt"], expected["prompt"])


@pytest.mark.slow
def test_no_product_needs_a_transposed_copy(models):
    def straight(content):
        model = Model(content)
        products = [op for op in model.root.subgraphs[0].operators if model.kind(op) == "BATCH_MATMUL"]
        return [op.builtinOptions.adjY for op in products]

    _, before, after = models
    assert len(straight(before)) == len(straight(after)) == 3
    assert not all(straight(before))
    assert all(straight(after))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("tflite_micro") is None, reason="tflite-micro is missing")
def test_the_arena_is_smaller(models):
    _, before, after = (measure_arena(model) if isinstance(model, bytes) else None for model in models)
    assert after["persistent"] < before["persistent"] - N * D
    assert after["bytes"] < before["bytes"]


def test_models_that_take_turns_share_the_memory_of_their_tensors():
    assert shared_arena({"bytes": 100, "tensors": 30}, {"bytes": 80, "tensors": 50}) == 70 + 30 + 50
