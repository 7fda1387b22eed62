"""Operators read from the flatbuffer: types, weights, and what no bundle may hold."""

import numpy as np
import pytest
import tensorflow as tf

from keras_cbpnet.errors import UserError
from keras_cbpnet.export.tflite_file.ops import float_ops, op_table, operators, per_channel_dense
from keras_cbpnet.export.verify import check_ops, check_weights

SMALL, LARGE = 1000, 1002  # entries: 10 x 100, 6 x 167


def converted(inputs, outputs, recipe="float32", per_channel=False, largest=True):
    """A dense layer [1, inputs] -> [1, outputs] and perhaps its largest index, as a file."""
    kernel = np.random.default_rng(0).normal(size=(inputs, outputs)).astype(np.float32)

    @tf.function(input_signature=[tf.TensorSpec([1, inputs], tf.float32)])
    def dense(x):
        y = tf.matmul(x, tf.constant(kernel))
        return {"y": y, **({"largest": tf.argmax(y, axis=1, output_type=tf.int32)} if largest else {})}

    converter = tf.lite.TFLiteConverter.from_concrete_functions([dense.get_concrete_function()])
    if recipe != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if recipe == "int8":
        rows = np.random.default_rng(1).normal(size=(8, 1, inputs)).astype(np.float32)
        converter.representative_dataset = lambda: ([row] for row in rows)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    converter._experimental_disable_per_channel_quantization_for_dense_layers = not per_channel
    return converter.convert()


def dense_weights(model):
    return next(each.weights for each in operators(model) if each.name == "FULLY_CONNECTED")


@pytest.mark.parametrize("recipe", ["int8", "hybrid"])
def test_per_channel_dense_weights_are_refused(recipe):
    good, bad = (converted(40, 50, recipe, per_channel) for per_channel in (False, True))
    assert dense_weights(good) == ("INT8", 2000, 1)
    assert dense_weights(bad) == ("INT8", 2000, 50)
    assert (per_channel_dense(good), per_channel_dense(bad)) == (0, 1)
    check_weights({"backbone.tflite": good, "head.tflite": good}, {"backbone.tflite": recipe})
    for file in ("backbone.tflite", "head.tflite"):
        with pytest.raises(UserError, match=f"{file} has 1 FULLY_CONNECTED operator.* per-channel int8 .*crashes"):
            check_weights({"backbone.tflite": good, "head.tflite": good, file: bad}, {"backbone.tflite": recipe})


def test_hybrid_promises_int8_weights_above_a_thousand_entries():
    small, large = converted(10, 100), converted(6, 167)
    assert (dense_weights(small).entries, dense_weights(large).entries) == (SMALL, LARGE)
    check_weights({"backbone.tflite": small}, {"backbone.tflite": "hybrid"})
    check_weights({"backbone.tflite": large}, {"backbone.tflite": "float32"})
    with pytest.raises(UserError, match=r"hybrid left float weights in .*: FULLY_CONNECTED of 1,002;"):
        check_weights({"backbone.tflite": large}, {"backbone.tflite": "hybrid"})


def test_an_operator_that_reads_floats_is_a_float_operator():
    rows = {row["op"]: row for row in op_table(converted(40, 50))}
    assert rows["ARG_MAX"]["type"] == "FLOAT32"  # its only output is an int32
    assert rows["FULLY_CONNECTED"] == {"op": "FULLY_CONNECTED", "type": "FLOAT32", "count": 1, "weights": "FLOAT32"}
    hybrid = op_table(converted(40, 50, "hybrid"))
    assert {row["op"]: row.get("weights") for row in hybrid}["FULLY_CONNECTED"] == "INT8"
    with pytest.raises(UserError, match=r"int8 left floating-point operators in .*: ARG_MAX, FULLY_CONNECTED"):
        check_ops({"backbone.tflite": hybrid}, {"backbone.tflite": "int8"})
    int8 = op_table(converted(40, 50, "int8", largest=False))
    assert float_ops(int8) == []
    check_ops({"backbone.tflite": int8}, {"backbone.tflite": "int8"})


def test_operators_that_are_no_builtins_or_that_a_recipe_excludes():
    def of(recipe):
        return {"backbone.tflite": recipe}

    erf = {"op": "CUSTOM:FlexErf", "type": "FLOAT32", "count": 1}
    floating = {"op": "MUL", "type": "FLOAT32", "count": 2}
    add = {"op": "ADD", "type": "INT8", "count": 1}
    for file in ("backbone.tflite", "head.tflite"):
        tables = {"backbone.tflite": [add], "head.tflite": [floating]}
        check_ops(tables, of("int8"))
        with pytest.raises(UserError, match=f"{file} needs .*FlexErf"):
            check_ops({**tables, file: [*tables[file], erf]}, of("float32"))
    with pytest.raises(UserError, match=r"int8 left floating-point operators in .*: MUL"):
        check_ops({"backbone.tflite": [add, floating], "head.tflite": []}, of("int8"))
    check_ops({"backbone.tflite": [add, floating], "head.tflite": []}, of("mixed"))
    dense = {"op": "FULLY_CONNECTED", "type": "FLOAT32", "count": 2}
    with pytest.raises(UserError, match=r"mixed left floating-point operators in .*: FULLY_CONNECTED"):
        check_ops({"backbone.tflite": [add, floating, dense], "head.tflite": []}, of("mixed"))
    check_ops({"backbone.tflite": [add, floating], "head.tflite": []}, of("float32"))
