"""All of this project that knows TensorFlow Lite's converter: graphs in, .tflite files out.

The files themselves are read and written with the schema that LiteRT ships (`ai_edge_litert.schema_py_generated`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2


def without_variables(graph: Any) -> Any:
    """Return a concrete function whose variables are the constants that they are now."""
    return convert_variables_to_constants_v2(graph)


def convert_graph(graph: Any) -> bytes:
    """Return a concrete function without variables as a .tflite file of builtin operators, float32."""
    converter = tf.lite.TFLiteConverter.from_concrete_functions([graph], tf.Module())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return bytes(converter.convert())


def convert_stateful(module: tf.Module, signatures: Mapping[str, Any]) -> bytes:
    """Return `signatures`, concrete functions by name over the variables of `module`, as one .tflite file, float32.

    Builtin operators alone; the variables become resource variables, which the signatures share.
    """

    def prepare(converter: Any) -> None:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True

    return _converted(module, signatures, prepare)


def convert_inference(
    serve: Any, quantized_weights: bool, representative: Callable[[], Iterable[Mapping[str, Any]]] | None
) -> bytes:
    """Return one graph without variables as a .tflite file with the signature `serving_default`.

    Args:
        serve: a function with an input signature.
        quantized_weights: whether weights are int8.
        representative: gives inputs by name, float32, which set the ranges of int8 activations where no fake quantizer
            does; the graph then takes uint8 and gives int8. None: activations are float32.
    """

    def prepare(converter: Any) -> None:
        if quantized_weights:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if representative is not None:
            converter.representative_dataset = representative
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8
            converter.inference_output_type = tf.int8
        else:  # int8 weights without representative images: dynamic range
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        # Per-channel dense weights crash tflite-runtime 2.14 on aarch64.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True

    return _converted(tf.Module(), {"serving_default": serve}, prepare)


def _converted(module: tf.Module, signatures: Mapping[str, Any], prepare: Callable[[Any], None]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=dict(signatures))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(signatures))
        prepare(converter)
        return bytes(converter.convert())
