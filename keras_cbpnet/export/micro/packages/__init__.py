"""Packages of a microcontroller bundle: its C++ as a library of Arduino, PlatformIO, ESP-IDF or Zephyr.

A package is a folder of `templates/` with the words between @ signs filled in, the folder micro/ of the bundle as its
sources, and LICENSE and NOTICE of the bundle. Arduino's has a sketch of its own; the others' example is main.cc.
"""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from keras_cbpnet import __version__
from keras_cbpnet.export.apache import APACHE

__all__ = ["PACKAGES", "package_version", "safe_name", "write_package"]

TEMPLATES = Path(__file__).parent / "templates"
PACKAGES: dict[str, str | None] = {  # where main.cc goes
    "arduino": None,
    "platformio": "examples/learn/src/main.cpp",
    "espidf": "examples/learn/main/main.cpp",
    "zephyr": "samples/learn/src/main.cpp",
}
EXAMPLE = "main.cc"
URL = "https://arxiv.org/abs/2509.15785"  # the paper: Arduino wants an address where a person can read on
LONGEST = 50  # characters of a name; PlatformIO allows no more


def write_package(bundle: Path, package: str, title: str) -> Path:
    """Write a package of a bundle into its folder PACKAGE/NAME.

    Args:
        bundle: folder of a bundle for microcontrollers, which is complete but for this.
        package: a name in `PACKAGES`.
        title: name of the bundle.

    Returns:
        The package's folder, named as the library is.
    """
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    name, licence = safe_name(title), manifest["license"]
    count = len(manifest["classes"])
    classes = f"{count} class{'es' * (count != 1)}"
    words: dict[str, str | None] = {
        "NAME": name,
        "UPPER": name.upper(),
        "VERSION": package_version(__version__),
        "SENTENCE": f"An image classifier that goes on learning on the board; it knows {classes}.",
        "LICENSE": licence if licence == APACHE else None,  # the package systems know names of SPDX alone
        "URL": URL,
    }
    folder = bundle / package / name
    for template in sorted((TEMPLATES / package).rglob("*.in")):
        inside = template.relative_to(TEMPLATES / package).with_suffix("")  # without .in
        _write(folder / inside.with_name(inside.name.replace("_name_", name)), template.read_text("utf-8"), words)
    sources = folder / "src" / "cbpnet"
    sources.mkdir()
    for source in sorted((bundle / "micro").iterdir()):
        if source.name != EXAMPLE:
            suffix = ".cpp" if source.suffix == ".cc" else source.suffix  # older Arduino tools compile no .cc
            shutil.copyfile(source, sources / f"{source.stem}{suffix}")
    example = PACKAGES[package]
    if example is not None:
        text = (bundle / "micro" / EXAMPLE).read_text("utf-8")
        _write(folder / example, text.replace('"cbpnet.h"', "<@NAME@.h>"), words)
    for paper in ("LICENSE", "NOTICE"):
        shutil.copyfile(bundle / paper, folder / paper)
    return folder


def safe_name(title: str) -> str:
    """Return a name that every package system, C's preprocessor and Kconfig accept.

    It is `cbpnet_` and the letters and digits of `title` in lower case, without accents, and `_` for what is between.
    """
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    words = [word for word in re.split(r"[^a-z0-9]+", plain) if word]
    return "_".join(["cbpnet", *words])[:LONGEST].rstrip("_")


def package_version(version: str) -> str:
    """Return a version of this package, as Python writes it, in the form of semver.org.

    A development version or release candidate comes before the release: 0.2.0rc1 is 0.2.0-rc1.
    """
    release, rest = re.fullmatch(r"(\d+(?:\.\d+)*)[.+-]?(.*)", version).groups()  # type: ignore[union-attr]
    numbers = [str(int(part)) for part in (*release.split("."), "0", "0")[:3]]
    return ".".join(numbers) + (f"-{re.sub(r'[^0-9A-Za-z]+', '.', rest)}" if rest else "")


def _write(file: Path, text: str, words: Mapping[str, str | None]) -> None:
    """Write `text` with `words` filled in; lines with a word that is None are left out."""
    for word, value in words.items():
        if value is None:
            text = "".join(line for line in text.splitlines(keepends=True) if f"@{word}@" not in line)
        else:
            text = text.replace(f"@{word}@", value)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
