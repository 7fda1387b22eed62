"""The graph of a .tflite file: sizes of its tensors."""

import pytest
from ai_edge_litert import schema_py_generated as schema

from keras_cbpnet.export.tflite_file.graph import Model


@pytest.mark.parametrize(("name", "size"), [("FLOAT32", 4), ("INT16", 2), ("INT32", 4), ("INT8", 1), ("BOOL", 1)])
def test_a_tensor_of_every_type_that_conversion_writes_has_a_size(name, size):
    tensor = schema.TensorT()
    tensor.type, tensor.shape = getattr(schema.TensorType, name), [1, 3, 5]
    graph = schema.SubGraphT()
    graph.tensors = [tensor]
    assert Model.size(Model.__new__(Model), graph, 0) == 15 * size
