"""Keras as this project is written for it, whatever keras.json, KERAS_BACKEND and their like say for other projects."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from pathlib import Path
from types import ModuleType

from keras_cbpnet.errors import UserError

__all__ = ["apply_settings", "check_installed", "use_keras"]


def use_keras(backend: str | None = None) -> None:
    """Import Keras, on `backend` if one is needed; for commands, before anything else imports it.

    Raises:
        UserError: it cannot be imported, or runs on another backend already.
    """
    wanted = os.environ.get("KERAS_BACKEND")
    if backend is not None:
        if wanted not in (None, "", backend):
            logging.getLogger(__name__).warning("KERAS_BACKEND=%s is not used: this command needs %s", wanted, backend)
        os.environ["KERAS_BACKEND"] = backend
    try:
        keras = importlib.import_module("keras")
    except Exception as error:  # a missing package, or a setting that Keras refuses, each with its own exception
        raise UserError(_reason(error, backend or wanted)) from error
    if backend not in (None, found := keras.config.backend()):
        raise UserError(
            f"this needs Keras on {backend}, which runs on {found}; start again with KERAS_BACKEND={backend}"
        )
    apply_settings(keras)


def check_installed(*packages: str) -> None:
    """Refuse to begin where a package is missing; nothing is imported, which would take seconds.

    Raises:
        UserError: one of `packages` is not installed.
    """
    for name in packages:
        try:
            found = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            found = None
        if found is None:
            raise UserError(f"{name} is not installed; pip install 'keras-cbpnet[train]'")


def apply_settings(keras: ModuleType) -> None:
    """Set what the layers take for granted, and what would end a training early."""
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)


def _reason(error: Exception, backend: str | None) -> str:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, ModuleNotFoundError) and error.name in ("keras", "tensorflow"):
        return f"{error.name} is not installed; pip install 'keras-cbpnet[train]'"
    file = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras.json"
    return f"Keras cannot be imported ({said}); correct {file} or KERAS_BACKEND, which is {backend or 'not set'}"
