"""Makes tiny_backbone.tflite, the backbone of the device tests: the mean of each colour in the left and right half.

    python tests/firmware_host/make_tiny_backbone.py

Needs TensorFlow, which the device tests themselves do without. The result has the contract's signature: image uint8
[1, 8, 8, 3] -> feature int8 [1, 6], prompt int32 [1] (the brightest of the six).
"""

import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

SIDE = 8


def mean_weights():
    weights = np.zeros((SIDE, SIDE, 3, 6), np.float32)
    for colour in range(3):
        weights[:, : SIDE // 2, colour, colour] = 2 / SIDE**2
        weights[:, SIDE // 2 :, colour, 3 + colour] = 2 / SIDE**2
    return weights.reshape(-1, 6)


@tf.function(input_signature=[tf.TensorSpec([1, SIDE, SIDE, 3], tf.float32, name="image")])
def backbone(image):
    feature = tf.reshape(image, [1, -1]) @ tf.constant(mean_weights()) / 255.0
    return {"feature": feature, "prompt": tf.argmax(feature, axis=1, output_type=tf.int32)}


def main():
    module = tf.Module()
    module.backbone = backbone
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": backbone})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        images = [*(rng.integers(0, 256, (1, SIDE, SIDE, 3)).astype(np.float32) for _ in range(20))]
        images += [np.full((1, SIDE, SIDE, 3), value, np.float32) for value in (0, 255)]
        converter.representative_dataset = lambda: ({"image": image} for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.int8
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        Path(__file__).with_name("tiny_backbone.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    main()
