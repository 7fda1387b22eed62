"""Finding a runtime, and opening a bundle with it; the table of runtimes is in firmware_host/shared/runtimes.py."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import sys
from typing import Any, NamedTuple

import numpy as np

from firmware_host.bundle import Bundle, DeviceError
from firmware_host.engines.backbone import Backbone
from firmware_host.engines.numpy_head import NumpyHead
from firmware_host.engines.protocol import Head, HeadState
from firmware_host.shared.runtimes import AUTO, RUNTIMES, RuntimeEntry, interpreters, runtime_names

__all__ = [
    "SIGNATURE",
    "Runtime",
    "checked_depth",
    "checked_recipe",
    "find_runtime",
    "open_backbone",
    "open_head",
    "recipe_of",
    "signature_of",
]

SIGNATURE = "serving_default"


class Runtime(NamedTuple):
    """The runtime in use.

    Args:
        name: that the user sees.
        interpreter: the class that loads a file.
        entry: of the table.
        preferred: recipe of the backbone that it takes where a bundle has it; None: the bundle's first.
        recipe: the one that it must take; None: it may choose.
        depth: encoder blocks that the backbone shall run; None: the bundle's.
    """

    name: str
    interpreter: Any
    entry: RuntimeEntry
    preferred: str | None = None
    recipe: str | None = None
    depth: int | None = None


def find_runtime(name: str = AUTO, recipe: str | None = None, depth: int | None = None) -> Runtime:
    """Return the runtime called `name`; `auto` and `numpy` (head only) take the first interpreter that imports.

    Args:
        name: in the table, or `auto`.
        recipe: of the backbone that it shall take; None: the one that suits it.
        depth: encoder blocks that the backbone shall run, of those that the bundle has; None: the bundle's.

    Raises:
        DeviceError: it is unknown, not installed or cannot be loaded.
    """
    if name not in runtime_names():
        raise DeviceError(f"unknown runtime {name!r}: use one of {', '.join(runtime_names())}")
    alone = name in RUNTIMES and RUNTIMES[name].module is not None
    wanted = (name,) if alone else interpreters()
    reasons = []
    for candidate in wanted:
        entry = RUNTIMES[candidate]
        if entry.not_after in sys.modules:
            reasons.append(f"{candidate} does not load after {entry.not_after} in one process: use a separate process")
            continue
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # NumPy 2 writes a page about a module built for NumPy 1
                interpreter = getattr(importlib.import_module(str(entry.module)), entry.interface)
        except Exception as error:  # a wheel for another NumPy or processor fails with any kind of error
            reasons.append(_reason(candidate, entry, error))
            continue
        shown = candidate if name == AUTO else name
        return Runtime(shown, interpreter, RUNTIMES[shown], entry.recipe, recipe, depth)
    raise DeviceError(
        f"no interpreter for runtime {name!r}: {'; '.join(reasons)}; {_install(wanted)}, or choose another --runtime"
    )


def open_backbone(bundle: Bundle, runtime: Runtime, threads: int = 1) -> Backbone:
    """Open the bundle's backbone, the file that `recipe_of` names.

    Raises:
        DeviceError: it is not there, or its tensors are not those that the manifest names.
    """
    file, signature = bundle.backbones[recipe_of(bundle, runtime)], signature_of(bundle, runtime)
    backbone: Backbone = _engine(runtime).open_backbone(bundle, runtime, threads, file, signature)
    return backbone


def open_head(bundle: Bundle, runtime: Runtime, threads: int = 1) -> Head:
    """Open the bundle's head in its start state, by the runtime or, where it runs no heads, by NumPy.

    NumPy takes the start state from golden.npz or, where a bundle of another program has none there, from head.tflite.

    Raises:
        DeviceError: its signatures or tensors are not those of the contract.
    """
    engine = _engine(runtime)
    if runtime.entry.heads:
        head: Head = engine.open_head(bundle, runtime, threads)
        return head
    state: HeadState = bundle.arrays("golden.npz", prefix="state.")
    if not state.keys() >= bundle.state_shapes.keys():
        state = engine.open_head(bundle, runtime, threads).get_state()
    return NumpyHead(bundle.head, state)


def recipe_of(bundle: Bundle, runtime: Runtime) -> str:
    """Return the recipe of that one of the bundle's backbones which the runtime takes; DeviceError for none."""
    if runtime.recipe is not None:
        return checked_recipe(bundle, runtime.recipe)
    return runtime.preferred if runtime.preferred in bundle.backbones else bundle.recipe


def checked_recipe(bundle: Bundle, recipe: str) -> str:
    """Return a recipe by which the bundle has a backbone; DeviceError for another."""
    if recipe not in bundle.backbones:
        has = " and ".join(bundle.backbones)
        raise DeviceError(f"{bundle.path} has no backbone by recipe {recipe!r}, it has {has}: use one of these")
    return recipe


def signature_of(bundle: Bundle, runtime: Runtime) -> str:
    """Return the backbone's signature that runs as many blocks as are asked for; DeviceError for a number not there."""
    return SIGNATURE if runtime.depth is None else checked_depth(bundle, runtime.depth)


def checked_depth(bundle: Bundle, depth: int) -> str:
    """Return the signature that runs `depth` encoder blocks, a number that the bundle has; DeviceError for another."""
    depths = bundle.depths or {int(bundle.manifest.get("depth", 0)): SIGNATURE}
    if depth not in depths:
        known = " and ".join(str(number) for number in sorted(depths, reverse=True) if number)
        has = f"it has {known}: use one of these" if known else "it runs all of its blocks: convert with --depth"
        raise DeviceError(f"{bundle.path} has no backbone of {depth} encoder blocks, {has}")
    return depths[depth]


def _engine(runtime: Runtime) -> Any:
    return importlib.import_module(runtime.entry.engine)


def _reason(name: str, entry: RuntimeEntry, error: Exception) -> str:
    if entry.numpy_1 and np.lib.NumpyVersion(np.__version__) >= "2.0.0" and importlib.util.find_spec(_package(entry)):
        return f'{name} needs NumPy 1, here is NumPy {np.__version__}: pip install "numpy<2"'
    return f"{name} does not import ({' '.join(str(error).split())})"


def _package(entry: RuntimeEntry) -> str:
    return str(entry.module).partition(".")[0]


def _install(names: tuple[str, ...]) -> str:
    extras = (f'pip install "keras-cbpnet[{RUNTIMES[name].extra}]"' for name in names)
    return " or ".join(extras)
