"""manifest.json: its canonical text, its checksum and the keys it must have."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from firmware_host.bundle.contract import (
    ACCELERATOR_FILES,
    BLOCKS,
    FILES,
    INPUTS,
    OPTIMIZERS,
    PAPERS,
    SCHEMA_VERSION,
    state_letters,
)
from firmware_host.shared.errors import BundleError
from firmware_host.shared.files import sha256_of_file, write_atomically

__all__ = [
    "CONTRACT_KEYS",
    "READ_VERSIONS",
    "canonical_text",
    "check_manifest",
    "manifest_sha256",
    "upgraded",
    "write_manifest",
]

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
# From each older schema version to the next: bundles live for years, and every version is read. Each has golden files
# in tests/firmware_host/golden.
UPGRADES: dict[int, Upgrade] = {1: lambda manifest: {**manifest, "schema_version": 2}}
READ_VERSIONS = (*UPGRADES, SCHEMA_VERSION)


Kind = tuple[type, ...]
NUMBER: Kind = (int, float)
FLOAT32_LIMIT = 3.4e38
KEYS: dict[str, Kind] = {
    "recipe": (str,),
    "classes": (list,),
    "shapes": (dict,),
    "dtypes": (dict,),
    "versions": (dict,),
    "sha256": (dict,),
    "head": (dict,),
}
OPTIONAL_KEYS: dict[str, Kind] = {
    "name": (str,),
    "license": (str,),  # SPDX
    "source": (dict,),  # of weights and images
    "depth": (int,),  # encoder blocks of the backbone, where it was cut off after fewer than its weights have
    "depths": (dict,),  # signatures of the backbone's files by number of encoder blocks, where there are several
    "backbones": (dict,),  # files by recipe, beside backbone.tflite
    "micro": (dict,),  # of a microcontroller's state: the bundle's number, and which variables it holds
    "input": (dict,),  # what its pictures are made of, where that is not image files
}
CONTRACT_KEYS = ("schema_version", *OPTIONAL_KEYS, *KEYS)
HEAD_KEYS: dict[str, Kind] = {
    "block": (str,),
    "optimizer": (str,),
    "units": (int,),
    "slots": (int,),
    "batch": (int,),
    "decay_rate": NUMBER,
    "replacement_rate": NUMBER,
    "maturity_threshold": NUMBER,
    "learning_rate": NUMBER,
    "block_rate": NUMBER,
    "logit_scale": NUMBER,
    "feature_mean": (list,),
    "feature_scale": (list,),
}
HEAD_RANGES: dict[str, tuple[float, float]] = {  # from the first, to below the second
    "units": (1, FLOAT32_LIMIT),
    "slots": (1, FLOAT32_LIMIT),
    "batch": (1, FLOAT32_LIMIT),
    "decay_rate": (0, 1),
    "replacement_rate": (0, FLOAT32_LIMIT),
    "maturity_threshold": (0, FLOAT32_LIMIT),
    "learning_rate": (0, FLOAT32_LIMIT),
    "block_rate": (0, FLOAT32_LIMIT),
    "logit_scale": (0, FLOAT32_LIMIT),
}
MICRO_KEYS: dict[str, Kind] = {"bundle": (int,), "variables": (list,)}
INPUT_KEYS: dict[str, Kind] = {"kind": (str,), "channels": (int,)}
BANK_KEYS: dict[str, Kind] = {"slots": (int,), "directions": (int,), "block_weight": NUMBER}  # head.bank, optional
BANK_RANGES = {"slots": (1, 2**16), "directions": (0, 2**10), "block_weight": (0, 1)}
SURPRISE_KEYS: dict[str, Kind] = {"calming": NUMBER, "calm": NUMBER}  # head.surprise (drift detection), optional
TENSORS: dict[str, tuple[tuple[int | None, ...], tuple[str, ...]]] = {  # sizes (None: any), types
    "image": ((1, None, None, 3), ("uint8",)),
    "feature": ((1, None), ("float32", "int8", "uint8")),
    "prompt": ((1,), ("int32",)),
}


def canonical_text(manifest: Mapping[str, Any]) -> str:
    """Return the only text under which a manifest with a checksum is accepted: sorted keys, indent 1, final newline.

    Raises:
        ValueError: for numbers that JSON cannot hold (nan, inf).
    """
    return json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n"


def manifest_sha256(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the canonical text of `manifest` without its own `manifest_sha256`."""
    rest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    return hashlib.sha256(canonical_text(rest).encode()).hexdigest()


