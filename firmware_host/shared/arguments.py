"""What the command lines of host and device share: parsing, types of arguments, commands to copy."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from firmware_host.shared.errors import DeviceError

__all__ = [
    "ArgumentParser",
    "VersionAction",
    "command_line",
    "data_argument",
    "folder_argument",
    "given_path",
    "name_argument",
    "new_file_argument",
    "options_first",
    "path_argument",
    "path_text",
    "seed_argument",
    "share_argument",
]

SEEDS = 1 << 64  # as many as there are
KINDS = ("npz", "folder", "domains", "csi", "series", "video")  # of data and sources that are named KIND:PATH


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but not the meaningless `(default: None)` or an empty one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, "") else super()._get_help_string(action)


class ArgumentParser(argparse.ArgumentParser):
    """An `argparse.ArgumentParser` whose help shows defaults, and that takes options and positional arguments mixed.

    argparse alone gives `BUNDLE --json IMAGE` no IMAGE, because it closes an optional list at the first option.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("formatter_class", _HelpFormatter)
        kwargs.setdefault("allow_abbrev", False)  # an option added later must not change what a script means
        super().__init__(*args, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse as argparse does, the options first."""
        return super().parse_known_args(options_first(self, sys.argv[1:] if args is None else args), namespace)


class VersionAction(argparse.Action):
    """The option --version: it prints what `text` returns, as it is, and ends the program.

    argparse's own breaks lines to the terminal's width, and wants the text before anyone asks.
    """

    def __init__(self, option_strings: Sequence[str], dest: str, text: Callable[[], str]) -> None:
        super().__init__(
            option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help="version, and exit"
        )
        self._text = text

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        parser._print_message(self._text() + "\n", sys.stdout)
        parser.exit()


def options_first(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """Return the arguments with each option and its value before all positional ones.

    A parser of commands keeps the order from the command on; options before it are put after it.
    """
    options: list[str] = []
    positional: list[str] = []
    known = dict(parser._option_string_actions)
    commands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for command in (command for action in commands for command in action.choices.values()):
        known = {**command._option_string_actions, **known}
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            positional += rest
            break
        if not word.startswith("-") or word == "-":
            if commands:
                return [word, *options, *rest]
            positional.append(word)
            continue
        options.append(word)
        nargs = known[word].nargs if word in known else 0
        if rest and (nargs is None or (nargs == "?" and not rest[0].startswith("-"))):
            options.append(rest.pop(0))
    return [*options, "--", *positional] if positional else options


def path_text(text: str, what: str = "path") -> str:
    """Return a path that a user gave, with `~` and `~user` as the home folder; what the shell does not always do.

    Raises:
        DeviceError: for an empty one, as of a variable that is not set: it would be the working directory.
    """
    if not text.strip():
        raise DeviceError(f"{what} is empty: give a path")
    expanded = os.path.expanduser(text)
    if expanded == "~" or expanded.startswith("~/"):
        raise DeviceError(f"{what} {text} is in the home folder, which is not known here: give it in full")
    return expanded


def given_path(path: str | os.PathLike[str], what: str = "path") -> Path:
    """Return `path_text` of a path as a Path."""
    return Path(path_text(os.fspath(path), what))


def path_argument(text: str) -> Path:
    """Return the path of an argument; a type for argparse."""
    return Path(_argument(text))


def folder_argument(text: str) -> Path:
    """Return the path of a folder that is there or can be made; a type for argparse.

    A file in its place is refused before any work whose result would be lost.
    """
    path = path_argument(text)
    if file := next((each for each in (path, *path.parents) if each.is_file()), None):
        raise argparse.ArgumentTypeError(f"{file} is not a folder: give another path")
    return path


def new_file_argument(text: str) -> Path:
    """Return the path of a file to be written, in a folder that is there; a type for argparse."""
    path = path_argument(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder: give the name of a file")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"folder {path.parent} is not there: make it, or give another path")
    return path


def data_argument(text: str) -> str:
    """Return an argument that is a path, `-`, or `KIND:PATH` such as npz:FILE, `~` expanded; a type for argparse."""
    kind, colon, path = text.partition(":")
    if colon and kind in KINDS:
        return f"{kind}:{_argument(path, f'what follows {kind}:')}"
    return _argument(text)


def name_argument(text: str) -> str:
    """Return an argument that is a name, not empty; a type for argparse."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: give a name")
    return text


def seed_argument(text: str) -> int:
    """Return a seed, any whole number of 64 bits; a type for argparse."""
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < SEEDS:
        raise argparse.ArgumentTypeError(f"seed is {text}: use a whole number from 0 to {SEEDS - 1}")
    return seed


def share_argument(text: str) -> float:
    """Return a share, a number from 0 to 1; a type for argparse."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError(f"it is {text}: use a number from 0 to 1")
    return share


def command_line(*words: str | os.PathLike[str]) -> str:
    """Return a command that can be copied into a shell: every word quoted where it must be."""
    return " ".join(shlex.quote(_no_option(word)) for word in words)


def _no_option(word: str | os.PathLike[str]) -> str:
    """Return a word; a path that would be taken for an option with ./ before it."""
    text = os.fspath(word)
    return f"./{text}" if isinstance(word, os.PathLike) and text.startswith("-") else text


def _argument(text: str, what: str = "it") -> str:
    try:
        return path_text(text, what)
    except DeviceError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
