"""Opening a bundle: every byte is verified before anything is used."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from firmware_host.bundle.contract import FILES, OPTIONAL_FILES, PAPERS, Input, Shape, axes, state_shapes
from firmware_host.bundle.manifest import (
    CONTRACT_KEYS,
    READ_VERSIONS,
    canonical_text,
    check_manifest,
    manifest_sha256,
    upgraded,
)
from firmware_host.shared.bank import BANK, bank_shapes
from firmware_host.shared.errors import BundleError
from firmware_host.shared.files import sha256_of_file
from firmware_host.shared.names import restored_names

__all__ = ["Bundle", "read_bundle"]

REMEDY = "copy the bundle again from where it was made"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    `path`: its folder; `manifest`: what manifest.json holds, in the newest schema version's terms; `identity`: the
    SHA-256 that covers the manifest and, through it, every file (`manifest_sha256`, or where that is absent the
    checksum of manifest.json itself).
    """

    path: Path
    manifest: dict[str, Any] = field(repr=False)
    identity: str

    @property
    def model_identity(self) -> str:
        """SHA-256 over those of backbone.tflite and head.tflite: what a learned state depends on."""
        checksums = "".join(str(self.manifest["sha256"][name]).lower() for name in ("backbone.tflite", "head.tflite"))
        return hashlib.sha256(checksums.encode()).hexdigest()

    @property
    def name(self) -> str:
        """Name of the model, for people; the folder's where the manifest gives none."""
        return str(self.manifest.get("name", self.path.resolve().name))

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the bundle's files, all of them verified; without the papers, which anybody may edit."""
        return ("manifest.json", *sorted(set(self.manifest["sha256"]) - set(PAPERS)))

    @property
    def changed_papers(self) -> dict[str, str]:
        """How each paper that is not as the manifest lists it departs from that; a reason to tell, not to refuse."""
        listed = self.manifest["sha256"]
        departures = {name: _departure(self.file(name), str(listed[name])) for name in PAPERS if name in listed}
        return {name: departure for name, departure in departures.items() if departure}

    @property
    def recipe(self) -> str:
        """Quantization recipe of backbone.tflite: `mixed`, `int8`, `hybrid` or `float32`."""
        return str(self.manifest["recipe"])

    @property
    def backbones(self) -> dict[str, str]:
        """Names of the backbone's files by recipe, backbone.tflite first; their features are stored alike."""
        return {self.recipe: "backbone.tflite", **self.manifest.get("backbones", {})}

    @property
    def depths(self) -> dict[int, str]:
        """Signatures of the backbone's files by number of encoder blocks; empty where only one is known of."""
        return {int(depth): str(signature) for depth, signature in self.manifest.get("depths", {}).items()}

    @property
    def head(self) -> dict[str, Any]:
        """The manifest's `head` section."""
        head: dict[str, Any] = self.manifest["head"]
        return head

    @property
    def optimizer(self) -> str:
        """Optimizer of the head, in lower case."""
        return str(self.head["optimizer"]).lower()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the known classes in slot order."""
        return restored_names(self.manifest["classes"])

    @property
    def slots(self) -> int:
        """C, how many classes fit in the head."""
        return int(self.head["slots"])

    @property
    def feature_size(self) -> int:
        """d, the length of the feature vector."""
        return int(self.manifest["shapes"]["feature"][-1])

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        shape = self.manifest["shapes"]["image"]
        return int(shape[1]), int(shape[2])

    @property
    def input(self) -> Input:
        """What the pictures that it takes are made of."""
        return Input(**self.manifest.get("input", {}))

    @property
    def state_shapes(self) -> dict[str, Shape]:
        """Shape of every state tensor of this bundle's head."""
        sizes = (self.feature_size, int(self.head["units"]), self.slots)
        return state_shapes(self.head["block"], *sizes, self.optimizer)

    @property
    def class_axes(self) -> dict[str, int]:
        """Which axis of a state tensor runs over the class slots, of those that have one."""
        return axes(self.head["block"], self.optimizer, "C")

    @property
    def bank_shapes(self) -> dict[str, Shape]:
        """Shape of every tensor of the bank beside the head's block; none where the bundle has no bank."""
        bank = self.head.get("bank")
        if bank is None:
            return {}
        return bank_shapes(self.slots, int(bank["slots"]), self.feature_size, int(bank["directions"]))

    def bank(self) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return the bank's tensors as the bundle starts with them; None where it has no bank.

        Those that came into being after it was made are zero.

        Raises:
            BundleError: they are missing or have other shapes.
        """
        shapes = self.bank_shapes
        if not shapes:
            return None
        found = self.arrays("statistics.npz", prefix="bank.") if "statistics.npz" in self.files else {}
        start = {name: np.zeros(shape, BANK[name][1]) for name, shape in shapes.items()} if found else {}
        found = {**start, **found}
        for name, shape in shapes.items():
            if name not in found or found[name].shape != shape or found[name].dtype != BANK[name][1]:
                raise BundleError(
                    f"{self.file('statistics.npz')} has no bank.{name}, {BANK[name][1]} of shape {list(shape)}: "
                    "convert the run again"
                )
        return {name: found[name] for name in shapes}

    @property
    def learned_shapes(self) -> dict[str, Shape]:
        """Shape of every tensor of the head that a device keeps: the contract's, and `calm` with drift detection."""
        return {**self.state_shapes, **({"calm": ()} if "surprise" in self.head else {})}

    def file(self, name: str) -> Path:
        """Return the path of one of the bundle's files."""
        return self.path / name

    def arrays(self, name: str, prefix: str = "") -> dict[str, np.ndarray[Any, Any]]:
        """Return the arrays of one of the bundle's .npz files whose names start with `prefix`, without it.

        Raises:
            BundleError: the file cannot be read as such.
        """
        try:
            with np.load(self.file(name), allow_pickle=False) as arrays:
                return {key[len(prefix) :]: arrays[key] for key in arrays.files if key.startswith(prefix)}
        except Exception as error:  # zipfile, zlib and NumPy raise many kinds for one cause
            message = f"bundle file {self.file(name)} is not a readable .npz ({error}): convert again"
            raise BundleError(message) from error


