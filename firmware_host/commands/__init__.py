"""The commands of the device's command line, with their arguments; `all_commands` finds them in this package's modules.

To add one, write a module here with a tuple COMMANDS of `common.Command`.
"""

from __future__ import annotations

import importlib
import pkgutil

from firmware_host.commands.common import Command

__all__ = ["all_commands"]


def all_commands() -> list[Command]:
    """Return the commands of every module of this package, in the order of the modules' names."""
    modules = [importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
    return [command for module in modules for command in getattr(module, "COMMANDS", ())]
