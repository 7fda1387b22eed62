"""FOSTER for a residual block: a second module learns what the first gets wrong, then both become one again.

Wang et al., FOSTER: Feature boosting and compression for class-incremental learning, arXiv 2204.04662. Module and
classifier are a `residual` head: f(x) = x + relu(x w1 + b1) w2 + b2, z = f(x) w3 + b3. Old classes are rows drawn from
class statistics, so nothing of an old image is kept. NumPy alone: host and device learn by the same code.

Dimensions: B rows of a batch, d features, h hidden units, C classes, k of them old.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from firmware_host.shared.statistics import ClassStatistics, evenly

__all__ = ["Foster", "Row", "consolidate", "effective_weights", "learn", "module"]

Array = np.ndarray[Any, Any]
Weights = dict[str, Array]
Row = dict[str, float]
Epoch = Callable[[], "tuple[Array, Array]"]  # features [N, d] standardised and labels [N] of one pass, in random order
WEIGHTS = ("w1", "b1", "w2", "b2", "w3", "b3")
KEPT = ("class_mask", "class_mean", "class_count")  # of a head's state, what learning this way leaves alone
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8
F32 = np.float32


class Foster(NamedTuple):
    """How to consolidate.

    Attributes:
        epochs: passes of each of the two phases.
        rate: Adam's first step size; it falls to zero along a cosine within a phase.
        batch: B.
        temperature: T, of what old and new net are compared by.
        drawn: rows of old classes at most, for each of the lesson; fewer than their share weigh more.
        keep: lambda, weight of the old net's answers while the second module learns.
        boost_beta, compress_beta: of the effective numbers that weight the classes of either phase, 0..1.
    """

    epochs: int = 8
    rate: float = 1e-3
    batch: int = 128
    temperature: float = 2.0
    drawn: int = 4
    keep: float = 1.0
    boost_beta: float = 0.97
    compress_beta: float = 0.97


def learn(
    state: Weights,
    scaled: Callable[[Array], Array],
    feature: Array,
    label: Array,
    statistics: ClassStatistics,
    settings: Foster,
    rng: np.random.Generator,
) -> Iterator[Row]:
    """Learn a lesson into the state of a `residual` head, in place; moments, traces and ages begin again.

    Args:
        state: every state tensor by name.
        scaled: standardises features as the head does.
        feature: of the lesson's images, [N, d].
        label: their slots, [N].
        statistics: of all images so far, the lesson's among them; other classes than the lesson's are drawn from them,
            as many rows of each as the lesson has of its own, or as many as `drawn` allows.
        settings: see there.
        rng: of order and draws.

    Yields:
        As `consolidate`.
    """
    new = np.unique(label)
    old = np.setdiff1d(statistics.seen, new)
    slots = np.concatenate([old, new])
    place = np.zeros(len(statistics.count), np.int64)
    place[slots] = np.arange(len(slots))
    rows = min(len(label) // len(new) * len(old), settings.drawn * len(label))

    def epoch() -> tuple[Array, Array]:
        if not rows:
            return scaled(feature), place[label]
        drawn = evenly(rng, old, rows)
        noise = rng.standard_normal((rows, feature.shape[1]))
        x = np.concatenate([feature, statistics.around(drawn, noise)])
        return scaled(x), place[np.concatenate([label, drawn])]

    net = {name: np.array(state[name], F32) for name in WEIGHTS}
    net.update({name: np.ascontiguousarray(net[name][..., slots]) for name in ("w3", "b3")})
    yield from consolidate(net, len(old), epoch, settings, rng)
    for name, value in state.items():
        if name in ("w3", "b3"):
            value[..., slots] = net[name]
        elif name in net:
            value[...] = net[name]
        elif name not in KEPT:
            value[...] = 0


def effective_weights(count: Array, beta: float) -> Array:
    """Return w_c = (1 - beta) / (1 - beta^n_c), scaled to a mean of 1, [C], of `count` [C] rows of each class.

    Cui et al., arXiv 1901.05555. A class without rows weighs as little as the one with most.
    """
    weights: Array = (1.0 - beta) / (1.0 - np.power(beta, np.where(count > 0, count, count.max())))
    return np.asarray(weights * len(weights) / weights.sum(), F32)


def consolidate(old: Weights, known: int, epoch: Epoch, settings: Foster, rng: np.random.Generator) -> Iterator[Row]:
    """Learn new classes into `old`, in place: boost by a second module, then compress both into one.

    Args:
        old: `w1` [d, h], `b1` [h], `w2` [h, d], `b2` [d], `w3` [d, C], `b3` [C], the old classes first.
        known: k, the number of old classes; 0: a net that has learned nothing yet, for which one phase is enough.
        epoch: gives the rows of one pass, those drawn for old classes among them.
        settings: see there.
        rng: of the order of rows.

    Yields:
        `phase` (1 boosting, 2 compression) and the mean `loss` of every pass.
    """
    if not known:
        yield from _compress(old, None, 2 * settings.epochs, epoch, settings, rng)
        return
    first = {name: value.copy() for name, value in old.items()}
    second = {name: value.copy() for name, value in old.items()}
    second.update(wo=first["w3"].copy(), wf=first["w3"].copy(), bf=first["b3"].copy())
    second["w3"] = np.zeros_like(first["w3"])
    yield from _boost(first, second, known, epoch, settings, rng)

    def teacher(x: Array) -> Array:
        answer: Array = module(first, x)[0] @ second["wo"] + module(second, x)[0] @ second["w3"] + second["b3"]
        return answer

    for name in ("w1", "b1", "w2", "b2"):
        old[name][...] = second[name]
    old["w3"][...], old["b3"][...] = second["wo"] + second["w3"], second["b3"]
    yield from _compress(old, teacher, settings.epochs, epoch, settings, rng)


def module(weights: Mapping[str, Array], x: Array) -> tuple[Array, Array]:
    """Return f(x) [B, d] and the hidden activations [B, h] of `x` [B, d]."""
    hidden = np.maximum(x @ weights["w1"] + weights["b1"], 0)
    return x + hidden @ weights["w2"] + weights["b2"], hidden


def _module_gradients(weights: Mapping[str, Array], x: Array, hidden: Array, d_f: Array) -> Weights:
    d_hidden = (d_f @ weights["w2"].T) * (hidden > 0)
    return {"w1": x.T @ d_hidden, "b1": d_hidden.sum(axis=0), "w2": hidden.T @ d_f, "b2": d_f.sum(axis=0)}


def _boost(
    first: Weights, second: Weights, known: int, epoch: Epoch, settings: Foster, rng: np.random.Generator
) -> Iterator[Row]:
    """Train the second module and the joint classifier; the first module stays as it is."""
    adam, T = _Adam(second, settings), settings.temperature
    for e in range(settings.epochs):
        rows, labels = epoch()
        w = effective_weights(np.bincount(labels, minlength=first["w3"].shape[1]), settings.boost_beta)
        losses = []
        for x, y, share in _batches(rows, labels, settings.batch, rng):
            f1 = module(first, x)[0]
            f2, hidden = module(second, x)
            z = f1 @ second["wo"] + f2 @ second["w3"] + second["b3"]  # (B, C)
            z_own = f2 @ second["wf"] + second["bf"]
            z_old = (f1 @ first["w3"] + first["b3"])[:, :known]
            loss, d_z = _hard(z / w, y)
            loss_own, d_own = _hard(z_own, y)
            loss_kept, d_kept = _soft(z[:, :known] / T, _softmax(z_old / T))
            d_z = d_z / w
            d_z[:, :known] += settings.keep / T * d_kept
            gradients = _module_gradients(second, x, hidden, d_z @ second["w3"].T + d_own @ second["wf"].T)
            gradients.update(wo=f1.T @ d_z, w3=f2.T @ d_z, b3=d_z.sum(axis=0), wf=f2.T @ d_own, bf=d_own.sum(axis=0))
            adam.step(gradients, e + share, settings.epochs)
            losses.append(loss + loss_own + settings.keep * loss_kept)
        yield {"phase": 1.0, "loss": float(np.mean(losses))}


def _compress(
    student: Weights,
    teacher: Callable[[Array], Array] | None,
    epochs: int,
    epoch: Epoch,
    settings: Foster,
    rng: np.random.Generator,
) -> Iterator[Row]:
    """Train one net to answer as `teacher` does, or by the labels where there is none."""
    adam, T = _Adam(student, settings), settings.temperature
    for e in range(epochs):
        rows, labels = epoch()
        w = effective_weights(np.bincount(labels, minlength=student["w3"].shape[1]), settings.compress_beta)
        losses = []
        for x, y, share in _batches(rows, labels, settings.batch, rng):
            f, hidden = module(student, x)
            z = f @ student["w3"] + student["b3"]
            if teacher is None:
                loss, d_z = _hard(z, y)
            else:
                target = _softmax(teacher(x) / T) * w
                loss, d_z = _soft(z / T, target / target.sum(axis=1, keepdims=True))
                d_z = d_z / T
            gradients = _module_gradients(student, x, hidden, d_z @ student["w3"].T)
            gradients.update(w3=f.T @ d_z, b3=d_z.sum(axis=0))
            adam.step(gradients, e + share, epochs)
            losses.append(loss)
        yield {"phase": 2.0, "loss": float(np.mean(losses))}


def _softmax(z: Array) -> Array:
    powers = np.exp(z - z.max(axis=1, keepdims=True))
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result


def _hard(z: Array, label: Array) -> tuple[float, Array]:
    """Return the mean cross-entropy of logits `z` [B, C] with labels [B], and its gradient [B, C]."""
    return _soft(z, np.eye(z.shape[1], dtype=F32)[label])


def _soft(z: Array, target: Array) -> tuple[float, Array]:
    """Return the mean cross-entropy of logits `z` [B, C] with probabilities `target` [B, C], and its gradient."""
    p = _softmax(z)
    return -float(np.sum(target * np.log(np.maximum(p, 1e-12)))) / len(z), (p - target) / F32(len(z))


def _batches(rows: Array, labels: Array, batch: int, rng: np.random.Generator) -> Iterator[tuple[Array, Array, float]]:
    """Give batches in random order, and which share of the pass is done before each."""
    order = rng.permutation(len(labels))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        yield rows[chosen], labels[chosen], start / len(order)


class _Adam:
    """Adam (Kingma and Ba, arXiv 1412.6980), its step size falling along a cosine."""

    def __init__(self, weights: Weights, settings: Foster) -> None:
        self.weights, self.rate, self.steps = weights, settings.rate, 0
        self.m = {name: np.zeros_like(value) for name, value in weights.items()}
        self.v = {name: np.zeros_like(value) for name, value in weights.items()}

    def step(self, gradients: Mapping[str, Array], done: float, epochs: int) -> None:
        self.steps += 1
        falling = 0.5 * self.rate * (1.0 + math.cos(math.pi * done / epochs))
        root = math.sqrt(1.0 - BETA_2**self.steps)
        rate = F32(falling * root / (1.0 - BETA_1**self.steps))
        for name, g in gradients.items():
            m, v = self.m[name], self.v[name]
            m += F32(1.0 - BETA_1) * (g - m)
            v += F32(1.0 - BETA_2) * (g * g - v)
            self.weights[name] -= rate * m / (np.sqrt(v) + F32(EPSILON * root))
