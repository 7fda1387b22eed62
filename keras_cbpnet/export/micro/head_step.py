"""head_step.tflite: the head's inference, observation and training step as one graph for TFLM.

TFLM runs one signature, so inputs say what to do: `observe` 1 takes the rows into the class means before all else;
`learning_rate` above 0 does one training step; at 0 the state stays as it is. The state lives in variable tensors,
which are outputs too: so a program can read and write it where it lies.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_cbpnet.export.converter import convert_stateful
from keras_cbpnet.export.head import HeadModule
from keras_cbpnet.export.micro.step_graph import OUTPUTS, SIGNATURE, lean_step
from keras_cbpnet.head.equations import NEVER, weight_names
from keras_cbpnet.layers.cbp_head import CBPHead

# Dimensions: B rows, d feature size, C class slots.


class StepModule(HeadModule):
    """Observation, forward pass and training step with one signature."""

    def step(
        self, feature: Any, label: Any, class_mask: Any, learning_rate: Any, fresh: Any, observe: Any
    ) -> dict[str, Any]:
        """Return `loss` [], `logits` [B, C] (before the step) and `replaced` int32 [] (-1: none)."""
        state = self._values()
        learns = learning_rate > 0.0
        seen = self.equations.observe(state, feature, label, observe)
        debt = tf.where(learns, seen["replacement_debt"], -NEVER)  # no unit is due
        new, result = self.equations.train(
            {**seen, "replacement_debt": debt}, feature, label, class_mask, learning_rate, fresh
        )
        for name in new:  # what a learning rate of 0 does not keep as it is by itself
            if (
                name not in (*weight_names(self.equations.config.block), "class_mean", "class_count")
                and new[name] is not state[name]
            ):
                new[name] = tf.where(learns, new[name], state[name])
        self._assign({name: new[name] for name in new if new[name] is not state[name]})
        return {name: result[name] for name in OUTPUTS}


def convert_head_step(head: CBPHead, batch: int) -> bytes:
    """Return `head` in its present state as a TFLite file for TFLM; float32, `batch` rows, static shapes.

    Inputs `feature` [B, d], `label` int32 [B] (-1 = empty row), `class_mask` [C], `learning_rate` [], `fresh` [d],
    `observe` []; outputs `loss` [], `logits` [B, C] (before the step), `replaced` int32 [] (-1: none), and the state
    after the step by name.
    """
    return lean_step(_convert(head, batch))


def _convert(head: CBPHead, batch: int) -> bytes:
    c, d = head.config, head.width
    module = StepModule(head)

    def spec(name: str, *shape: int, dtype: Any = tf.float32) -> tf.TensorSpec:
        return tf.TensorSpec(shape, dtype, name=name)

    step = tf.function(module.step, autograph=False).get_concrete_function(
        spec("feature", batch, d), spec("label", batch, dtype=tf.int32), spec("class_mask", c.slots),
        spec("learning_rate"), spec("fresh", d), spec("observe"),
    )  # fmt: skip
    return convert_stateful(module, {SIGNATURE: step})
