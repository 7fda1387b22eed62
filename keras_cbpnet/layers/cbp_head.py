"""The trainable head as a Keras layer: the contract's state tensors as variables around the shared step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from firmware_host.bundle import BLOCKS, ClassStatistics, state_shapes
from firmware_host.shared.fresh import fresh_bound
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.head.equations import Head, masked
from keras_cbpnet.head.standardise import mean_and_scale
from keras_cbpnet.plasticity import format_rule, parse_rule
from keras_cbpnet.plasticity.rule import Rule
from keras_cbpnet.seeds import folded

# Dimensions: S steps, B rows, d feature size, h hidden units, C class slots.

FIT_BLOCKS = ("mlp", "residual")
FIT_RULES = ("cbp", "cbp_random", "none")
STEPS = 128  # the compiled loop takes a multiple of these, so that few lengths are compiled


@keras.saving.register_keras_serializable("keras_cbpnet")
class CBPHead(keras.layers.Layer):
    """A classifier over C slots whose block learns by continual backpropagation.

    An ordinary layer: `fit` trains it together with any other, and the callback `UnitResets` resets its units.

        head = keras_cbpnet.CBPHead({"units": 64, "slots": 10})
        model = keras.Sequential([keras.Input((128,)), head])
        model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(features, labels, callbacks=[keras_cbpnet.UnitResets()])

    With `own_step`, all variables are non-trainable for Keras: `learn` updates them by `head.equations`, Adam included,
    so that host and device train alike. `call` gives the logits over the classes seen (`class_mask` 1; under `fit` all
    of them), -1e9 elsewhere.

    Args:
        config: block, sizes and rates; a `HeadConfig` or its dictionary. Under `fit` the block is `mlp` or `residual`,
            `mlp` where none is named; what belongs to the optimizer (`learning_rate`, `block_rate`, `batch`,
            `optimizer`) is not used.
        rule: how the block keeps its plasticity; a `plasticity.Rule` or what `parse_rule` reads. Under `fit` one of
            `cbp`, `cbp_random` and `none`.
        seed: of what the rule and a reset unit draw; the number of steps decides the rest.
        own_step: whether it learns by `learn` alone, instead of under `fit`.

    Raises:
        UserError: under `fit`, for another block or rule.
    """

    def __init__(
        self,
        config: HeadConfig | Mapping[str, Any] | None = None,
        rule: Rule | str = "cbp",
        seed: int = 0,
        own_step: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.own_step = own_step
        self.units_reset = 0  # under `fit`, so far
        self.seed = folded(seed, 31)  # TensorFlow takes it as int32
        self.rule = parse_rule(rule) if isinstance(rule, str) else rule
        if not isinstance(config, HeadConfig):
            config = HeadConfig.from_dict({**({} if own_step else {"block": FIT_BLOCKS[0]}), **(config or {})})
        self.config = self.rule.settings(config)
        if not own_step:
            self._check_fit()
        # Whether `learn_many` goes through XLA: faster steps, seconds before the first, other random numbers.
        self.compiled = False
        # Without autograph, which translates every line of the step before it is traced: half of the seconds.
        loops = {c: tf.function(self._learn_steps, jit_compile=c, autograph=False) for c in (False, True)}
        self._loops = loops

    def build(self, input_shape: Any) -> None:
        c, d = self.config, input_shape[-1]
        self.width = d
        self.bound = fresh_bound(d)  # of the incoming weights of a new or reset unit
        self.feature_mean = self.add_weight(name="feature_mean", shape=(d,), initializer="zeros", trainable=False)
        self.feature_scale = self.add_weight(name="feature_scale", shape=(d,), initializer="ones", trainable=False)
        self.state: dict[str, keras.Variable] = {}
        optimizer = c.optimizer if self.own_step else "sgd"  # under `fit`, the moments are the model's optimizer's
        for name, shape in state_shapes(c.block, d, c.units, c.slots, optimizer).items():
            start: Any = keras.initializers.RandomUniform(-self.bound, self.bound) if name == "w1" else "zeros"
            trainable = not self.own_step and name in BLOCKS[c.block].weights
            if name == "class_mask" and not self.own_step:
                start = "ones"
            self.state[name] = self.add_weight(name=name, shape=shape, initializer=start, trainable=trainable)
        if not self.own_step:
            self.mean_hidden = self.add_weight(
                name="mean_hidden", shape=(c.units,), initializer="zeros", trainable=False
            )
        for name, value in self.rule.start(self.values()).items():
            if name not in self.state:  # a tensor that the rule adds
                self.state[name] = self.add_weight(name=name, shape=value.shape, initializer="zeros", trainable=False)
                self.state[name].assign(value)

    @property
    def slots(self) -> int:
        """C."""
        return self.config.slots

    @property
    def equations(self) -> Head:
        """The head's mathematics with this layer's standardisation of the features."""
        constants = (ops.convert_to_tensor(value) for value in (self.feature_mean, self.feature_scale))
        return self.rule.head(self.config, *constants)

    def values(self) -> dict[str, Any]:
        """Return the state tensors by name."""
        return {name: ops.convert_to_tensor(variable) for name, variable in self.state.items()}

    def assign(self, state: Mapping[str, Any]) -> None:
        """Set the state tensors named in `state`."""
        for name, value in state.items():
            self.state[name].assign(value)

    def standardise(self, features: np.ndarray) -> None:
        """Take the constants of x = (feature - mean) / scale from `features` [N, d]; see `mean_and_scale`."""
        mean, scale = mean_and_scale(features)
        self.feature_mean.assign(mean)
        self.feature_scale.assign(scale)

    def call(self, feature: Any, training: bool = False) -> Any:
        """Return the logits, float32 [B, C], of `feature`, float32 [B, d]; -1e9 for classes not seen yet."""
        state = self.values()
        if training and not self.own_step:
            self.mean_hidden.assign(ops.mean(self.equations.hidden(state, feature), axis=0))
        return masked(self.equations.infer(state, feature)["logits"], state["class_mask"])

    def open(self, slots: Sequence[int]) -> None:
        """Let the classes of `slots` take part."""
        mask = ops.convert_to_numpy(self.state["class_mask"]).copy()
        mask[list(slots)] = 1.0
        self.assign({"class_mask": mask})

    def begin_task(self) -> None:
        """Let the rule do what it does between two tasks."""
        if float(self.state["step"]) > 0:
            self.assign(self.rule.begin_task(self.equations, self.values(), self.seed))

    def restart_optimizer(self) -> None:
        """Forget Adam's moments and its number of steps."""
        moments = [name for name in self.state if name.startswith(("m_", "v_"))]
        self.assign({name: ops.zeros_like(self.state[name]) for name in (*moments, "step", "age")})

    def observe(self, feature: Any, label: Any) -> None:
        """Count `feature` [B, d] into the means of the classes `label` int32 [B]."""
        state = self.values()
        new = self.equations.observe(state, feature, label)
        self.assign({name: new[name] for name in ("class_mean", "class_count")})

    def observe_all(self, statistics: ClassStatistics) -> None:
        """Take class means and counts from `statistics`."""
        self.assign({"class_mean": statistics.mean, "class_count": statistics.count})

    def fresh(self, step: Any) -> Any:
        """Return incoming weights [d] for a unit reset in `step`: a reloaded model goes on as the saved one."""
        key = ops.stack([self.seed, ops.cast(step, "int32")])
        return tf.random.stateless_uniform((self.width,), key, -self.bound, self.bound)

    def learn(
        self, feature: Any, label: Any, class_mask: Any, learning_rate: Any = None, fresh: Any = None
    ) -> dict[str, Any]:
        """Do one training step and keep its state; arguments and result as `head.equations.Head.train`.

        The learning rate is the configuration's, and `fresh` is drawn, where they are not given.
        """
        state = self.values()
        learning_rate = self.config.learning_rate if learning_rate is None else learning_rate
        fresh = self.fresh(state["step"]) if fresh is None else fresh
        new, result = self.rule.learn(
            self.equations, state, feature, label, class_mask, learning_rate, fresh, ops.convert_to_tensor(self.seed)
        )
        self.assign(new)
        return result

    def end_step(self) -> Any:
        """Under `fit`, after the optimizer's update: take the traces on and reset a unit if one is due.

        Returns:
            Index of the unit that was reset, int32 [], or -1.
        """
        state = self.values()
        new = {**state, "step": state["step"] + 1.0, "age": state["age"] + 1.0}
        replaced = self.equations.reset_unit(new, ops.convert_to_tensor(self.mean_hidden), self.fresh(state["step"]))
        self.assign(new)
        return replaced

    def learn_many(self, feature: np.ndarray, label: np.ndarray, class_mask: Any) -> dict[str, float]:
        """Do one training step on each batch of feature [S, B, d] and label [S, B], in one loop.

        Returns:
            The means of `loss` and `accuracy`, and the number of units `replaced`.
        """
        steps = len(label)
        pad = -steps % STEPS
        feature = np.pad(feature, ((0, pad), (0, 0), (0, 0)))
        label = np.pad(label, ((0, pad), (0, 0)))
        constants = [ops.convert_to_tensor(value) for value in (self.feature_mean, self.feature_scale)]
        loop = self._loops[self.compiled]
        new, sums = loop(
            self.values(), constants, feature, label, tf.constant(steps), ops.convert_to_tensor(class_mask)
        )
        self.assign(new)
        loss, accuracy, replaced = (float(value) for value in sums)
        return {"loss": loss / steps, "accuracy": accuracy / steps, "replaced": replaced}

    def _learn_steps(self, state: Any, constants: Any, feature: Any, label: Any, steps: Any, class_mask: Any) -> Any:
        names = sorted(state)
        head = self.rule.head(self.config, *constants)

        def step(i: Any, values: Any, sums: Any) -> Any:
            now = dict(zip(names, values, strict=True))
            new, result = self.rule.learn(
                head,
                now,
                feature[i],
                label[i],
                class_mask,
                self.config.learning_rate,
                self.fresh(now["step"]),
                tf.constant(self.seed),
            )
            gained = (result["loss"], result["accuracy"], ops.cast(result["replaced"] >= 0, "float32"))
            return i + 1, [new[name] for name in names], [a + b for a, b in zip(sums, gained, strict=True)]

        start = (tf.constant(0), [state[name] for name in names], [tf.zeros(())] * 3)
        _, values, sums = tf.while_loop(lambda i, *_: i < steps, step, start)
        return dict(zip(names, values, strict=True)), sums

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "config": self.config.to_dict(),
            "rule": format_rule(self.rule),
            "seed": self.seed,
            "own_step": self.own_step,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> CBPHead:
        """Return the layer of `get_config`; one that was saved before there was a choice has its own step."""
        return cls(**{"own_step": True, **config})

    def _check_fit(self) -> None:
        if self.config.block not in FIT_BLOCKS:
            raise UserError(
                f"block {self.config.block!r} takes class means, which `fit` does not count; choose one of "
                f"{', '.join(FIT_BLOCKS)}, or own_step=True and `observe` and `learn`"
            )
        name = format_rule(self.rule).partition(":")[0]
        if name not in FIT_RULES:
            raise UserError(
                f"rule {name!r} is part of the head's own step; under `fit` choose one of {', '.join(FIT_RULES)}"
            )
