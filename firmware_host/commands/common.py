"""What the commands share: their form, what they print, common arguments, and how the device is opened."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from firmware_host.bundle import DeviceError
from firmware_host.device import Device
from firmware_host.images.sources import NamedImage, frames, named_images
from firmware_host.shared.arguments import data_argument
from firmware_host.terminal import without_runtime_chatter

__all__ = [
    "BAD_IMAGE",
    "DATA_HELP",
    "Command",
    "Output",
    "add_max_memory",
    "add_source",
    "images_given",
    "open_device",
]

BAD_IMAGE = 2  # exit code: bad input
DATA_HELP = (
    "folder with one folder of images per class (or train/ and test/ folders of them), - for paths CLASS/IMAGE on "
    "standard input, or npz:PATH"
)
DEFAULT_MAX_MEMORY_MB = 512


class Output(NamedTuple):
    """One thing to print: a record (`--json`) or its text; `exit_code` says whether the command succeeded.

    The text of an `error` goes to stderr. `more`: whether more may follow, which is not worth computing when nobody
    reads it.
    """

    record: dict[str, Any]
    text: str
    exit_code: int = 0
    error: bool = False
    more: bool = False


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing."""


@dataclass(frozen=True)
class Command:
    """One command: `python -m firmware_host NAME BUNDLE ...`.

    Args:
        name: what the user types.
        help: one line for the user, which starts with a noun.
        run: takes the parsed arguments and yields what to print.
        add_arguments: adds its own arguments to a parser that has BUNDLE and those of every command.
    """

    name: str
    help: str
    run: Callable[[argparse.Namespace], Iterator[Output]]
    add_arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments


def add_source(parser: argparse.ArgumentParser, instead_of: str) -> None:
    """Add --source and what belongs to it; `instead_of` is the argument that it replaces."""
    parser.add_argument(
        "--source",
        type=data_argument,
        help=f"source of images: camera:NUMBER (0 is the first) or video:FILE instead of {instead_of}; needs OpenCV",
    )
    parser.add_argument(
        "--every", metavar="N", type=int, default=1, help="step between the frames taken from --source: every N-th"
    )
    parser.add_argument("--frames", metavar="N", type=int, help="number of frames to take from --source (default: all)")


def add_max_memory(parser: argparse.ArgumentParser) -> None:
    """Add --max-memory."""
    parser.add_argument(
        "--max-memory",
        metavar="MIB",
        type=int,
        default=DEFAULT_MAX_MEMORY_MB,
        help="memory limit of the whole process, MiB; an image that would not fit is refused before it is decoded",
    )


def open_device(args: argparse.Namespace) -> Device:
    """Open the bundle and the state that the command line names."""
    with without_runtime_chatter():
        device = Device.open(args.bundle, args.state, args.runtime, args.threads, args.seed)
    device.max_memory_mb = args.max_memory
    return device


def images_given(args: argparse.Namespace, paths: Sequence[str], what: str, command: str) -> Iterator[NamedImage]:
    """Return the images of `paths`, which the user calls `what`, or those of --source.

    Raises:
        DeviceError: neither is given, or both are.
    """
    if args.source is None:
        if not paths:
            raise DeviceError(
                f"the following arguments are required: {what} or --source (see python -m firmware_host {command} "
                "--help)"
            )
        return named_images(paths)
    if paths:
        raise DeviceError(f"{what} {paths[0]} and --source {args.source} are given: use one of them")
    return frames(args.source, args.every, args.frames, args.max_memory)
