"""Learning rules of the head's block, by the name that `--plasticity` takes."""

from __future__ import annotations

import dataclasses

from keras_cbpnet.errors import UserError
from keras_cbpnet.plasticity.adalin import AdaLin
from keras_cbpnet.plasticity.cbp import Cbp
from keras_cbpnet.plasticity.cbp_random import CbpRandom
from keras_cbpnet.plasticity.cbp_surprise import CbpSurprise
from keras_cbpnet.plasticity.head_reset import HeadReset
from keras_cbpnet.plasticity.l2 import L2
from keras_cbpnet.plasticity.l2_init import L2Init
from keras_cbpnet.plasticity.none import Nothing
from keras_cbpnet.plasticity.redo import ReDo
from keras_cbpnet.plasticity.rule import Rule
from keras_cbpnet.plasticity.shrink_perturb import ShrinkPerturb
from keras_cbpnet.plasticity.swr import Swr

__all__ = ["RULES", "Rule", "format_rule", "parse_rule"]

RULES: dict[str, type[Rule]] = {
    "cbp": Cbp,
    "cbp_random": CbpRandom,
    "cbp_surprise": CbpSurprise,
    "none": Nothing,
    "l2": L2,
    "l2_init": L2Init,
    "shrink_perturb": ShrinkPerturb,
    "redo": ReDo,
    "swr": Swr,
    "adalin": AdaLin,
    "head_reset": HeadReset,
}


def parse_rule(text: str) -> Rule:
    """Return the rule that `text` names, such as `cbp`, `l2` or `redo:threshold=0.2,interval=80`.

    Raises:
        UserError: no such rule or hyper-parameter, one given twice, or a value that is no number it can have.
    """
    name, colon, rest = text.partition(":")
    if name not in RULES:
        raise UserError(f"no plasticity rule {name!r}; known are {', '.join(RULES)}")
    kinds = {field.name: field.type for field in dataclasses.fields(RULES[name])}
    values: dict[str, float] = {}
    for part in rest.split(",") if colon else ():
        key, _, value = part.partition("=")
        if key not in kinds:
            raise UserError(f"rule {name} has no {key!r}; it has {', '.join(kinds) or 'no hyper-parameters'}")
        if key in values:
            raise UserError(f"{key} of rule {name} is given twice; give it once")
        whole = kinds[key] == "int"
        try:
            values[key] = int(value) if whole else float(value)
        except ValueError:
            raise UserError(f"{key} of rule {name} is {value!r}; give a {'whole ' * whole}number") from None
        if whole and values[key] < 1:
            raise UserError(f"{key} of rule {name} is {value}; give a whole number from 1 on")
    return RULES[name](**values)


def format_rule(rule: Rule) -> str:
    """Return the text that `parse_rule` reads back, with every hyper-parameter."""
    name = next(name for name, kind in RULES.items() if type(rule) is kind)
    values = ",".join(f"{key}={value}" for key, value in rule.to_dict().items())
    return f"{name}:{values}" if values else name
