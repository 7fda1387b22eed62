"""A measurement of `bench` beside an earlier one: of this board before an update, or of another board."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from firmware_host.bundle import DeviceError

__all__ = ["compare", "comparison_lines", "read_reference"]

NUMBERS = {  # what is compared, and its unit
    "predict_ms": "ms",
    "backbone_ms": "ms",
    "train_ms": "ms",
    "open_ms": "ms",
    "peak_memory_mb": "MiB",
}
SAME = ("bundle", "runtime", "recipe", "threads", "board", "processor", "governor")  # what should be alike


def read_reference(file: Path) -> dict[str, Any]:
    """Return what `bench --json` printed into a file.

    Raises:
        DeviceError: there is no such file, or it is not such a record.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DeviceError(f"{file} cannot be read ({error.strerror}): give a file of `bench --json`") from error
    except (ValueError, RecursionError) as error:
        raise DeviceError(f"{file} is not JSON ({error}): give a file of `bench --json`") from error
    if not isinstance(found, dict) or not any(_is_number(found.get(name)) for name in NUMBERS):
        raise DeviceError(f"{file} has none of {', '.join(NUMBERS)}: give a file of `bench --json`")
    return found


def compare(now: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is different between two records of `bench`.

    Returns:
        ratios: of every number that both have, this one over that of the reference; below 1 is better;
        backbones: the same of each recipe's backbone_ms;
        differences: by name of what should be alike and is not, the value of the reference and this one.
    """
    ratios = {name: now[name] / reference[name] for name in NUMBERS if _both(now, reference, name)}
    recipes = [{each["recipe"]: each for each in record.get("backbones", ())} for record in (now, reference)]
    backbones = {
        recipe: each["backbone_ms"] / recipes[1][recipe]["backbone_ms"]
        for recipe, each in recipes[0].items()
        if recipe in recipes[1] and _both(each, recipes[1][recipe], "backbone_ms")
    }
    named = [_flat(record) for record in (now, reference)]
    differences = {
        name: [named[1][name], named[0][name]]
        for name in SAME
        if None not in (named[0].get(name), named[1].get(name)) and named[0][name] != named[1][name]
    }
    return {"ratios": ratios, "backbones": backbones, "differences": differences}


def comparison_lines(now: Mapping[str, Any], reference: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Yield a comparison in lines, one for each number, and one for each thing that should be alike and is not."""
    for name, ratio in found["ratios"].items():
        unit = NUMBERS[name]
        what = name.removesuffix("_ms").removesuffix("_mb").replace("_", " ")
        yield f"{what}: {now[name]:.2f} {unit}, reference {reference[name]:.2f} {unit}, ratio {ratio:.2f}"
    for recipe, ratio in found["backbones"].items():
        yield f"backbone, {recipe}: ratio {ratio:.2f}"
    for name, (there, here) in found["differences"].items():
        yield f"not the same {name}: {here} here, {there} in the reference"


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    return {**record, **record.get("machine", {})}


def _both(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    return _is_number(one.get(name)) and _is_number(other.get(name)) and other[name] > 0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
