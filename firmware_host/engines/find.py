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

__all__ = ["Runtime", "find_runtime", "open_backbone", "open_head"]


class Runtime(NamedTuple):
    """The runtime in use: the name the user sees, the class that loads a file, and the table's entry."""

    name: str
    interpreter: Any
    entry: RuntimeEntry


def find_runtime(name: str = AUTO) -> Runtime:
    """Return the runtime called `name`; `auto` and `numpy` (head only) take the first interpreter that imports.

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
        return Runtime(candidate, interpreter, entry) if name == AUTO else Runtime(name, interpreter, RUNTIMES[name])
    raise DeviceError(
        f"no interpreter for runtime {name!r}: {'; '.join(reasons)}; {_install(wanted)}, or choose another --runtime"
    )


def open_backbone(bundle: Bundle, runtime: Runtime, threads: int = 1) -> Backbone:
    """Open the bundle's backbone; raises DeviceError when its tensors are not those the manifest names."""
    backbone: Backbone = _engine(runtime).open_backbone(bundle, runtime, threads)
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
