"""The command line: `python -m firmware_host COMMAND BUNDLE ...`, or `cbpnet COMMAND BUNDLE ...`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from firmware_host.bundle import DeviceError, version_line
from firmware_host.commands import all_commands
from firmware_host.shared.arguments import ArgumentParser, VersionAction, folder_argument, path_argument, seed_argument
from firmware_host.shared.packages import missing_package
from firmware_host.shared.runtimes import AUTO, runtime_names, runtimes_line
from firmware_host.shared.streams import nobody_reads, one_line, open_streams, printable

__all__ = ["build_parser", "main"]

BAD_INPUT = 2
PROGRAM = "python -m firmware_host"
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports
CLOSED_PIPE = 141  # 128 + SIGPIPE


class _Parser(ArgumentParser):
    """An argument parser whose errors are DeviceErrors, like all others."""

    def error(self, message: str) -> NoReturn:
        raise DeviceError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Run one command and return its exit code: 0, 1 (self-test failed), 2 (bad input), 130 (interrupted).

    Args:
        argv: arguments without the program's name; None: those of this process.
        program: the program's name, for usage lines.
    """
    open_streams()
    warnings = logging.StreamHandler(sys.stderr)
    warnings.setFormatter(logging.Formatter("warning: %(message)s"))
    logging.getLogger("firmware_host").addHandler(warnings)
    try:
        return _run(argv, program)
    finally:
        logging.getLogger("firmware_host").removeHandler(warnings)


def _run(argv: Sequence[str] | None, program: str) -> int:
    try:
        args = build_parser(program).parse_args(argv)
        exit_code = 0
        for output in args.run(args):
            if output.error and not args.json:
                _complain(output.text, output.exit_code)
            else:
                _print(json.dumps(output.record) if args.json else output.text)
            exit_code = max(exit_code, output.exit_code)
            if output.more and nobody_reads():  # `... | head`
                return CLOSED_PIPE
        return exit_code
    except DeviceError as error:
        return _complain(str(error), BAD_INPUT)
    except ImportError as error:
        return _complain(missing_package(error), BAD_INPUT)
    except OSError as error:
        if error.strerror is None:
            raise
        where = "" if error.filename is None else f"{error.filename}: "
        return _complain(f"{where}{error.strerror}: check that it is there and may be read", BAD_INPUT)
    except KeyboardInterrupt as interrupt:
        return _complain(f"interrupted, {str(interrupt) or 'nothing was saved'}", INTERRUPTED)


def _print(text: str) -> None:
    try:
        print(printable(text), flush=True)
    except OSError as error:
        raise DeviceError(f"standard output cannot be written ({error.strerror}): give it another place") from error


def _complain(message: str, exit_code: int) -> int:
    print("error:", one_line(message), file=sys.stderr)
    return exit_code


def build_parser(program: str) -> _Parser:
    """Return the parser of all commands; `program`: its name, for usage lines."""
    parser = _Parser(prog=program, description="Predictions from a bundle, and further learning on the device.")
    parser.add_argument("--version", action=VersionAction, text=lambda: f"{version_line('cbpnet')}\n{runtimes_line()}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    common = _common()
    for command in all_commands():
        added = subparsers.add_parser(command.name, parents=[common], help=command.help, description=command.help)
        added.add_argument(
            "bundle", metavar="BUNDLE", type=path_argument, help="bundle folder that tflite/convert.py wrote"
        )
        command.add_arguments(added)
        added.set_defaults(run=command.run)
    return parser


def _common() -> _Parser:
    common = _Parser(add_help=False)
    common.add_argument(
        "--state",
        metavar="DIR",
        type=folder_argument,
        help="folder of the learned state (default: BUNDLE.state beside it)",
    )
    common.add_argument(
        "--runtime", choices=runtime_names(), default=AUTO, help="interpreter that computes; numpy runs the head only"
    )
    common.add_argument(
        "--recipe",
        help="recipe of the backbone, of those that the bundle has (default: the one that suits the runtime)",
    )
    common.add_argument(
        "--depth",
        metavar="N",
        type=int,
        help="encoder blocks to run, of the numbers that the bundle has: fewer take less time (default: all)",
    )
    common.add_argument("--threads", type=int, default=1, help="threads of the interpreter")
    common.add_argument(
        "--seed",
        type=seed_argument,
        help="seed of the random numbers (default: the saved generator goes on; 0 in a new state)",
    )
    common.add_argument("--json", action="store_true", help="JSON output, one object per line")
    return common
