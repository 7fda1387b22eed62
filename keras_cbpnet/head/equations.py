"""The head's mathematics: inference, observation and one training step with continual backpropagation.

Pure functions from state to state, the only implementation on the host: the Keras layer trains with it and the exported
graph is traced from it. Every operation is a TFLite builtin that TFLM has too, hence the written-out backward pass
(a gradient through relu does not convert), the arithmetic masks (TFLM has neither SELECT nor ONE_HOT) and TensorFlow's
own argmin and argmax (those of keras.ops flush denormals with BITWISE_AND, which is not a builtin).

Sources: Dohare et al., Loss of plasticity in deep continual learning, Nature 632 (2024), for continual backpropagation;
Kingma and Ba, arXiv 1412.6980, for Adam. The order of operations is fixed by the bundle contract.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from firmware_host.bundle import BLOCKS
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.lazy import ops, tf

# Dimensions: B rows, d feature size, h hidden units, C class slots, R = B + C rows with the prototypes below.

State = dict[str, Any]
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
COSINE_EPSILON = 1e-12
MASKED = 1e9
NEVER = 1e30


def weight_names(block: str) -> tuple[str, ...]:
    """Return the names of the trained tensors of `block`."""
    return tuple(BLOCKS[block].weights)


def one_hot(index: Any, size: int) -> Any:
    """Return float32 [N, size] with a 1 at each `index` [N]; a row of zeros for an index outside of it."""
    distance = ops.cast(index, "float32")[:, None] - ops.arange(size, dtype="float32")[None, :]
    return ops.relu(1.0 - distance * distance)


def one_minus_power(beta: float, exponent: Any) -> Any:
    """Return 1 - beta**exponent without cancellation: with u = tanh(-exponent * ln(beta) / 2) it is 2u / (1 + u)."""
    if beta == 0.0:
        return ops.ones_like(exponent)
    u = ops.tanh(exponent * (-0.5 * math.log(beta)))
    return 2.0 * u / (1.0 + u)


def masked(logits: Any, class_mask: Any) -> Any:
    """Return `logits` [B, C] with -1e9 where `class_mask` [C] is 0."""
    return logits * class_mask + (class_mask - 1.0) * MASKED


def softmax(logits: Any) -> tuple[Any, Any]:
    """Return the probabilities [B, C] and the log of their normaliser [B] of `logits` [B, C]."""
    peak = ops.max(logits, axis=1, keepdims=True)
    powers = ops.exp(logits - peak)
    total = ops.sum(powers, axis=1, keepdims=True)
    return powers / total, ops.squeeze(ops.log(total) + peak, axis=1)


def renew_units(new: State, chosen: Any, fresh: Any) -> None:
    """Reset the units marked in `chosen` [h], in `new`.

    Args:
        new: state to change.
        chosen: float32 [h], 1 = this unit.
        fresh: incoming weights, float32 [d, h], or [d, 1] for all alike.
    """
    kept = 1.0 - chosen
    new["w1"] = new["w1"] * kept + fresh * chosen
    new["w2"] = new["w2"] * kept[:, None]
    for name in ("b1", "utility", "mean_activation", "age"):
        new[name] = new[name] * kept
    for slot in ("m", "v") if "m_w1" in new else ():
        new[f"{slot}_w1"] = new[f"{slot}_w1"] * kept
        new[f"{slot}_b1"] = new[f"{slot}_b1"] * kept
        new[f"{slot}_w2"] = new[f"{slot}_w2"] * kept[:, None]


class Head:
    """The head's equations for one configuration and one standardisation of the features.

    Args:
        config: block, sizes and rates.
        feature_mean: subtracted from the features, float32 [d].
        feature_scale: divides the difference, float32 [d].
    """

    def __init__(self, config: HeadConfig, feature_mean: Any, feature_scale: Any) -> None:
        self.config = config
        self.feature_mean = feature_mean
        self.feature_scale = feature_scale

    def _standardise(self, feature: Any) -> Any:
        return (feature - self.feature_mean) / self.feature_scale

    def _forward(self, state: Mapping[str, Any], feature: Any) -> State:
        """Return every value of the forward pass that the backward pass needs, `logits` [B, C] among them."""
        rows = ops.shape(feature)[0]
        if self.config.block == "prototype":
            feature = ops.concatenate([feature, state["class_mean"]], axis=0)  # (R, d)
        x = self._standardise(feature)  # (B or R, d)
        pre = ops.matmul(x, state["w1"]) + state["b1"]  # (B or R, h)
        hidden = self._activate(state, pre)
        out = ops.matmul(hidden, state["w2"]) + state["b2"]  # (B or R, d), or the logits
        values = {"x": x, "pre": pre, "hidden": hidden}
        if self.config.block == "mlp":
            return {**values, "logits": out}
        g = x + out
        if self.config.block == "residual":
            return {**values, "g": g, "logits": ops.matmul(g, state["w3"]) + state["b3"]}
        inverse_norm = 1.0 / ops.sqrt(ops.sum(g * g, axis=1, keepdims=True) + COSINE_EPSILON)  # (R, 1)
        unit = g * inverse_norm
        cosine = ops.matmul(unit[:rows], ops.transpose(unit[rows:]))  # (B, C)
        logits = cosine * self.config.logit_scale
        return {**values, "inverse_norm": inverse_norm, "unit": unit, "cosine": cosine, "logits": logits}

    def _activate(self, state: Mapping[str, Any], pre: Any) -> Any:
        """Return the hidden activations of `pre` [N, h]. Rules with other activations override this and the next."""
        return ops.relu(pre)

    def _activate_backward(self, state: Mapping[str, Any], pre: Any, d_hidden: Any) -> tuple[Any, State]:
        """Return the gradient of `pre` [N, h], and those of the tensors of the activation itself, each [h]."""
        return d_hidden * ops.cast(ops.relu(pre) > 0, "float32"), {}  # relu: so that a graph need not keep both

    def _backward(self, state: Mapping[str, Any], values: State, d_logits: Any) -> tuple[State, Any]:
        """Return the gradients of the trained tensors and that of the features [B, d]."""
        gradients: State = {}
        rows = ops.shape(d_logits)[0]
        if self.config.block == "mlp":
            d_out = d_logits  # (B, C)
        elif self.config.block == "residual":
            gradients["w3"] = ops.matmul(ops.transpose(values["g"]), d_logits)
            gradients["b3"] = ops.sum(d_logits, axis=0)
            d_out = ops.matmul(d_logits, ops.transpose(state["w3"]))  # (B, d)
        else:
            unit, cosine = values["unit"], values["cosine"]
            d_cosine = d_logits * self.config.logit_scale  # (B, C)
            pull = d_cosine * cosine
            d_unit = ops.concatenate(
                [ops.matmul(d_cosine, unit[rows:]), ops.matmul(ops.transpose(d_cosine), unit[:rows])], axis=0
            )  # (R, d)
            along = ops.concatenate([ops.sum(pull, axis=1), ops.sum(pull, axis=0)], axis=0)[:, None]  # (R, 1)
            d_out = (d_unit - unit * along) * values["inverse_norm"]  # (R, d)
        gradients["w2"] = ops.matmul(ops.transpose(values["hidden"]), d_out)
        gradients["b2"] = ops.sum(d_out, axis=0)
        d_hidden = ops.matmul(d_out, ops.transpose(state["w2"]))  # (B or R, h)
        d_pre, own = self._activate_backward(state, values["pre"], d_hidden)
        gradients.update(own)
        gradients["w1"] = ops.matmul(ops.transpose(values["x"]), d_pre)
        gradients["b1"] = ops.sum(d_pre, axis=0)
        d_x = ops.matmul(d_pre[:rows], ops.transpose(state["w1"]))  # (B, d)
        if self.config.block != "mlp":
            d_x = d_x + d_out[:rows]
        return gradients, d_x / self.feature_scale

    def _score(self, new: State, utility: Any, seen: Any) -> Any:
        """Return scores [h]: the lowest is reset. Overridden by rules that choose units in another way."""
        return utility / seen

    def infer(self, state: Mapping[str, Any], feature: Any) -> State:
        """Return `logits` and `probabilities`, float32 [B, C], of `feature`, float32 [B, d]."""
        logits = self._forward(state, feature)["logits"]
        return {"logits": logits, "probabilities": softmax(masked(logits, state["class_mask"]))[0]}

    def hidden(self, state: Mapping[str, Any], feature: Any) -> Any:
        """Return the block's hidden activations, float32 [B, h], of `feature`, float32 [B, d]."""
        return self._forward(state, feature)["hidden"][: ops.shape(feature)[0]]

    def observe(self, state: Mapping[str, Any], feature: Any, label: Any, weight: Any = None) -> State:
        """Return the state after counting `feature` [B, d] into the mean of its class `label` int32 [B], -1 = none.

        `weight`, where given: float32 [], 1 = count them, 0 = leave everything as it is.

        The batch in closed form: count += n, mean += (sum - n * mean) / count equals one image at a time.
        """
        member = one_hot(label, self.config.slots)  # (B, C)
        member = member if weight is None else member * weight
        n = ops.sum(member, axis=0)  # (C,)
        total = ops.matmul(ops.transpose(member), feature)  # (C, d)
        count = state["class_count"] + n
        share = 1.0 / ops.maximum(count, 1.0)  # (C,)
        mean = state["class_mean"] + (total - n[:, None] * state["class_mean"]) * share[:, None]
        return {**state, "class_count": count, "class_mean": mean}

    def _loss(self, logits: Any, label: Any, class_mask: Any) -> State:
        """Return `loss` [] of `logits` [B, C] and what its gradient needs; arguments as for `train`."""
        target = one_hot(label, self.config.slots)  # (B, C)
        valid = ops.sum(target, axis=1, keepdims=True)  # (B, 1)
        rows = ops.maximum(ops.sum(valid), 1.0)
        logits = masked(logits, class_mask)
        log_probability = ops.log_softmax(logits, axis=1)
        loss = ops.sum(target * log_probability) / -rows
        share = {"target": target, "share": valid / rows}
        return {**share, "logits": logits, "log_probability": log_probability, "loss": loss}

    def train(
        self, state: Mapping[str, Any], feature: Any, label: Any, class_mask: Any, learning_rate: Any, fresh: Any
    ) -> tuple[State, State]:
        """Do one training step: forward, backward, Adam, traces, at most one unit reset.

        Args:
            state: every state tensor by name.
            feature: float32 [B, d].
            label: int32 [B]; -1 marks an empty row.
            class_mask: float32 [C], 1 = may compete in the loss.
            learning_rate: float32 [].
            fresh: float32 [d], incoming weights for a unit that is reset.

        Returns:
            The new state; and `loss` [], `accuracy` [], `logits` [B, C] (before the step, no class masked), `replaced`
            int32 [] (index of the reset unit, or -1) and `feature_gradient` [B, d], the loss' derivative by `feature`.
        """
        c = self.config
        values = self._forward(state, feature)
        found = self._loss(values["logits"], label, class_mask)
        target, share = found["target"], found["share"]
        best = ops.cast(tf.argmax(found["logits"], axis=1, output_type=tf.int32), "float32")
        miss = best[:, None] - ops.cast(label, "float32")[:, None]  # (B, 1)
        accuracy = ops.sum(share * ops.relu(1.0 - miss * miss))
        # probability - target, but without 1 - 1e-7 at a label that is known well: Adam would blow that noise up.
        probability = ops.exp(found["log_probability"])  # (B, C)
        other = probability - probability * target
        d_rows = (other - target * ops.sum(other, axis=1, keepdims=True)) * class_mask  # (B, C), the loss of each row
        gradients, feature_gradient = self._backward(state, values, d_rows * share)

        new = {**state, "step": state["step"] + 1.0, "age": state["age"] + 1.0}
        if c.optimizer == "adam":
            self._adam(new, gradients, learning_rate)
        else:  # the gradients are linear in those of the logits, so these few numbers take the step size
            self._sgd(new, self._backward(state, values, d_rows * (share * learning_rate))[0])
        mean_hidden = ops.sum(values["hidden"][: ops.shape(feature)[0]] * share, axis=0)  # (h,)
        replaced = self.reset_unit(new, mean_hidden, fresh)
        result = {"loss": found["loss"], "accuracy": accuracy, "logits": values["logits"], "replaced": replaced}
        return new, {**result, "feature_gradient": feature_gradient}

    def _adam(self, new: State, gradients: State, learning_rate: Any) -> None:
        """Update the trained tensors and their slots in `new`; the tensors of one unit count their steps by its age.

        With r = sqrt(1 - beta2**t), rate * (m / (1 - beta1**t)) / (sqrt(v / r**2) + eps) is
        m / (sqrt(v) + eps * r) * (rate * r / (1 - beta1**t)): two numbers a unit, and fewer passes over the weights.
        """

        def corrected(steps: Any) -> tuple[Any, Any]:
            root = ops.sqrt(one_minus_power(BETA2, steps))
            return EPSILON * root, root / one_minus_power(BETA1, steps)

        unit, shared = corrected(new["age"]), corrected(new["step"])  # (h,), ()
        for name, g in gradients.items():
            m = BETA1 * new[f"m_{name}"] + (1.0 - BETA1) * g
            v = BETA2 * new[f"v_{name}"] + (1.0 - BETA2) * (g * g)
            floor, factor = unit if name in ("w1", "b1", "w2") else shared
            rate = self._rate(name, learning_rate) * factor
            if name == "w2":  # (h, d or C)
                floor, rate = floor[:, None], rate[:, None]
            new[name] = new[name] - m / (ops.sqrt(v) + floor) * rate
            new[f"m_{name}"], new[f"v_{name}"] = m, v

    def _sgd(self, new: State, steps: State) -> None:
        """Update the trained tensors in `new` by plain gradient descent; `steps`: gradients times learning rate."""
        for name, step in steps.items():
            rate = self._rate(name, 1.0)
            new[name] = new[name] - (step if rate == 1.0 else rate * step)

    def _rate(self, name: str, learning_rate: Any) -> Any:
        """Return the step size of the trained tensor `name`: times `block_rate` for the tensors of the block."""
        adapted = name in BLOCKS[self.config.block].adapted
        return learning_rate * (self.config.block_rate if adapted else 1.0)

    def reset_unit(self, new: State, mean_hidden: Any, fresh: Any) -> Any:
        """Update traces and debt in `new`, reset the least useful mature unit if one is due; return its index or -1.

        Args:
            new: the state after the optimizer's update, with `step` and `age` counted on; changed in place.
            mean_hidden: mean hidden activations of the batch, before the update, float32 [h].
            fresh: incoming weights for a unit that is reset, float32 [d].
        """
        c, eta = self.config, self.config.decay_rate
        gained = (1.0 - eta) * mean_hidden  # mean|h| = mean h after a relu
        utility = eta * new["utility"] + gained * ops.sum(ops.abs(new["w2"]), axis=1)  # (h,)
        mean_activation = eta * new["mean_activation"] + gained
        seen = one_minus_power(eta, new["age"])  # (h,), bias correction of the traces

        eligible = ops.cast(new["age"] > c.maturity_threshold, "float32")  # (h,)
        count = ops.sum(eligible)
        debt = new["replacement_debt"] + c.replacement_rate * count
        due = ops.cast(ops.minimum(debt, count) >= 1.0, "float32")
        score = self._score(new, utility, seen) + (1.0 - eligible) * NEVER
        unit = ops.cast(tf.argmin(score, axis=0, output_type=tf.int32), "float32")  # (), lowest index on a tie
        distance = unit - ops.arange(c.units, dtype="float32")
        chosen = ops.relu(1.0 - distance * distance) * due  # (h,)

        shift = chosen * (mean_activation / seen)  # (h,), what the unit gave on average goes into the bias
        new["b2"] = new["b2"] + ops.sum(new["w2"] * shift[:, None], axis=0)
        new["utility"], new["mean_activation"] = utility, mean_activation
        renew_units(new, chosen, fresh[:, None])
        new["replacement_debt"] = debt - due
        return ops.cast(due * (unit + 1.0) - 1.0, "int32")
