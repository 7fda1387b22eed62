"""The head's forward pass in NumPy, all in float32: what a head says in one state.

Dimensions: d features, h hidden units, C class slots, n rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np

from firmware_host.engines.protocol import Array

__all__ = ["F32", "Constants", "Forward", "masked", "quietly", "softmax"]

F32 = np.float32
COSINE_EPSILON = F32(1e-12)
EXCLUDED_LOGIT = F32(-1e9)
Method = TypeVar("Method", bound=Callable[..., Any])


def quietly(method: Method) -> Method:
    """Keep NumPy's overflow warnings off stderr: the learner looks for nan itself, as with any other engine."""
    return np.errstate(over="ignore", invalid="ignore")(method)


class Constants(NamedTuple):
    """What a head's forward pass needs beside its state.

    Attributes:
        block: `prototype`, `mlp` or `residual`.
        mean, scale: [d] each, of the features, which are standardised by them.
        logit_scale: from cosines to logits, of `prototype` alone.
    """

    block: str
    mean: Array
    scale: Array
    logit_scale: np.float32

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Constants:
        """Return those of a manifest's `head` section."""
        mean, scale = (np.asarray(config[name], F32) for name in ("feature_mean", "feature_scale"))
        return cls(str(config["block"]), mean, scale, F32(config["logit_scale"]))

    def standardise(self, feature: Array) -> Array:
        """Return features [n, d] in units of their deviation."""
        return (np.asarray(feature, F32) - self.mean) / self.scale


class Prototypes(NamedTuple):
    """The class means as a prototype block sees them, and what gradients need of the way there."""

    M: Array  # (C, d), standardised
    hidden: Array  # (C, h)
    unit: Array  # (C, d), of length 1
    norm: Array  # (C, 1), length before


class Forward:
    """The forward pass in one state, which must not change meanwhile; the class means pass through the block once.

    Args:
        constants: of the head.
        state: its tensors by name.
    """

    def __init__(self, constants: Constants, state: Mapping[str, Array]) -> None:
        self._constants, self._state = constants, state

    @quietly
    def __call__(self, feature: Array) -> tuple[Array, Array]:
        """Return logits and probabilities [n, C] of features [n, d]; probabilities over the state's class_mask."""
        logits = self.values(self._constants.standardise(feature))["logits"]
        return logits, softmax(masked(logits, self._allowed))[0]

    @cached_property
    def _allowed(self) -> Array:
        return self._state["class_mask"] > 0

    @cached_property
    def prototypes(self) -> Prototypes:
        """The class means after the block, where it is `prototype`."""
        s = self._state
        M = self._constants.standardise(s["class_mean"])  # (C, d)
        hidden = self._hidden(M)  # (C, h)
        return Prototypes(M, hidden, *_unit(M + hidden @ s["w2"] + s["b2"]))

    def values(self, x: Array) -> dict[str, Array]:
        """Return logits [n, C] of standardised features [n, d] and what the gradients need of the way there."""
        s = self._state
        hidden = self._hidden(x)  # (n, h)
        if self._constants.block == "mlp":
            return {"hidden": hidden, "logits": hidden @ s["w2"] + s["b2"]}
        g = x + hidden @ s["w2"] + s["b2"]  # (n, d)
        if self._constants.block == "residual":
            return {"hidden": hidden, "g": g, "logits": g @ s["w3"] + s["b3"]}
        unit_g, norm_g = _unit(g)  # (n, d), (n, 1)
        cosine = unit_g @ self.prototypes.unit.T  # (n, C)
        logits = self._constants.logit_scale * cosine
        return {"hidden": hidden, "unit_g": unit_g, "norm_g": norm_g, "cosine": cosine, "logits": logits}

    def _hidden(self, x: Array) -> Array:
        return np.maximum(x @ self._state["w1"] + self._state["b1"], F32(0))  # (n, h)


def _unit(rows: Array) -> tuple[Array, Array]:
    """Return rows (n, d) divided by their norm, and the norm (n, 1), sqrt(a.a + 1e-12)."""
    norm = np.sqrt(np.add.reduce(rows * rows, axis=1, keepdims=True) + COSINE_EPSILON)
    return rows / norm, norm


def masked(logits: Array, allowed: Array) -> Array:
    """Return logits [n, C] with -1e9 for classes that are not `allowed` to compete, bool [C]."""
    return np.where(allowed, logits, EXCLUDED_LOGIT)


def softmax(logits: Array) -> tuple[Array, Array, Array]:
    """Return the probabilities [n, C] of logits, and t and p [n, 1]: their normaliser is t exp(p)."""
    peak = np.maximum.reduce(logits, axis=1, keepdims=True)  # the methods `max` and `sum` take as long as the work
    powers = np.exp(logits - peak)
    total = np.add.reduce(powers, axis=1, keepdims=True)
    return powers / total, total, peak