def upgraded(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of any of READ_VERSIONS in the terms of the newest."""
    for older in range(manifest["schema_version"], SCHEMA_VERSION):
        manifest = UPGRADES[older](manifest)
    return manifest


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Raise BundleError when a key is missing, of another type, or contradicts another key."""
    _check_keys(manifest, KEYS, "")
    _check_keys(manifest, {key: kinds for key, kinds in OPTIONAL_KEYS.items() if key in manifest}, "")
    head = manifest["head"]
    _check_keys(head, HEAD_KEYS, "head.")
    if head["block"] not in BLOCKS:
        raise BundleError(f"manifest: head.block is {head['block']!r}: use one of {', '.join(BLOCKS)}")
    if head["optimizer"].lower() not in OPTIMIZERS:
        raise BundleError(f"manifest: head.optimizer is {head['optimizer']!r}: use one of {', '.join(OPTIMIZERS)}")
    _check_ranges(head, HEAD_RANGES, "head.")
    if head["replacement_rate"] * head["units"] > 1:
        raise BundleError(
            f"manifest: head.replacement_rate is {head['replacement_rate']!r} for {head['units']} units: at most one "
            "unit is reset in a step, so their product must be at most 1, convert again"
        )
    if "surprise" in head:
        _check_keys(head, {"surprise": (dict,)}, "head.")
        _check_keys(head["surprise"], SURPRISE_KEYS, "head.surprise.")
        _check_ranges(head["surprise"], dict.fromkeys(SURPRISE_KEYS, (0, FLOAT32_LIMIT)), "head.surprise.")
    if "bank" in head:
        _check_keys(head, {"bank": (dict,)}, "head.")
        _check_keys(head["bank"], BANK_KEYS, "head.bank.")
        _check_ranges(head["bank"], BANK_RANGES, "head.bank.")
        if head["bank"]["slots"] < head["slots"]:
            raise BundleError(
                f"manifest: head.bank.slots is {head['bank']['slots']}: it must be at least head.slots, "
                f"{head['slots']}, convert again"
            )
    for recipe, file in manifest.get("backbones", {}).items():
        if file not in manifest["sha256"] or recipe == manifest["recipe"]:
            raise BundleError(f"manifest: backbones.{recipe} is {file!r}, which sha256 must name: convert again")
    for depth, signature in manifest.get("depths", {}).items():
        if not depth.isdecimal() or not isinstance(signature, str):
            raise BundleError(f"manifest: depths.{depth} is {signature!r}: a signature by a number, convert again")
    if "micro" in manifest:
        _check_micro(manifest["micro"], head)
    if "input" in manifest:
        _check_input(manifest["input"])
    _check_tensors(manifest["shapes"], manifest["dtypes"])
    _check_standardisation(head, manifest["shapes"]["feature"][-1])
    _check_classes(manifest["classes"], head["slots"])


def _check_micro(micro: Mapping[str, Any], head: Mapping[str, Any]) -> None:
    _check_keys(micro, MICRO_KEYS, "micro.")
    _check_ranges(micro, {"bundle": (0, 2**32)}, "micro.")
    known = state_letters(head["block"], head["optimizer"].lower())
    if unknown := [name for name in micro["variables"] if name not in known or name == "class_mask"]:
        raise BundleError(f"manifest: micro.variables contains {unknown[0]!r}, which no board keeps: convert again")


def _check_input(given: Mapping[str, Any]) -> None:
    _check_keys(given, INPUT_KEYS, "input.")
    _check_ranges(given, {"channels": (0, 2**16)}, "input.")
    if given["kind"] not in INPUTS or len(given) > len(INPUT_KEYS):
        raise BundleError(
            f"manifest: input is {dict(given)!r}, this firmware_host takes {', '.join(INPUTS)}: install a newer "
            "keras-cbpnet"
        )


def write_manifest(folder: str | Path, manifest: Mapping[str, Any], extra: Sequence[str] = ()) -> dict[str, Any]:
    """Complete `manifest` with schema version and checksums of `folder`'s files, and write manifest.json atomically.

    Every file of the bundle, those in `extra` too, must already be in `folder`; a file compiled for an accelerator and
    the papers may be there as well.

    Returns:
        The manifest as written.

    Raises:
        BundleError: a file is missing or the manifest contradicts itself; nothing is then written.
    """
    folder = Path(folder)
    names = [*(name for name in FILES if name != "manifest.json"), *extra]
    names += [name for name in (*ACCELERATOR_FILES, *PAPERS) if (folder / name).is_file()]
    for name in names:
        if not (folder / name).is_file():
            raise BundleError(f"bundle file {folder / name} is missing: write every file before the manifest")
    complete = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    complete["schema_version"] = SCHEMA_VERSION
    complete["sha256"] = {name: sha256_of_file(folder / name) for name in names}
    check_manifest(complete)
    complete["manifest_sha256"] = manifest_sha256(complete)
    write_atomically(folder / "manifest.json", canonical_text(complete).encode())
    return complete


def _check_keys(values: Mapping[str, Any], keys: Mapping[str, Kind], prefix: str) -> None:
    for key, kinds in keys.items():
        if key not in values:
            raise BundleError(f"manifest: {prefix}{key} is missing: convert the run again")
        if not isinstance(values[key], kinds) or isinstance(values[key], bool):
            raise BundleError(
                f"manifest: {prefix}{key} is {type(values[key]).__name__}, not {kinds[-1].__name__}: convert again"
            )
        if kinds == NUMBER and not abs(values[key]) < FLOAT32_LIMIT:
            raise BundleError(f"manifest: {prefix}{key} is {values[key]!r}: it must be a float32 number, convert again")


def _check_ranges(values: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]], prefix: str) -> None:
    for key, (least, end) in ranges.items():
        if not least <= values[key] < end:
            wanted = f"from {least} on" if end == FLOAT32_LIMIT else f"from {least} to below {end}"
            raise BundleError(f"manifest: {prefix}{key} is {values[key]!r}: it must be {wanted}, convert again")


