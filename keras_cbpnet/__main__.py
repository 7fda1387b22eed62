"""The host's console command: `keras-cbpnet COMMAND ...`, which is `python -m keras_cbpnet COMMAND ...`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from firmware_host.shared.arguments import VersionAction
from keras_cbpnet import cli

__all__ = ["COMMANDS", "console", "main"]


class Command(NamedTuple):
    """One command.

    Args:
        module: its module, with `main(argv, names)`; imported when the command is called.
        help: a line about it.
    """

    module: str
    help: str


COMMANDS = {
    "train": Command("keras_cbpnet.train", "train on a stream of tasks, into a run folder"),
    "pretrain": Command("keras_cbpnet.pretrain", "pretrain a backbone, into a weights file"),
    "convert": Command("keras_cbpnet.convert", "convert a finished run into a bundle for the device"),
    "freeze": Command("keras_cbpnet.freeze", "make one ordinary classifier of a bundle, which no longer learns"),
    "report": Command("keras_cbpnet.report", "write a page of what a run or a bundle gets right and wrong"),
    "fleet": Command("keras_cbpnet.fleet", "simulate devices that share what they learn; Flower"),
}


def build_parser() -> cli.ArgumentParser:
    """Return the parser of what stands before a command, with a line about each command."""
    parser = cli.ArgumentParser(
        prog="keras-cbpnet",
        description="Train CBPNet on a workstation and convert it for a device, where `cbpnet` goes on learning.",
    )
    parser.add_argument("--version", action=VersionAction, text=cli.version_text)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, the first word that is not an option; only that command's module is imported."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = next((word for word in arguments if not word.startswith("-")), None)
    if name not in COMMANDS:
        build_parser().parse_args(arguments)  # prints help, or refuses
        return 0
    arguments.remove(name)
    code: int = importlib.import_module(COMMANDS[name].module).main(arguments, cli.CONSOLE)
    return code


def console() -> int:
    """Run a command as the main program of this process."""
    cli.hide_native_output()
    return cli.run(main)


if __name__ == "__main__":
    sys.exit(console())
