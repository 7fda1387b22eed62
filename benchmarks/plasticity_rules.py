"""What each rule of the plasticity benchmark runs with: its tuned settings, and the grid they were chosen from."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from benchmarks.plasticity_stream import BATCH, WAYS
from keras_cbpnet.config import HeadConfig
from keras_cbpnet.errors import UserError
from keras_cbpnet.plasticity import RULES, Rule

LINEAR = "linear"
NAMES = (*(name for name in RULES if name != "cbp_random"), LINEAR)  # without the ablation


@dataclasses.dataclass(frozen=True)
class Setting:
    """One rule with its hyper-parameters.

    Attributes:
        rule: the learning rule.
        config: of the head that it trains.
    """

    rule: Rule
    config: HeadConfig

    def to_dict(self) -> dict[str, Any]:
        """Return both as plain values."""
        return {"rule": {"class": type(self.rule).__name__, **self.rule.to_dict()}, "head": self.config.to_dict()}


def setting(name: str, **changes: Any) -> Setting:
    """Return the rule `name` with `changes` of its tuned hyper-parameters, those of the rule and of the head together.

    The linear head is a `residual` one whose block stays at its zero outgoing weights.
    """
    values = {**TUNED[name], **changes}
    kind = RULES["none" if name == LINEAR else name]
    own = {field.name for field in dataclasses.fields(kind)}
    sizes: dict[str, Any] = {"block": "mlp", "units": 256, "slots": WAYS, "batch": BATCH, "learning_rate": 3e-3}
    if name == LINEAR:
        sizes.update(block="residual", units=1, block_rate=0.0)
    sizes.update({key: value for key, value in values.items() if key not in own})
    rule = kind.from_dict({key: value for key, value in values.items() if key in own})
    return Setting(rule, HeadConfig.from_dict(sizes))


def check(names: list[str]) -> None:
    """Raise a UserError unless every one of `names` is a rule."""
    if unknown := [name for name in names if name not in NAMES]:
        raise UserError(f"--rules: no rule {unknown[0]!r}; known are {', '.join(NAMES)}")


# What differs from the defaults of the stream (mlp, 256 units, Adam 3e-3).
TUNED: dict[str, dict[str, Any]] = {
    "cbp": {"learning_rate": 2e-3, "replacement_rate": 3.9e-3, "maturity_threshold": 250, "decay_rate": 0.0},
    "none": {},
    "l2": {"decay": 1.0},
    "l2_init": {"decay": 1.0},
    "shrink_perturb": {"shrink": 0.5, "perturb": 0.5},
    "redo": {"threshold": 0.1},
    "swr": {"factor": 0.01},
    "adalin": {"alpha": 0.25},
    "head_reset": {"block_rate": 0.3},
    "linear": {},
}

BLOCK_RATES = (0.3, 1.0)
LEARNING_RATES = (1e-3, 3e-3)

# Twelve configurations for every rule; a rule with fewer hyper-parameters of its own tries more rates.
GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "cbp": {
        "learning_rate": (2e-3, 3e-3),
        "replacement_rate": (3.9e-3,),  # nearly the most that 256 units allow; 1e-3 gave less
        "maturity_threshold": (100, 250, 500),
        "decay_rate": (0.0, 0.9),
    },
    "none": {"learning_rate": (3e-4, 1e-3, 3e-3, 1e-2), "block_rate": (0.1, 0.3, 1.0)},
    "l2": {"learning_rate": LEARNING_RATES, "block_rate": BLOCK_RATES, "decay": (0.3, 1.0, 3.0)},
    "l2_init": {"learning_rate": LEARNING_RATES, "block_rate": BLOCK_RATES, "decay": (0.3, 1.0, 3.0)},
    "shrink_perturb": {"learning_rate": LEARNING_RATES, "shrink": (0.0, 0.3, 0.6), "perturb": (0.1, 0.5)},
    "redo": {"learning_rate": LEARNING_RATES, "threshold": (0.1, 0.3, 0.6), "interval": (160, 800)},
    "swr": {"learning_rate": LEARNING_RATES, "factor": (0.01, 0.1, 0.3), "interval": (16, 160)},
    "adalin": {"learning_rate": LEARNING_RATES, "block_rate": BLOCK_RATES, "alpha": (0.0, 0.25, 0.9)},
    "head_reset": {"learning_rate": (1e-3, 3e-3, 6e-3), "block_rate": (0.1, 0.3, 0.6, 1.0)},
    "linear": {
        "learning_rate": (2e-4, 5e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 4e-3, 5e-3, 7e-3, 1e-2, 1.5e-2, 3e-2),
    },
}


def configurations(name: str) -> list[dict[str, Any]]:
    """Return the configurations of `name` that tuning tries."""
    grid = GRIDS[name]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