def _check_tensors(shapes: Mapping[str, Any], dtypes: Mapping[str, Any]) -> None:
    for key, (sizes, types) in TENSORS.items():
        if key not in shapes or key not in dtypes:
            raise BundleError(f"manifest: shapes and dtypes must both name {key!r}: convert again")
        shape, dtype = shapes[key], dtypes[key]
        if (
            not isinstance(shape, list)
            or len(shape) != len(sizes)
            or not all(type(n) is int and n > 0 and wanted in (n, None) for n, wanted in zip(shape, sizes))
        ):
            pattern = ", ".join("n" if n is None else str(n) for n in sizes)
            raise BundleError(f"manifest: shapes.{key} is {shape!r}: it must be [{pattern}], convert again")
        if dtype not in types:
            raise BundleError(f"manifest: dtypes.{key} is {dtype!r}: it must be {' or '.join(types)}, convert again")


def _check_standardisation(head: Mapping[str, Any], d: int) -> None:
    for key in ("feature_mean", "feature_scale"):
        if len(head[key]) != d:
            raise BundleError(f"manifest: head.{key} has {len(head[key])} numbers for {d} features: convert again")
        for value in head[key]:
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < FLOAT32_LIMIT:
                raise BundleError(f"manifest: head.{key} contains {value!r}: it must be numbers, convert again")
    least = min(head["feature_scale"])
    if least <= 0:
        raise BundleError(f"manifest: head.feature_scale contains {least!r}: it must be above 0, convert again")


def _check_classes(classes: Any, slots: int) -> None:
    if len(classes) > slots:
        raise BundleError(f"manifest: {len(classes)} classes for {slots} slots: convert again with a larger --slots")
    for name in classes:
        if not isinstance(name, str) or not name or name.splitlines() != [name]:
            raise BundleError(f"manifest: class name {name!r} must be one line of text: rename it and convert again")
    if len(set(classes)) != len(classes):
        raise BundleError("manifest: a class name occurs twice: rename it and convert again")
