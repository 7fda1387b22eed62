"""What is imported when it is first used: Keras' operations and TensorFlow, and the names of this package.

So rules are named and checked without Keras, and importing this package costs little.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["callable_module", "ops", "tf"]


class _Module:
    """A module that is imported when something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self._name), attribute)


ops: Any = _Module("keras.ops")
tf: Any = _Module("tensorflow")


def callable_module(name: str, module: str) -> None:
    """Make the module `name` callable as the function that the other module has by the last part of that name.

    For a command's module that is called as the function of the same name: once the module is imported, the package's
    attribute of that name is the module, whatever it was before. The other module is imported when it is called.
    """

    def function() -> Callable[..., Any]:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name.rpartition(".")[2])
        return found

    class CallableModule(ModuleType):
        def __call__(self, *args: Any, **settings: Any) -> Any:
            return function()(*args, **settings)

        @property
        def __signature__(self) -> inspect.Signature:
            return inspect.signature(function())

    sys.modules[name].__class__ = CallableModule
