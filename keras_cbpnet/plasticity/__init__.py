"""Learning rules of the head's block, by the name that `--plasticity` takes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from keras_cbpnet.errors import UserError
from keras_cbpnet.tables import RULES

if TYPE_CHECKING:
    from keras_cbpnet.plasticity.rule import Rule

__all__ = ["format_rule", "parse_rule"]


def parse_rule(text: str) -> Rule:
    """Return the rule that `text` names, such as `cbp`, `l2` or `redo:threshold=0.2,interval=80`.

    Raises:
        UserError: no such rule or hyper-parameter, one given twice, or a value that it cannot have.
    """
    name, colon, rest = text.partition(":")
    rule: type[Rule] = RULES.find(name)
    kinds = {field.name: field.type for field in dataclasses.fields(rule)}
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
    return rule(**values)


def format_rule(rule: Rule) -> str:
    """Return the text that `parse_rule` reads back, with every hyper-parameter."""
    name = next(name for name, kind in RULES.items() if type(rule) is kind)
    values = ",".join(f"{key}={value}" for key, value in rule.to_dict().items())
    return f"{name}:{values}" if values else name
