"""The trainable head as one TFLite file with the contract's five signatures."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from firmware_host.bundle import file_shape
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.converter import convert_stateful
from keras_cbpnet.export.tflite_file.naming import named
from keras_cbpnet.export.tflite_file.quick import quicken
from keras_cbpnet.export.tflite_file.slim import slim
from keras_cbpnet.head.equations import Head
from keras_cbpnet.layers.cbp_head import CBPHead

# Dimensions: B rows, d feature size, C class slots.


def shipped(head: CBPHead, slots: int = 0) -> CBPHead:
    """Return the head that a device gets: the contract's step and state, whatever rule `head` was trained by.

    Args:
        head: of the run.
        slots: class slots, the new ones empty; 0: those of `head`. UserError for fewer.
    """
    slots = slots or head.slots
    if slots < head.slots:
        raise UserError(f"--slots {slots} is fewer than the run's {head.slots}; use {head.slots} or more")
    wider = CBPHead(dataclasses.replace(head.config, slots=slots), "cbp", own_step=True)
    wider.build((None, head.width))
    for name, variable in wider.state.items():
        value = np.zeros(variable.shape, np.float32)
        value[tuple(slice(size) for size in head.state[name].shape)] = head.state[name].numpy()
        wider.assign({name: value})
    for name in ("feature_mean", "feature_scale"):
        getattr(wider, name).assign(getattr(head, name))
    return wider


class HeadModule(tf.Module):
    """The head's state as variables and its equations as static-shaped functions."""

    def __init__(self, head: CBPHead) -> None:
        super().__init__()
        # Constants, so that they are part of the graph and not of the state.
        constants = [tf.constant(value.numpy()) for value in (head.feature_mean, head.feature_scale)]
        self.equations = Head(head.config, *constants)
        self.state = {name: tf.Variable(value.numpy(), name=name) for name, value in head.state.items()}

    def _values(self) -> dict[str, Any]:
        return {name: tf.convert_to_tensor(variable) for name, variable in self.state.items()}

    def _assign(self, new: dict[str, Any]) -> None:
        for name, value in new.items():
            self.state[name].assign(value)

    def infer(self, feature: Any) -> dict[str, Any]:
        """Infer: `feature` [1, d] -> `logits` [1, C], `probabilities` [1, C]."""
        return self.equations.infer(self._values(), feature)

    def observe(self, feature: Any, label: Any) -> dict[str, Any]:
        """Observe: `feature` [B, d], `label` int32 [B] -> `ok` []."""
        state = self._values()
        new = self.equations.observe(state, feature, label)
        self._assign({name: new[name] for name in ("class_mean", "class_count")})
        return {"ok": tf.reduce_sum(new["class_count"]) * 0.0 + 1.0}

    def train(self, feature: Any, label: Any, class_mask: Any, learning_rate: Any, fresh: Any) -> dict[str, Any]:
        """Do one training step -> `loss` [], `accuracy` [], `replaced` int32 []."""
        state = self._values()
        new, result = self.equations.train(state, feature, label, class_mask, learning_rate, fresh)
        self._assign({name: new[name] for name in new if new[name] is not state[name]})
        return {name: result[name] for name in ("loss", "accuracy", "replaced")}

    def get_state(self) -> dict[str, Any]:
        """Return every state tensor by name, a scalar as [1]: LiteRT's `CompiledModel` gives wrong scalars of state."""
        return {name: tf.reshape(value, file_shape(value.shape)) for name, value in self._values().items()}

    def set_state(self, **state: Any) -> dict[str, Any]:
        """Set every state tensor by name, shapes as `get_state` gives them -> `ok` []."""
        self._assign({name: tf.reshape(value, self.state[name].shape) for name, value in state.items()})
        return {"ok": tf.reduce_sum(state["step"]) * 0.0 + 1.0}


def convert_head(head: CBPHead) -> bytes:
    """Return `head` in its present state as a TFLite file; float32, TFLITE_BUILTINS alone, static shapes."""
    c, d = head.config, head.width
    module = HeadModule(head)

    def spec(name: str, *shape: int, dtype: Any = tf.float32) -> tf.TensorSpec:
        return tf.TensorSpec(shape, dtype, name=name)

    rows = [spec("feature", c.batch, d), spec("label", c.batch, dtype=tf.int32)]
    step = [spec("class_mask", c.slots), spec("learning_rate"), spec("fresh", d)]
    state = {name: spec(name, *file_shape(variable.shape)) for name, variable in module.state.items()}

    def traced(method: Any) -> Any:
        return tf.function(method, autograph=False).get_concrete_function

    signatures = {
        "infer": traced(module.infer)(spec("feature", 1, d)),
        "observe": traced(module.observe)(*rows),
        "train": traced(module.train)(*rows, *step),
        "get_state": traced(module.get_state)(),
        "set_state": traced(module.set_state)(**state),
    }
    mean, scale = (value.numpy() for value in (head.feature_mean, head.feature_scale))
    constants = {"-feature_mean": -mean, "feature_scale": scale, "1 / feature_scale": 1.0 / scale}
    return named(slim(quicken(convert_stateful(module, signatures))), constants)