def read_bundle(path: str | Path) -> Bundle:
    """Open the bundle in folder `path` and verify all of it.

    A manifest with `manifest_sha256` is held to it, white space included. One without it (made by another program) may
    be formatted in any way, but may hold the contract's keys only, so that a damaged `manifest_sha256` does not pass.

    Returns:
        The Bundle.

    Raises:
        BundleError,: one line with the remedy, for a missing file, a changed byte in any file or another schema
            version.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise BundleError(f"bundle {folder} is not a folder: give the folder that tflite/convert.py wrote")
    for name in FILES:
        if name not in OPTIONAL_FILES and not (folder / name).is_file():
            raise BundleError(f"bundle file {folder / name} is missing: {REMEDY}")
    manifest, identity = _read_manifest(folder / "manifest.json")
    _check_files(folder, manifest["sha256"])
    _check_labels(folder / "labels.txt", manifest["classes"])
    return Bundle(folder, manifest, identity)


def _read_manifest(path: Path) -> tuple[dict[str, Any], str]:
    content = path.read_bytes()
    try:
        manifest = json.loads(content.decode("utf-8"))
        canonical = canonical_text(manifest).encode()
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path} is not a manifest ({error}): {REMEDY}") from error
    if not isinstance(manifest, dict) or "schema_version" not in manifest:
        raise BundleError(f"{path} has no schema_version: {REMEDY}")
    version = manifest["schema_version"]
    if type(version) is not int or version not in READ_VERSIONS:
        raise BundleError(
            f"{path} has schema version {version!r}, this firmware_host reads {' and '.join(map(str, READ_VERSIONS))}: "
            "convert the run again or install the matching keras-cbpnet"
        )
    if "manifest_sha256" in manifest:
        identity = manifest_sha256(manifest)
        if manifest["manifest_sha256"] != identity or content != canonical:
            raise BundleError(f"{path} was changed, its checksum is {_short(identity)}: {REMEDY}")
    else:
        identity = hashlib.sha256(content).hexdigest()
    manifest = upgraded(manifest)
    if "manifest_sha256" not in manifest:
        unknown = sorted(set(manifest) - set(CONTRACT_KEYS))
        if unknown:
            raise BundleError(
                f"{path} has no manifest_sha256 and the unknown key {', '.join(map(repr, unknown))}: {REMEDY}"
            )
    check_manifest(manifest)
    return manifest, identity


def _check_files(folder: Path, expected: dict[str, Any]) -> None:
    for name in FILES:
        optional = name == "manifest.json" or (name in OPTIONAL_FILES and not (folder / name).exists())
        if name not in expected and not optional:
            raise BundleError(f"manifest: sha256 does not name {name}: convert again")
    for name, wanted in sorted(expected.items()):
        if name in PAPERS:
            continue
        if Path(name).name != name or not name.isprintable():
            raise BundleError(f"manifest: sha256 names {name!r}, which is not a file of the bundle: convert again")
        if not (folder / name).is_file():
            raise BundleError(f"bundle file {folder / name} is missing: {REMEDY}")
        found = sha256_of_file(folder / name)
        if found != str(wanted).lower():
            raise BundleError(
                f"bundle file {folder / name} was changed, its checksum is {_short(found)} and not "
                f"{_short(str(wanted))}: {REMEDY}"
            )


def _departure(path: Path, listed: str) -> str:
    """Return how a file departs from its listed checksum, in words that follow its name; empty if it does not."""
    try:
        return "" if sha256_of_file(path) == listed.lower() else "differs from the manifest"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _check_labels(path: Path, classes: list[str]) -> None:
    try:
        labels = path.read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise BundleError(f"{path} is not UTF-8 text ({error}): convert again") from error
    if labels != classes:
        raise BundleError(f"{path} and the manifest name different classes: convert again")


def _short(checksum: str) -> str:
    """Return the beginning of a checksum; what is not printable in it is escaped, so that a message stays one line."""
    return checksum[:12].encode("unicode_escape").decode()
