"""What the commands share: their form, what they print, common arguments, and how the device is opened."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from firmware_host.bundle import Bundle, DeviceError, read_bundle
from firmware_host.device import UNKNOWN_RATE, Device
from firmware_host.engines.find import checked_depth, checked_recipe
from firmware_host.images.cameras import forms, shown
from firmware_host.images.region import Region
from firmware_host.images.sources import NamedImage, frames, named_images
from firmware_host.shared.arguments import data_argument, share_argument
from firmware_host.terminal import without_runtime_chatter

__all__ = [
    "BAD_IMAGE",
    "DATA_HELP",
    "Command",
    "Output",
    "add_camera",
    "add_following",
    "add_jobs",
    "add_judging",
    "add_max_memory",
    "add_source",
    "add_watch",
    "bundle_of",
    "images_given",
    "judge_as_asked",
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


def add_camera(parser: argparse.ArgumentParser, what: str) -> None:
    """Add --source and what belongs to every one; `what` says what its frames are."""
    parser.add_argument("--source", type=data_argument, help=f"{what}: {forms(explained=True)}; see docs/cameras.md")
    parser.add_argument(
        "--every", metavar="N", type=int, default=1, help="step between the frames taken from --source: every N-th"
    )
    parser.add_argument(
        "--region",
        metavar="X,Y,W,H",
        type=_region_argument,
        help="part of the picture of --source that is used: left edge, upper edge, width and height as shares of it "
        "from 0 to 1, so 0.25,0.25,0.5,0.5 is its middle",
    )


def add_source(parser: argparse.ArgumentParser, instead_of: str) -> None:
    """Add --source for a command that takes images too; `instead_of` is the argument that it replaces."""
    add_camera(parser, f"source of images instead of {instead_of}")
    parser.add_argument("--frames", metavar="N", type=int, help="number of frames to take from --source (default: all)")


def add_watch(parser: argparse.ArgumentParser, agree: int | None, motion: bool, agree_help: str) -> None:
    """Add --agree and --motion with their defaults; `agree_help` says what is done with an answer on which N agree."""
    parser.add_argument("--agree", metavar="N", type=int, default=agree, help=agree_help)
    parser.add_argument(
        "--motion",
        action=argparse.BooleanOptionalAction,
        default=motion,
        help="predict only frames of --source in which something moved: by more than the camera's noise since the last "
        "one that was predicted",
    )


def _region_argument(text: str) -> Region:
    try:
        return Region.of(text)
    except DeviceError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_max_memory(parser: argparse.ArgumentParser) -> None:
    """Add --max-memory."""
    parser.add_argument(
        "--max-memory",
        metavar="MIB",
        type=int,
        default=DEFAULT_MAX_MEMORY_MB,
        help="memory limit of the whole process, MiB; an image that would not fit is refused before it is decoded",
    )


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Add --unknown-rate and --no-follow-camera, which `judge_as_asked` takes."""
    parser.add_argument(
        "--unknown-rate",
        metavar="RATE",
        type=share_argument,
        default=UNKNOWN_RATE,
        help="share of images of known classes that may be called unknown, 0 to 1; 0: none is (default: %(default)s)",
    )
    add_following(parser)


def add_following(parser: argparse.ArgumentParser) -> None:
    """Add --no-follow-camera."""
    parser.add_argument(
        "--no-follow-camera",
        action="store_true",
        help="take the camera for the one that is calibrated, whatever the images show",
    )


def judge_as_asked(device: Device, args: argparse.Namespace) -> None:
    """Let a device judge images as the arguments of `add_judging` say."""
    device.unknown_rate, device.camera.follows = args.unknown_rate, not args.no_follow_camera


def bundle_of(args: argparse.Namespace) -> Bundle:
    """Return the verified bundle of a command that opens no device; raises BundleError or DeviceError."""
    bundle = read_bundle(args.bundle)
    if args.recipe is not None:
        checked_recipe(bundle, args.recipe)
    if args.depth is not None:
        checked_depth(bundle, args.depth)
    return bundle


def add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add --jobs."""
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        help="threads that read image files ahead, in their order; 1: each file is read when it is its turn (default: "
        "as many as cores may be used, at most 4)",
    )


def open_device(args: argparse.Namespace) -> Device:
    """Open the bundle and the state that the command line names."""
    with without_runtime_chatter():
        device = Device.open(args.bundle, args.state, args.runtime, args.threads, args.seed, args.recipe, args.depth)
    device.max_memory_mb = args.max_memory
    if getattr(args, "jobs", None) is not None:
        device.jobs = args.jobs
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
        if args.region is not None:
            raise DeviceError("--region is for the frames of --source: give both")
        return named_images(paths)
    if paths:
        raise DeviceError(f"{what} {paths[0]} and --source {shown(args.source)} are given: use one of them")
    return frames(args.source, args.every, args.frames, args.max_memory, args.region)
