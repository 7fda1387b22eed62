"""The head in NumPy: inference and one training step (Adam or SGD, and continual backpropagation), all in float32.

Reference in tests, and the engine where no runtime can train. CBP: Dohare et al., Nature 2024.
Dimensions: d features, h hidden units, C class slots, B training rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from firmware_host.bundle import DeviceError, state_shapes
from firmware_host.bundle.contract import BLOCKS, axes
from firmware_host.engines.forward import F32, Constants, Forward, masked, quietly, softmax
from firmware_host.engines.protocol import Array, HeadState, TrainResult

__all__ = ["NumpyHead"]

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class NumpyHead:
    """A trainable head of one of the three blocks.

    Args:
        config: the manifest's `head` section.
        state: every state tensor by name, as in `bundle.state_shapes`.

    Raises:
        DeviceError: a state tensor is missing or has another shape.
    """

    def __init__(self, config: Mapping[str, Any], state: Mapping[str, Array]) -> None:
        self.constants = Constants.of(config)
        self.block, self.logit_scale = self.constants.block, self.constants.logit_scale
        self.decay = float(config["decay_rate"])
        self.rate = F32(config["replacement_rate"])
        self.maturity = F32(config["maturity_threshold"])
        self.block_rate = F32(config["block_rate"])
        sizes = (len(self.constants.mean), int(config["units"]), int(config["slots"]))
        self.optimizer = str(config.get("optimizer", "adam")).lower()
        self._shapes = state_shapes(self.block, *sizes, self.optimizer)
        self._weights, self._adapted = BLOCKS[self.block].weights, BLOCKS[self.block].adapted
        self._unit_axes = axes(self.block, self.optimizer, "h")
        self.state: HeadState = {}
        self.set_state(state)

    def infer(self, feature: Array) -> tuple[Array, Array]:
        """Return logits and probabilities [n, C] of features [n, d]; probabilities over the state's class_mask."""
        return Forward(self.constants, self.state)(feature)

    def observe(self, feature: Array, label: Array) -> None:
        """Take images into the running class means, one at a time: count += 1, mean += (feature - mean) / count.

        feature [n, d] in its own units; label int32 [n], -1 = empty row.
        """
        mean, count = self.state["class_mean"], self.state["class_count"]
        for row, slot in zip(np.asarray(feature, F32), np.asarray(label)):
            if slot >= 0:
                count[slot] += F32(1)
                mean[slot] += (row - mean[slot]) / count[slot]

    @quietly
    def train(self, feature: Array, label: Array, class_mask: Array, learning_rate: float, fresh: Array) -> TrainResult:
        """Make one training step.

        Args:
            feature: [B, d], in its own units.
            label: int32 [B], -1 = empty row.
            class_mask: [C], 1 = may compete in the loss; the class_mask of the state does not change.
            learning_rate: the optimizer's step size.
            fresh: [d], incoming weights for a unit that is reset in this step.

        Returns:
            loss, accuracy over the valid rows and the index of the reset unit (-1: none).
        """
        x = self.constants.standardise(feature)  # (B, d)
        label = np.asarray(label)
        allowed = np.asarray(class_mask, F32) > 0  # (C,)
        valid = label >= 0  # (B,)
        share = valid.astype(F32) / F32(max(int(valid.sum()), 1))  # (B,), one over the number of valid rows
        target = (label[:, None] == np.arange(len(allowed))).astype(F32)  # (B, C)

        forward = Forward(self.constants, self.state)
        values = forward.values(x)
        logits = masked(values["logits"], allowed)  # (B, C)
        probabilities, total, peak = softmax(logits)
        log_total = (np.log(total) + peak)[:, 0]  # (B,)
        loss = np.sum(share * (log_total - np.sum(target * logits, axis=1)))
        accuracy = np.sum(share * (np.argmax(logits, axis=1) == label))
        # softmax - target, without the cancellation at a label whose probability is nearly 1: Adam would amplify it.
        other = probabilities * (1 - target)  # (B, C)
        d_logits = (other - target * other.sum(axis=1, keepdims=True)) * share[:, None] * allowed  # (B, C)
        self._update(self._gradients(x, forward, values, d_logits), F32(learning_rate))
        self._trace(share @ values["hidden"])
        replaced = self._reset_unit(np.asarray(fresh, F32))
        return TrainResult(float(loss), float(accuracy), replaced)

    def get_state(self) -> HeadState:
        """Return a copy of every state tensor by name."""
        return {name: value.copy() for name, value in self.state.items()}

    def set_state(self, state: Mapping[str, Array]) -> None:
        """Replace every state tensor by a float32 copy; raises DeviceError when one is missing or misshapen."""
        copies: HeadState = {}
        for name, shape in self._shapes.items():
            if name not in state:
                raise DeviceError(f"state tensor {name!r} is missing: give all of {', '.join(self._shapes)}")
            copies[name] = np.array(state[name], F32)
            if copies[name].shape != shape:
                raise DeviceError(f"state tensor {name!r} has shape {copies[name].shape}: this head needs {shape}")
        self.state = copies

    def _gradients(self, x: Array, forward: Forward, values: Mapping[str, Array], d_logits: Array) -> dict[str, Array]:
        """Return the gradient of the loss for every weight; d_logits (B, C)."""
        s, hidden = self.state, values["hidden"]
        if self.block == "mlp":
            return self._block_gradients(x, hidden, d_logits)
        if self.block == "residual":
            gradients = self._block_gradients(x, hidden, d_logits @ s["w3"].T)
            return {**gradients, "w3": values["g"].T @ d_logits, "b3": d_logits.sum(axis=0)}
        d_cosine = self.logit_scale * d_logits  # (B, C)
        weighted = d_cosine * values["cosine"]  # (B, C)
        unit_g, prototypes = values["unit_g"], forward.prototypes
        # d cos(a, b) / d a = (unit_b - cos unit_a) / |a|, with |a| = sqrt(a.a + eps) and unit_a = a / |a|
        d_g = (d_cosine @ prototypes.unit - weighted.sum(axis=1)[:, None] * unit_g) / values["norm_g"]  # (B, d)
        d_M = (d_cosine.T @ unit_g - weighted.sum(axis=0)[:, None] * prototypes.unit) / prototypes.norm  # (C, d)
        rows = self._block_gradients(x, hidden, d_g)
        means = self._block_gradients(prototypes.M, prototypes.hidden, d_M)
        return {name: rows[name] + means[name] for name in rows}

    def _block_gradients(self, x: Array, hidden: Array, d_out: Array) -> dict[str, Array]:
        """Return the gradients of w1, b1, w2, b2 for out = relu(x w1 + b1) w2 + b2 (+ x); d_out (n, d or C)."""
        d_pre = (d_out @ self.state["w2"].T) * (hidden > 0)  # (n, h)
        return {"w1": x.T @ d_pre, "b1": d_pre.sum(axis=0), "w2": hidden.T @ d_out, "b2": d_out.sum(axis=0)}

    def _update(self, gradients: Mapping[str, Array], learning_rate: np.float32) -> None:
        """Step by SGD or Adam (Kingma and Ba 2015); a hidden unit has its age for the bias correction."""
        s = self.state
        s["step"] = s["step"] + np.ones((), F32)
        s["age"] += F32(1)
        for name, letters in self._weights.items():
            rate = learning_rate * self.block_rate if name in self._adapted else learning_rate
            gradient = gradients[name]
            if self.optimizer == "sgd":
                s[name] -= rate * gradient
                continue
            steps = s["age"][_unit_index(letters)] if name in self._unit_axes else s["step"]
            m, v = s["m_" + name], s["v_" + name]
            m[...] = F32(BETA_1) * m + F32(1 - BETA_1) * gradient
            v[...] = F32(BETA_2) * v + F32(1 - BETA_2) * gradient * gradient
            m_hat = m / _one_minus_power(BETA_1, steps)
            v_hat = v / _one_minus_power(BETA_2, steps)
            s[name] -= rate * m_hat / (np.sqrt(v_hat) + F32(EPSILON))

    def _trace(self, activation: Array) -> None:
        """Update utility and mean activation; `activation` (h,) is the mean over the valid rows before the update."""
        s, eta, rest = self.state, F32(self.decay), F32(1 - self.decay)
        outgoing = np.abs(s["w2"]).sum(axis=1)  # (h,)
        s["utility"] = eta * s["utility"] + rest * activation * outgoing
        s["mean_activation"] = eta * s["mean_activation"] + rest * activation

    def _reset_unit(self, fresh: Array) -> int:
        """Reset the least useful mature unit when one is due; return its index or -1."""
        s = self.state
        eligible = s["age"] > self.maturity  # (h,)
        count = F32(np.count_nonzero(eligible))
        s["replacement_debt"] = np.asarray(F32(s["replacement_debt"]) + self.rate * count, F32)
        if count == 0 or s["replacement_debt"] < 1:
            return -1
        correction = _one_minus_power(self.decay, s["age"])  # (h,)
        j = int(np.argmin(np.where(eligible, s["utility"] / correction, np.inf)))
        s["replacement_debt"] = np.asarray(F32(s["replacement_debt"]) - F32(1), F32)
        s["b2"] += s["w2"][j] * (s["mean_activation"][j] / correction[j])
        for name, axis in self._unit_axes.items():
            s[name][(slice(None),) * axis + (j,)] = 0
        s["w1"][:, j] = fresh
        return j


def _unit_index(letters: str) -> tuple[slice | None, ...]:
    """Return the index that shapes one number per hidden unit like a tensor with these axes."""
    return tuple(slice(None) if letter == "h" else None for letter in letters)


def _one_minus_power(beta: float, steps: Array) -> Array:
    """Return 1 - beta**steps without cancellation, in the shape of `steps`."""
    if beta == 0.0:
        return np.ones_like(steps)
    return np.asarray(-np.expm1(steps * F32(math.log(beta))), F32)
