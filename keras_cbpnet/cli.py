"""What every command line of this package shares: one-line errors, help with defaults, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NoReturn, Optional

from firmware_host.bundle import DeviceError, version_line
from firmware_host.shared import arguments
from firmware_host.shared.packages import missing_package
from firmware_host.shared.runtimes import runtimes_line
from firmware_host.shared.streams import one_line, open_streams, text_stream
from keras_cbpnet.errors import UserError

__all__ = [
    "CONSOLE",
    "MODULES",
    "ArgumentParser",
    "depth_list",
    "hide_native_output",
    "progress_lines",
    "run",
    "seed_list",
    "version_text",
]

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports
EPOCH = re.compile(r"\bepoch \d")
# How a user starts each command, for usage lines and for the next command to copy: by module, and by console command.
MODULES: Mapping[str, str] = {
    "train": "python -m keras_cbpnet.train",
    "pretrain": "python -m keras_cbpnet.pretrain",
    "convert": "python -m keras_cbpnet.convert",
    "freeze": "python -m keras_cbpnet.freeze",
    "report": "python -m keras_cbpnet.report",
    "fleet": "python -m keras_cbpnet.fleet",
    "device": "python -m firmware_host",
}
CONSOLE: Mapping[str, str] = {
    "train": "keras-cbpnet train",
    "pretrain": "keras-cbpnet pretrain",
    "convert": "keras-cbpnet convert",
    "freeze": "keras-cbpnet freeze",
    "report": "keras-cbpnet report",
    "fleet": "keras-cbpnet fleet",
    "device": "cbpnet",
}


class ArgumentParser(arguments.ArgumentParser):
    """The parser of host and device, whose errors are one line on stderr here, exit code 2."""

    def error(self, message: str) -> NoReturn:
        _print_error(f"{message} (see {self.prog} --help)")
        raise SystemExit(BAD_INPUT)


def version_text() -> str:
    """Return what `keras-cbpnet --version` prints: release, schemas, and what computes here; nothing is imported."""
    return f"{version_line('keras-cbpnet')}\n{runtimes_line('keras', 'tensorflow')}"


def hide_native_output() -> None:
    """Send what TensorFlow's C++ side writes to stderr into nowhere; Python's `sys.stderr` stays where it was.

    For the main program of a process. KERAS_CBPNET_VERBOSE=1 leaves everything visible.
    """
    open_streams()
    if os.environ.get("KERAS_CBPNET_VERBOSE"):
        return
    sys.stderr.flush()
    sys.stderr = text_stream(os.dup(2), lenient=True, encoding=sys.stderr.encoding)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated", category=UserWarning)


def seed_list(text: str) -> list[int]:
    """Return the seeds in `0,1,2`."""
    try:
        seeds = [arguments.seed_argument(part) for part in text.split(",")]
    except argparse.ArgumentTypeError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different numbers from 0 on, such as 0,1,2")
    return seeds


def depth_list(text: str) -> tuple[int, ...]:
    """Return the different numbers of encoder blocks in `5,3`; 0 alone stands for what the command takes it for."""
    numbers = [int(part) for part in text.split(",") if part.isdecimal()]
    alone = len(numbers) == 1
    if len(set(numbers)) < len(text.split(",")) or (not alone and 0 in numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of different numbers from 1 on, such as 5,3")
    return tuple(numbers)


@contextlib.contextmanager
def progress_lines(total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function that shows a line of progress on stderr: beside a bar on a terminal, plain lines elsewhere.

    Args:
        total: steps of the work; a line that names an epoch by its number is one step.
    """
    if not sys.stderr.isatty():
        yield lambda line: print(line, file=sys.stderr, flush=True)
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="epoch", leave=False) as bar:

        def show(line: str) -> None:
            if EPOCH.search(line):
                bar.set_postfix_str(line, refresh=False)
                bar.update()
            else:
                bar.write(line, file=sys.stderr)

        yield show


def run(main: Callable[..., Optional[int]], argv: Sequence[str] | None = None) -> int:
    """Call `main(argv)` and turn what goes wrong with the input into one line and an exit code.

    Args:
        main: the command; takes the arguments (None: `sys.argv[1:]`), returns an exit code or None for success.
        argv: arguments without the program's name.

    Returns:
        The exit code: that of `main` (None counts as 0); 2 for bad input (`UserError`, the bundle contract's errors, an
        operating system error about a file or a full disk, a package that is missing); 130 when interrupted. Any other
        exception is a defect and passes through.
    """
    open_streams()
    try:
        code = main(argv) or 0
        sys.stdout.flush()  # a full disk is reported here, and not when the interpreter ends
        return code
    except (UserError, DeviceError) as error:
        return _bad_input(str(error))
    except ImportError as error:
        return _bad_input(missing_package(error))
    except OSError as error:  # no permission, disk full, a file where a folder should be
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.ENOENT):
            raise
        return _bad_input(": ".join(str(part) for part in (error.filename, error.strerror) if part is not None))
    except KeyboardInterrupt:
        _print_error("interrupted")
        return INTERRUPTED


def _bad_input(message: str) -> int:
    logging.getLogger(__name__).debug("bad input", exc_info=True)
    _print_error(message)
    return BAD_INPUT


def _print_error(message: str) -> None:
    print("error:", one_line(message), file=sys.stderr)
