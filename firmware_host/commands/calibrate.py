"""`calibrate`: a few images of known classes say how this camera differs from the host's."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional

from firmware_host.bundle import DeviceError
from firmware_host.commands.common import Command, Output, add_jobs, add_max_memory, open_device
from firmware_host.images import ImageLike
from firmware_host.images.labelled import STANDARD_INPUT, read_data
from firmware_host.images.sources import good_images, named_images
from firmware_host.shared.arguments import data_argument
from firmware_host.terminal import ProgressLine

__all__ = ["COMMANDS"]


def _calibrate(args: argparse.Namespace) -> Iterator[Output]:
    """Estimate the camera's offset from IMAGES, or use none again, and save it."""
    if args.reset == bool(args.images):
        raise DeviceError(
            "images and --reset are given: use one of them" if args.reset else "no images: give some, or --reset"
        )
    images = ([], None) if args.reset else _images(args)
    progress = ProgressLine(sys.stderr)
    with open_device(args) as device:
        try:
            if args.reset:
                device.camera.reset()
                record: dict[str, Any] = {"offset": 0.0, "found": False}
                text = "no offset is in use from now on"
            else:
                record = device.camera.calibrate(*images, progress)
                text = _described(record)
        finally:
            progress.close()
        saved = device.save()
    yield Output({**record, "state": str(saved.parent)}, f"{text}; saved in {saved}")


def _described(record: Mapping[str, Any]) -> str:
    classes = "" if record["classes"] is None else f" of {record['classes']} classes"
    left_out = f" ({record['left_out']} of other classes left out)" if record["left_out"] else ""
    verdict = "" if record["found"] else ", no more than the same camera may show"
    return (
        f"offset of this camera from {record['images']} images{classes}{left_out}: {record['offset']:.2f} of the "
        f"spread within a class{verdict}"
    )


def _images(args: argparse.Namespace) -> tuple[Sequence[ImageLike], Optional[Sequence[str]]]:
    """Return the images that are named and, where they lie in a folder a class, their labels."""
    if len(args.images) == 1:
        [source] = args.images
        if source == STANDARD_INPUT or source.startswith("npz:") or _has_folders(source):
            data = read_data(source, "train", args.max_memory)
            return data.images, data.labels
    return list(good_images(named_images(args.images))), None


def _has_folders(source: str) -> bool:
    return os.path.isdir(source) and any(entry.is_dir() for entry in os.scandir(source))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        metavar="IMAGES",
        nargs="*",
        type=data_argument,
        help="images through this camera, one to five of each class that the bundle came with: a folder with one "
        "folder of images per class, - for paths CLASS/IMAGE on standard input, npz:PATH, or image files and folders "
        "without labels",
    )
    parser.add_argument("--reset", action="store_true", help="no calibration any more, as before the first one")
    add_jobs(parser)
    add_max_memory(parser)


COMMANDS = (Command("calibrate", "adjustment to a camera that differs from the host's", _calibrate, _add_arguments),)
