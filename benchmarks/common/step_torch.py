"""The head's training step in eager PyTorch, as somebody would write it there: the peer of `benchmarks.step`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

# Dimensions: B rows, d features, h hidden units, C class slots.

torch.set_num_threads(1)
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Step:
    """A head under Adam, in float32 on the processor.

    Args:
        config: the manifest's `head` section; block `prototype` or `mlp`.
        state: every state tensor by name.
    """

    def __init__(self, config: dict[str, Any], state: dict[str, NDArray[Any]]) -> None:
        self.c = config
        self.s = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in state.items()}
        self.names = ("w1", "b1", "w2", "b2")
        for name in self.names:
            self.s[name].requires_grad_(True)
        self.mean, self.scale = (torch.tensor(config[f"feature_{name}"]) for name in ("mean", "scale"))
        self.step, self.debt = float(state["step"]), float(state["replacement_debt"])
        adapted = ("w1", "b1") if config["block"] == "mlp" else self.names
        self.rates = {name: config["block_rate"] if name in adapted else 1.0 for name in self.names}

    def __call__(self, feature: Any, label: Any, class_mask: Any, learning_rate: float, fresh: Any) -> float:
        """Do one step; return the loss."""
        feature, label, class_mask, fresh = map(torch.from_numpy, (feature, label, class_mask, fresh))
        s = self.s
        x = (feature - self.mean) / self.scale  # (B, d)
        hidden = functional.relu(torch.addmm(s["b1"], x, s["w1"]))  # (B, h)
        out = torch.addmm(s["b2"], hidden, s["w2"])
        if self.c["block"] == "mlp":
            logits = out
        else:
            means = (s["class_mean"] - self.mean) / self.scale  # (C, d)
            of_means = torch.addmm(s["b2"], functional.relu(torch.addmm(s["b1"], means, s["w1"])), s["w2"])
            logits = self.c["logit_scale"] * unit(x + out) @ unit(means + of_means).T
        logits = logits.masked_fill(class_mask == 0, -1e9)
        loss = functional.cross_entropy(logits, label.long(), ignore_index=-1)
        for name in self.names:
            s[name].grad = None
        loss.backward()
        with torch.no_grad():
            valid = label >= 0
            (logits.argmax(1) == label).sum() / valid.sum()  # the accuracy that a caller is told
            self._adam(learning_rate)
            self._reset((hidden * valid[:, None]).sum(0) / valid.sum(), fresh)
        return float(loss)

    def _adam(self, learning_rate: float) -> None:
        s = self.s
        self.step += 1
        s["age"] += 1
        unit = [-torch.expm1(s["age"] * math.log(beta)) for beta in (BETA1, BETA2)]
        shared = [1 - beta**self.step for beta in (BETA1, BETA2)]
        corrections: dict[str, list[Any]] = {"w1": unit, "b1": unit, "w2": [each[:, None] for each in unit]}
        for name in self.names:
            g, m, v = s[name].grad, s[f"m_{name}"], s[f"v_{name}"]
            m.mul_(BETA1).add_(g, alpha=1 - BETA1)
            v.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
            first, second = corrections.get(name, shared)
            s[name].addcdiv_(m / first, (v / second).sqrt_().add_(EPSILON), value=-learning_rate * self.rates[name])

    def _reset(self, mean_hidden: torch.Tensor, fresh: torch.Tensor) -> None:
        s, eta = self.s, self.c["decay_rate"]
        s["utility"].mul_(eta).add_(mean_hidden * s["w2"].abs().sum(1), alpha=1 - eta)
        s["mean_activation"].mul_(eta).add_(mean_hidden, alpha=1 - eta)
        eligible = s["age"] > self.c["maturity_threshold"]
        count = int(eligible.sum())
        self.debt += self.c["replacement_rate"] * count
        if not count or self.debt < 1:
            return
        seen = -torch.expm1(s["age"] * math.log(eta))
        j = int((s["utility"] / seen).masked_fill(~eligible, math.inf).argmin())
        self.debt -= 1
        s["b2"].add_(s["w2"][j] * (s["mean_activation"][j] / seen[j]))
        for name in ("b1", "w2", "m_b1", "v_b1", "m_w2", "v_w2", "utility", "mean_activation", "age"):
            s[name][j] = 0
        for name, value in (("w1", fresh), ("m_w1", 0), ("v_w1", 0)):
            s[name][:, j] = value


class Products:
    """The matrix products of a step alone, into memory that stays; arguments as for `Step`."""

    def __init__(self, config: dict[str, Any], state: dict[str, NDArray[Any]]) -> None:
        (d, h), B, C = state["w1"].shape, int(config["batch"]), int(config["slots"])
        if config["block"] == "mlp":
            R, out = B, C
            sizes: list[tuple[int, int, int]] = []
        else:
            R, out = B + C, d
            sizes = [(B, d, C), (B, C, d), (C, B, d)]  # cosines, and their gradients to rows and means
        sizes += [(R, d, h), (R, h, out), (R, out, h), (h, R, out), (d, R, h)]  # forward, and back
        self.products = [(torch.rand(n, k), torch.rand(k, m), torch.empty(n, m)) for n, k, m in sizes]

    def __call__(self, *batch: Any) -> float:
        """Do them once; return nothing of meaning."""
        for left, right, out in self.products:
            torch.mm(left, right, out=out)
        return 0.0


def unit(rows: torch.Tensor) -> torch.Tensor:
    """Return the rows divided by their norm."""
    return rows / torch.sqrt((rows * rows).sum(1, keepdim=True) + 1e-12)
