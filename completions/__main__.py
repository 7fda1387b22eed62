"""Write the completion files of both console commands into this folder: `python -m completions`, or make completions.

shtab makes them from the parsers; pyproject.toml says where the wheel installs them.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import shtab

from firmware_host import cli as device
from firmware_host.shared.arguments import data_argument, folder_argument, new_file_argument, path_argument
from keras_cbpnet import __main__ as host
from keras_cbpnet import cli

FOLDER = Path(__file__).parent
NAMES = {"bash": "{}", "zsh": "_{}", "fish": "{}.fish"}  # as each shell looks for them
PATHS = {
    path_argument: shtab.FILE,
    new_file_argument: shtab.FILE,
    data_argument: shtab.FILE,
    folder_argument: shtab.DIRECTORY,
}


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the whole parser of each console command, the host's with those of its commands' modules."""
    parser = argparse.ArgumentParser(prog="keras-cbpnet")
    parser.add_argument("--version", action="store_true", help="version, and exit")
    commands = parser.add_subparsers()
    for name, command in host.COMMANDS.items():
        whole = importlib.import_module(command.module).build_parser(cli.CONSOLE)
        commands.add_parser(name, parents=[whole], add_help=False, help=command.help)
    return {"keras-cbpnet": parser, "cbpnet": device.build_parser("cbpnet")}


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield every argument of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from actions(command)


def files() -> dict[str, str]:
    """Return what the files hold, by their names."""
    found = {}
    for program, parser in parsers().items():
        for action in actions(parser):
            if complete := PATHS.get(action.type):
                action.complete = complete
        for shell, name in NAMES.items():
            text = shtab.complete(parser, shell).rstrip()
            found[name.format(program)] = f"{text}\n# made by `make completions` with shtab {shtab.__version__}\n"
    return found


if __name__ == "__main__":
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    sys.exit(0)
