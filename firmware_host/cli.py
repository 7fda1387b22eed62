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
from firmware_host.commands.inspect import run_bench, run_info, run_selftest
from firmware_host.commands.learn import run_learn
from firmware_host.commands.predict import run_evaluate, run_predict
from firmware_host.commands.state import ACTIONS, run_state
from firmware_host.device import DEFAULT_EPOCHS
from firmware_host.shared.runtimes import AUTO, runtime_names

__all__ = ["main"]

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports
CLOSED_PIPE = 141  # 128 + SIGPIPE

DATA_HELP = (
    "a folder with one folder of images per class (or train/ and test/ of such), - for paths CLASS/IMAGE on standard "
    "input, or npz:PATH"
)
DEFAULT_MAX_MEMORY_MB = 512


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

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        added = subparsers.add_parser(
            name, parents=[common], help=text, description=text, formatter_class=_HelpFormatter, allow_abbrev=False
        )
        added.add_argument("bundle", metavar="BUNDLE", help="the folder that tflite/convert.py wrote")
        added.set_defaults(run=run)
        return added

    command("info", run_info, "print the manifest and what was learned since")
    command("selftest", run_selftest, "check that this machine computes what the bundle was verified with")
    predict = command("predict", run_predict, "name the class of each image, a line an image")
    predict.add_argument(
        "images",
        metavar="IMAGE",
        nargs="*",
        help="image file, folder (all files in it), or - for paths on standard input, one a line",
    )
    _add_source(predict, "IMAGE")
    _add_max_memory(predict)
    learn = command("learn", run_learn, "learn labelled images and save the state")
    learn.add_argument("data", metavar="DATA", nargs="?", help=DATA_HELP)
    learn.add_argument(
        "--label",
        metavar="NAME",
        help="every image is of this class: DATA is a file, a folder or - (paths), or --source",
    )
    _add_source(learn, "DATA")
    learn.add_argument(
        "--replay",
        default="statistics",
        help="statistics: half of each batch is drawn from the statistics of every class seen; buffer:N: from N images "
        "kept as features; none: real images only",
    )
    learn.add_argument(
        "--one-by-one", action="store_true", help="in the order given, as labels come on a device in use; no epochs"
    )
    learn.add_argument(
        "--save-every", metavar="N", type=int, default=0, help="training steps between two saves; 0: one at the end"
    )
    learn.add_argument("--epochs", type=int, default=DEFAULT_EPOCHS, help="passes over the images")
    learn.add_argument("--learning-rate", type=float, help="Adam's step size (default: the bundle's)")
    _add_max_memory(learn)
    evaluate = command("evaluate", run_evaluate, "measure the accuracy on labelled images")
    evaluate.add_argument("data", metavar="DATA", help=DATA_HELP)
    _add_max_memory(evaluate)
    state = command("state", run_state, "show, export, import, compare or reset what was learned")
    state.add_argument("action", metavar="ACTION", nargs="?", default="show", help=", ".join(ACTIONS))
    state.add_argument("file", metavar="FILE", nargs="?", help="of export, import and diff: a state kept elsewhere")
    bench = command("bench", run_bench, "time predictions and training steps, measure memory")
    bench.add_argument("--repeat", type=int, default=50, help="how often each is timed")
    return parser


def _add_source(parser: argparse.ArgumentParser, instead_of: str) -> None:
    parser.add_argument(
        "--source", help=f"camera:NUMBER (0 is the first) or video:FILE instead of {instead_of}; needs OpenCV"
    )
    parser.add_argument("--every", metavar="N", type=int, default=1, help="of --source, take each N-th frame")
    parser.add_argument("--frames", metavar="N", type=int, help="of --source, end after N frames (default: all)")


def _add_max_memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-memory",
        metavar="MIB",
        type=int,
        default=DEFAULT_MAX_MEMORY_MB,
        help="of the whole process in MiB; an image that would not fit is refused before it is decoded",
    )


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
