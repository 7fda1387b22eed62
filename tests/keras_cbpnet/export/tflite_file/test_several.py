"""Graphs with a signature each in one file: the same results as alone, equal buffers once."""

import numpy as np
import pytest
import tensorflow as tf

from keras_cbpnet.export.converter import convert_inference
from keras_cbpnet.export.runtimes import run_backbone
from keras_cbpnet.export.tflite_file.graph import Model
from keras_cbpnet.export.tflite_file.several import with_signatures

RNG = np.random.default_rng(0)
KERNELS = [RNG.normal(size=(48, 64)).astype(np.float32), RNG.normal(size=(64, 64)).astype(np.float32)]


def file(layers):
    """A network whose first layers are those of every other such network."""

    @tf.function(input_signature=[tf.TensorSpec((1, 4, 4, 3), tf.uint8, name="image")])
    def serve(image):
        x = tf.reshape(tf.cast(image, tf.float32), (1, 48))
        for kernel in KERNELS[:layers]:
            x = tf.nn.relu(x @ kernel)
        return {"feature": x if layers == 2 else tf.exp(-x), "prompt": tf.zeros((1,), tf.int32)}

    return convert_inference(serve, False, None)


@pytest.fixture(scope="module")
def files():
    return file(2), file(1)


@pytest.mark.slow
def test_each_signature_gives_what_its_file_gave(files):
    both = with_signatures(files[0], {"depth_1": files[1]})
    images = RNG.integers(0, 256, (3, 4, 4, 3), np.uint8)
    for signature, alone in (("serving_default", files[0]), ("depth_1", files[1])):
        for runtime in ("ai_edge_litert", "tflite_runtime"):
            found = run_backbone(both, images, runtime, signature).raw
            np.testing.assert_array_equal(found, run_backbone(alone, images, runtime).raw)


def test_equal_weights_are_in_the_file_once(files):
    both = with_signatures(files[0], {"depth_1": files[1]})
    assert len(both) < len(with_signatures(files[0], {})) + KERNELS[0].nbytes / 2
    model = Model(both)
    assert [signature.signatureKey for signature in model.root.signatureDefs] == [b"serving_default", b"depth_1"]
    assert [signature.subgraphIndex for signature in model.root.signatureDefs] == [0, 1]
    kinds = [[model.kind(op) for op in graph.operators] for graph in model.root.subgraphs]
    assert "EXP" in kinds[1]
    assert "EXP" not in kinds[0]
