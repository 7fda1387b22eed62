"""The trainable head as a Keras layer: the contract's state tensors as variables around the shared step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from firmware_host.bundle import state_shapes
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.plasticity.step import Head, masked

# Dimensions: B rows, d feature size, h hidden units, C class slots.


@keras.saving.register_keras_serializable("keras_cbpnet")
class CBPHead(keras.layers.Layer):
    """A classifier over C slots whose block learns by continual backpropagation.

    All variables are non-trainable for Keras: `learn` updates them by `plasticity.step`, Adam included, so that
    host and device train alike. `call` gives the logits over the classes seen (`class_mask` 1), -1e9 elsewhere.

    Args:
        config: block, sizes and rates; a `HeadConfig` or its dictionary.
    """

    def __init__(self, config: HeadConfig | Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config if isinstance(config, HeadConfig) else HeadConfig.from_dict(config or {})

    def build(self, input_shape: Any) -> None:
        c, d = self.config, input_shape[-1]
        self.width = d
        self.bound = math.sqrt(6.0 / d)  # of a unit's incoming weights at its birth
        self.feature_mean = self.add_weight(name="feature_mean", shape=(d,), initializer="zeros", trainable=False)
        self.feature_scale = self.add_weight(name="feature_scale", shape=(d,), initializer="ones", trainable=False)
        self.state: dict[str, keras.Variable] = {}
        for name, shape in state_shapes(c.block, d, c.units, c.slots).items():
            start = keras.initializers.RandomUniform(-self.bound, self.bound) if name == "w1" else "zeros"
            self.state[name] = self.add_weight(name=name, shape=shape, initializer=start, trainable=False)

    @property
    def equations(self) -> Head:
        """The head's mathematics with this layer's standardisation of the features."""
        return Head(self.config, ops.convert_to_tensor(self.feature_mean), ops.convert_to_tensor(self.feature_scale))

    def values(self) -> dict[str, Any]:
        """Return the state tensors by name."""
        return {name: ops.convert_to_tensor(variable) for name, variable in self.state.items()}

    def assign(self, state: Mapping[str, Any]) -> None:
        """Set the state tensors named in `state`."""
        for name, value in state.items():
            self.state[name].assign(value)

    def standardise(self, features: np.ndarray) -> None:
        """Take mean and standard deviation of `features` [N, d] as the constants of x = (feature - mean) / scale.

        A dimension that hardly varies is scaled like the average one, so that it cannot explode later.
        """
        deviation = features.std(axis=0)
        typical = float(np.sqrt(np.mean(deviation**2))) or 1.0
        self.feature_mean.assign(features.mean(axis=0))
        self.feature_scale.assign(np.maximum(deviation, 0.1 * typical))

    def call(self, feature: Any) -> Any:
        """Return the logits, float32 [B, C], of `feature`, float32 [B, d]; -1e9 for classes not seen yet."""
        state = self.values()
        return masked(self.equations.infer(state, feature)["logits"], state["class_mask"])

    def observe(self, feature: Any, label: Any) -> None:
        """Count `feature` [B, d] into the means of the classes `label` int32 [B]."""
        state = self.values()
        new = self.equations.observe(state, feature, label)
        self.assign({name: new[name] for name in ("class_mean", "class_count")})

    def learn(self, feature: Any, label: Any, class_mask: Any, learning_rate: Any, fresh: Any) -> dict[str, Any]:
        """Do one training step and keep its state; arguments and result as `plasticity.step.Head.train`."""
        new, result = self.equations.train(self.values(), feature, label, class_mask, learning_rate, fresh)
        self.assign(new)
        return result

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": self.config.to_dict()}
