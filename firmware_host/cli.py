"""The command line: `python -m firmware_host COMMAND BUNDLE ...`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from firmware_host.bundle import DeviceError
from firmware_host.commands import all_commands
from firmware_host.shared.runtimes import AUTO, runtime_names

__all__ = ["main"]

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports
CLOSED_PIPE = 141  # 128 + SIGPIPE


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors come the same way as all others."""

    def error(self, message: str) -> NoReturn:
        raise DeviceError(f"{message} (see {self.prog} --help)")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, except where None is one that the help text explains."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 (self-test failed), 2 (bad input), 130 (interrupted)."""
    warnings = logging.StreamHandler(sys.stderr)
    warnings.setFormatter(logging.Formatter("warning: %(message)s"))
    logging.getLogger("firmware_host").addHandler(warnings)
    try:
        return _run(argv)
    finally:
        logging.getLogger("firmware_host").removeHandler(warnings)


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = _parser().parse_args(argv)
        exit_code = 0
        for output in args.run(args):
            if output.error and not args.json:
                _complain(output.text, output.exit_code)
            else:
                print(json.dumps(output.record) if args.json else _printable(output.text), flush=True)
            exit_code = max(exit_code, output.exit_code)
        return exit_code
    except DeviceError as error:
        return _complain(str(error), BAD_INPUT)
    except BrokenPipeError:  # `... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CLOSED_PIPE
    except OSError as error:
        if error.filename is None:
            raise
        return _complain(f"{error.filename}: {error.strerror}: check that it is there and may be read", BAD_INPUT)
    except KeyboardInterrupt as interrupt:
        return _complain(f"interrupted, {str(interrupt) or 'nothing was saved'}", INTERRUPTED)


def _printable(text: str) -> str:
    """Return `text` with what stdout cannot show, such as a file name of another encoding, escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _complain(message: str, exit_code: int) -> int:
    print("error:", " ".join(message.split()), file=sys.stderr)
    return exit_code


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m firmware_host",
        description="Predict with a bundle and go on learning on the device.",
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    common = _common()
    for command in all_commands():
        added = subparsers.add_parser(
            command.name,
            parents=[common],
            help=command.help,
            description=command.help,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        added.add_argument("bundle", metavar="BUNDLE", help="the folder that tflite/convert.py wrote")
        command.add_arguments(added)
        added.set_defaults(run=command.run)
    return parser


def _common() -> _Parser:
    common = _Parser(add_help=False)
    common.add_argument("--state", metavar="DIR", help="folder of the learned state (default: BUNDLE.state beside it)")
    common.add_argument(
        "--runtime", choices=runtime_names(), default=AUTO, help="what computes; numpy is for the head only"
    )
    common.add_argument("--threads", type=int, default=1, help="threads of the interpreter")
    common.add_argument("--seed", type=int, help="of the random numbers (default: go on from the state, 0 at first)")
    common.add_argument("--json", action="store_true", help="print JSON, one object a line")
    return common
