"""What every learning rule of the block is: hyper-parameters, and what it does around the one training step.

The step is `head.equations.Head.train`, shared by all; here it runs without unit resets unless the rule is `cbp`.
A rule takes Keras' operations and TensorFlow from `keras_cbpnet.lazy`: a wrong setting is refused before they load.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from firmware_host.shared.fresh import fresh_bound
from keras_cbpnet.config import Config, HeadConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.head.equations import Head, State
from keras_cbpnet.lazy import ops, tf

# Dimensions: B rows, d feature size, h hidden units, C class slots.


@dataclasses.dataclass(frozen=True)
class Rule(Config):
    """A learning rule of the head's block; this one, the base, adds nothing to the step.

    Pure functions on the state by name, as in the bundle contract; a rule may keep further tensors beside those.

    Attributes:
        head_class: the head's mathematics under this rule.
        on_device: whether a device can go on with the rule: head.tflite has the shared step and no other, and what a
            rule adds to it, firmware_host must do.
    """

    head_class: ClassVar[type[Head]] = Head
    on_device: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not 0 <= value < math.inf:
                raise UserError(f"{type(self).__name__}: {field.name} must be from 0 on, got {value}")
            if field.type == "int" and value < 1:
                raise UserError(f"{type(self).__name__}: {field.name} must be at least 1, got {value}")

    def head(self, config: HeadConfig, feature_mean: Any, feature_scale: Any) -> Head:
        """Return the head's mathematics under this rule; arguments as `Head`."""
        return self.head_class(self.settings(config), feature_mean, feature_scale)

    def settings(self, config: HeadConfig) -> HeadConfig:
        """Return the settings of the shared step: those of `config`, without unit resets."""
        return dataclasses.replace(config, replacement_rate=0.0)

    def start(self, state: Mapping[str, Any]) -> State:
        """Return the state before the first step, with the tensors that the rule adds."""
        return dict(state)

    def begin_task(self, head: Head, state: Mapping[str, Any], seed: Any) -> State:
        """Return the state with which a new task begins; called before every task but the first.

        Args:
            head: the head's mathematics, as `head` gives it.
            state: every state tensor by name.
            seed: of the random numbers, int32 []; they also depend on the number of steps.
        """
        return dict(state)

    def after_step(self, before: Mapping[str, Any], after: State, learning_rate: Any, seed: Any) -> State:
        """Return the state after a step.

        Args:
            before: the state before the step.
            after: the state that the step returned.
            learning_rate: of the step, float32 [].
            seed: as in `begin_task`.
        """
        return after

    def learn(
        self,
        head: Head,
        state: Mapping[str, Any],
        feature: Any,
        label: Any,
        class_mask: Any,
        learning_rate: Any,
        fresh: Any,
        seed: Any,
    ) -> tuple[State, State]:
        """Do one training step under this rule; arguments and result as `Head.train`, seed as in `begin_task`."""
        new, result = head.train(state, feature, label, class_mask, learning_rate, fresh)
        return self.after_step(state, new, learning_rate, seed), result


def trained(state: Mapping[str, Any]) -> list[str]:
    """Return the names of the trained tensors in `state`: those with Adam slots."""
    return [name for name in state if f"m_{name}" in state]


def newborn_weights(state: Mapping[str, Any], seed: Any) -> Any:
    """Return incoming weights as before the first step, U(-s, s) with s = sqrt(6 / d), float32 [d, h]."""
    bound = fresh_bound(state["w1"].shape[0])
    key = ops.stack([ops.cast(seed, "int32"), ops.cast(state["step"], "int32")])
    return tf.random.stateless_uniform(state["w1"].shape, key, -bound, bound)


def every(interval: int, state: State, change: Any) -> State:
    """Return `change()`, a state, at every `interval`-th step, else `state`."""
    due = ops.equal(ops.mod(ops.cast(state["step"], "int32"), interval), 0)
    return dict(ops.cond(due, change, lambda: dict(state)))
