"""The runtimes that compute a bundle: the one table that every list of their names is made from.

To add a runtime, add a row. One with the Python interface of TensorFlow Lite's `Interpreter` needs nothing else; for
another interface a module in firmware_host/engines has its own `open_backbone` and `open_head`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

__all__ = [
    "AUTO",
    "RUNTIMES",
    "RuntimeEntry",
    "installed_interpreters",
    "installed_runtimes",
    "interpreters",
    "runtime_names",
    "runtimes_line",
]

AUTO = "auto"


class RuntimeEntry(NamedTuple):
    """How to find a runtime and what it does.

    Args:
        module: the Python module to import, which has the class `interface`; None: whichever `auto` finds.
        extra: of the distribution keras-cbpnet, which installs it.
        automatic: whether `auto` takes it; the host verifies bundles with all of these.
        heads: whether it runs the head; if not, NumPy does.
        not_after: a module in whose process it cannot be loaded any more.
        numpy_1: whether it was built for NumPy 1 and does not import under NumPy 2.
        sgd_options: of the interpreter that loads a head with the optimizer `sgd`, where it computes that wrongly
            without them.
        engine: the module that opens a backbone and a head with it.
        interface: the class of `module` that loads a .tflite file.
        recipe: of the backbone that it takes where a bundle has several; None: the bundle's first.
    """

    module: str | None
    extra: str
    automatic: bool = False
    heads: bool = True
    not_after: str | None = None
    numpy_1: bool = False
    sgd_options: Mapping[str, Any] = MappingProxyType({})
    engine: str = "firmware_host.engines.interpreter"
    interface: str = "Interpreter"
    recipe: str | None = None


# LiteRT 2.3's default delegate computes a head with sgd wrongly at some sizes, unless no tensor's memory is used twice.
EVERY_TENSOR = MappingProxyType({"experimental_preserve_all_tensors": True})

RUNTIMES: Mapping[str, RuntimeEntry] = {  # `auto` takes the first that there is: the faster one first
    "ai_edge_litert": RuntimeEntry(
        "ai_edge_litert.interpreter",
        "device",
        automatic=True,
        sgd_options=EVERY_TENSOR,
        recipe="hybrid",  # 1.4 to 5 times as fast as int8 there; under tflite-runtime 1.2 to 4 times as slow
    ),
    "tflite_runtime": RuntimeEntry(
        "tflite_runtime.interpreter", "device-legacy", automatic=True, not_after="tensorflow", numpy_1=True
    ),
    "numpy": RuntimeEntry(None, "device", heads=False),
    "litert_compiled": RuntimeEntry(  # LiteRT's newer interface, which is to outlive the other
        "ai_edge_litert.compiled_model",
        "device",
        sgd_options=EVERY_TENSOR,
        engine="firmware_host.engines.compiled",
        interface="CompiledModel",
        recipe="hybrid",
    ),
    # what a microcontroller runs, for the files of --target micro
    "tflm": RuntimeEntry("tflite_micro.python.tflite_micro.runtime", "micro", engine="firmware_host.engines.tflm"),
}


def runtime_names() -> tuple[str, ...]:
    """Return every name that `--runtime` takes."""
    return (AUTO, *RUNTIMES)


def interpreters() -> tuple[str, ...]:
    """Return the names of those that `auto` chooses from, in that order."""
    return tuple(name for name, entry in RUNTIMES.items() if entry.automatic)


def installed_interpreters() -> tuple[str, ...]:
    """Return those of `interpreters` whose package is installed here; nothing is imported."""
    return tuple(name for name in installed_runtimes() if RUNTIMES[name].automatic)


def installed_runtimes() -> dict[str, str]:
    """Return each runtime whose package is installed here, and its version ("" if unknown); nothing is imported.

    Of those that come in one package it is the first.
    """
    packages: dict[str, str] = {}
    for name, entry in RUNTIMES.items():
        packages.setdefault((entry.module or name).partition(".")[0], name)
    return {name: _version(package) for package, name in packages.items() if importlib.util.find_spec(package)}


def runtimes_line(*libraries: str) -> str:
    """Return a line of `--version`: those of the `libraries` that are installed and every runtime, with versions."""
    found = {name: _version(name) for name in libraries if importlib.util.find_spec(name)}
    found.update(installed_runtimes())
    return "runtimes: " + ", ".join(f"{name} {version}".strip() for name, version in found.items())


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a folder on the path that no installer put there
        return ""
