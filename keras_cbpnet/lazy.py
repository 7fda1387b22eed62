"""Keras' operations and TensorFlow, imported when they are first used: rules are named and checked without them."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["ops", "tf"]


class _Module:
    """A module that is imported when something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


ops: Any = _Module("keras.ops")
tf: Any = _Module("tensorflow")
