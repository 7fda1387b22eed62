"""What each rule of the plasticity benchmark runs with: its tuned settings, and the ranges they were drawn from."""

from __future__ import annotations

import dataclasses
import zlib
from typing import Any

import numpy as np

from benchmarks.plasticity.stream import BATCH, WAYS
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.plasticity.rule import Rule
from keras_cbpnet.tables import RULES

LINEAR = "linear"
NAMES = (*(name for name in RULES if name != "cbp_random"), LINEAR)  # without the ablation


def on_device() -> list[str]:
    """Return the rules by which the head of a bundle can learn on a device."""
    return [name for name in NAMES if name in RULES and RULES[name].on_device]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One rule with its hyper-parameters.

    Attributes:
        rule: the learning rule.
        config: of the head that it trains.
        fresh_scale: factor on the incoming weights that the step is given for a unit that it resets.
    """

    rule: Rule
    config: HeadConfig
    fresh_scale: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        rule = {"class": type(self.rule).__name__, **self.rule.to_dict()}
        return {"rule": rule, "head": self.config.to_dict(), "fresh_scale": self.fresh_scale}


def setting(name: str, **changes: Any) -> Setting:
    """Return the rule `name` with `changes` of its tuned hyper-parameters, those of the rule and of the head together.

    The linear head is a `residual` one whose block stays at its zero outgoing weights.
    """
    values = {**TUNED[name], **changes}
    fresh_scale = values.pop("fresh_scale", 1.0)
    kind = RULES["none" if name == LINEAR else name]
    own = {field.name for field in dataclasses.fields(kind)}
    sizes: dict[str, Any] = {"block": "mlp", "units": 256, "slots": WAYS, "batch": BATCH, "learning_rate": 3e-3}
    if name == LINEAR:
        sizes.update(block="residual", units=1, block_rate=0.0)
    sizes.update({key: value for key, value in values.items() if key not in own})
    rule = kind.from_dict({key: value for key, value in values.items() if key in own})
    return Setting(rule, HeadConfig.from_dict(sizes), fresh_scale)


def check(names: list[str]) -> None:
    """Raise a UserError unless every one of `names` is a rule."""
    if unknown := [name for name in names if name not in NAMES]:
        raise UserError(f"--rules: no rule {unknown[0]!r}; known are {', '.join(NAMES)}")


# What differs from the defaults of the stream (mlp, 256 units, Adam 3e-3): the best of 12 trials each.
TUNED: dict[str, dict[str, Any]] = {
    "cbp": {
        "units": 512,
        "learning_rate": 1.53e-3,
        "block_rate": 0.807,
        "replacement_rate": 1.609375e-3,
        "maturity_threshold": 300,
        "decay_rate": 0.0,
        "fresh_scale": 0.168,
    },
    "none": {"units": 512, "learning_rate": 4.76e-3, "block_rate": 0.248},
    "l2": {"units": 128, "learning_rate": 2.3e-3, "block_rate": 0.592, "decay": 3.75},
    "l2_init": {"units": 512, "learning_rate": 1.46e-3, "block_rate": 1.1, "decay": 1.45},
    "shrink_perturb": {
        "units": 128,
        "learning_rate": 3.46e-3,
        "block_rate": 0.177,
        "shrink": 0.189,
        "perturb": 0.13,
    },
    "redo": {"units": 128, "learning_rate": 4.8e-3, "block_rate": 1.47, "threshold": 0.376, "interval": 160},
    "swr": {"units": 512, "learning_rate": 4.83e-3, "block_rate": 1.19, "factor": 0.112, "interval": 16},
    "adalin": {"units": 512, "learning_rate": 1.62e-3, "block_rate": 1.37, "alpha": 0.1},
    "head_reset": {"units": 512, "learning_rate": 1.51e-3, "block_rate": 0.174},
    "linear": {"learning_rate": 4.11e-3},
    "stable": {},  # not tuned
    "cbp_surprise": {
        "units": 512,
        "learning_rate": 2.42e-3,
        "block_rate": 0.455,
        "replacement_rate": 5.859375e-5,
        "calming": 24.6,
    },
}


@dataclasses.dataclass(frozen=True)
class Between:
    """A number from `low` to `high`, its logarithm evenly distributed."""

    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> float:
        """Return one, of three digits."""
        return float(f"{np.exp(rng.uniform(np.log(self.low), np.log(self.high))):.3g}")


@dataclasses.dataclass(frozen=True)
class OneOf:
    """One of some values, each as likely."""

    values: tuple[Any, ...]

    def draw(self, rng: np.random.Generator) -> Any:
        """Return one."""
        return self.values[rng.integers(len(self.values))]


RATES = {"units": OneOf((64, 128, 256, 512)), "learning_rate": Between(1e-3, 5e-3), "block_rate": Between(0.1, 2)}

# What tuning draws from; `renewed` is replacement_rate * units, of which the step allows one.
RANGES: dict[str, dict[str, Between | OneOf]] = {
    "cbp": {  # narrowed by the search in NOTES.md, entry 16
        "units": OneOf((128, 256, 512)),
        "learning_rate": Between(1e-3, 3e-3),
        "block_rate": Between(0.7, 2),
        "renewed": Between(0.5, 1),
        "maturity_threshold": OneOf((150, 250, 300, 400)),
        "decay_rate": OneOf((0.0,)),
        "fresh_scale": Between(0.05, 0.5),
    },
    "none": {**RATES, "learning_rate": Between(3e-4, 1e-2)},
    "l2": {**RATES, "decay": Between(0.2, 6)},
    "l2_init": {**RATES, "decay": Between(0.2, 6)},
    "shrink_perturb": {**RATES, "shrink": Between(0.05, 0.9), "perturb": Between(0.05, 0.7)},
    "redo": {**RATES, "threshold": Between(0.03, 0.6), "interval": OneOf((40, 160, 400, 800))},
    "swr": {**RATES, "factor": Between(0.003, 0.3), "interval": OneOf((16, 40, 160, 400))},
    "adalin": {**RATES, "alpha": OneOf((0.0, 0.1, 0.25, 0.5, 0.9))},
    "head_reset": RATES,
    "stable": {**RATES, "share": Between(0.03, 0.5)},
    "linear": {"learning_rate": Between(2e-4, 3e-2)},
    "cbp_surprise": {  # narrowed by a search on features of another backbone, NOTES.md, entry 23
        "units": OneOf((256, 512)),
        "learning_rate": Between(2e-3, 5e-3),
        "block_rate": Between(0.12, 0.6),
        "renewed": OneOf((0.0, 0.01, 0.03)),
        "calming": Between(20, 80),
    },
}


def configurations(name: str, trials: int) -> list[dict[str, Any]]:
    """Return the `trials` configurations of `name` that tuning tries: more of them begin with the same ones."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))  # of the name alone, whatever other rules there are
    drawn = []
    for _ in range(trials):
        values = {key: choice.draw(rng) for key, choice in RANGES[name].items()}
        if "renewed" in values:
            values["replacement_rate"] = values.pop("renewed") / values["units"]
        drawn.append(values)
    return drawn
