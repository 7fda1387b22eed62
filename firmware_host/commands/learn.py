"""`learn`: labelled images, all at once or as they come, and saving what came of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from firmware_host.bundle import DeviceError, read_bundle
from firmware_host.commands.common import (
    DATA_HELP,
    REQUIRED,
    Command,
    Output,
    add_max_memory,
    add_source,
    open_device,
)
from firmware_host.device import DEFAULT_EPOCHS, Device
from firmware_host.images import ImageLike, load_image
from firmware_host.images.labelled import LabelledImages, read_data
from firmware_host.images.sources import frames, good_images, named_images
from firmware_host.learning.learner import Progress
from firmware_host.process_memory import peak_memory_mb
from firmware_host.terminal import ProgressLine

__all__ = ["COMMANDS"]


def _learn(args: argparse.Namespace) -> Iterator[Output]:
    """Learn the images of DATA and save the state."""
    images, labels = _images_to_learn(args)
    progress = ProgressLine(sys.stderr)
    with open_device(args) as device:
        try:
            if args.one_by_one:
                record = _learn_one_by_one(device, images, labels, args, progress)
            else:
                rate, every = args.learning_rate, args.save_every
                record = device.learn(images, labels, args.replay, args.epochs, rate, progress, every)
        except KeyboardInterrupt:
            saves = device.written["saves"]
            raise KeyboardInterrupt("only what was saved on the way is kept" if saves else "") from None
        finally:
            progress.close()
        saved = device.save()
        written = device.written
    loss = "unknown" if record["loss"] is None else f"{record['loss']:.4f}"
    text = (
        f"learned {record['images']} images in {record['steps']} steps, loss {loss}, "
        f"{record['replaced']} units reborn, {record['rolled_back']} steps taken back; saved in {saved}; "
        f"{written['bytes_written_per_hour']:,.0f} bytes written per hour"
    )
    record.update(written, state=str(saved.parent), peak_memory_mb=peak_memory_mb())
    yield Output(record, text)


def _learn_one_by_one(
    device: Device, images: Sequence[ImageLike], labels: Sequence[str], args: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    """Teach image by image, saving on the way; the loss is that of the last label that was not taken back."""
    total: dict[str, Any] = {"images": 0, "steps": 0, "replaced": 0, "rolled_back": 0}
    loss, due = None, args.save_every
    for image, label in zip(images, labels):
        record = device.teach(image, label, args.replay, args.learning_rate)
        total = {name: value + record[name] for name, value in total.items()}
        loss = loss if record["loss"] is None else record["loss"]
        if args.save_every and total["steps"] >= due:
            device.save()
            due = total["steps"] + args.save_every
        if progress:
            progress("learning", total["images"], len(labels))
    return {**total, "loss": loss}


def _images_to_learn(args: argparse.Namespace) -> LabelledImages:
    """Return the images of DATA or --source; a frame is resized at once, so that none is held at its own size."""
    if args.source is None and args.data is None:
        raise DeviceError(REQUIRED.format(what="DATA", command="learn"))
    if args.source is None and args.label is None:
        return read_data(args.data, "train", args.max_memory)
    if args.source is None:
        found: list[ImageLike] = list(good_images(named_images([args.data])))
    elif args.data is not None:
        raise DeviceError(f"DATA {args.data} and --source {args.source} are given: use one of them")
    elif args.label is None:
        raise DeviceError(f"the class that source {args.source} shows is unknown: give --label NAME")
    elif args.frames is None and args.source.startswith("camera:"):
        raise DeviceError(f"source {args.source} has no end: give --frames N")
    else:
        size = read_bundle(args.bundle).image_size
        shown = frames(args.source, args.every, args.frames, args.max_memory)
        found = [load_image(frame, size) for frame in good_images(shown)]
    if not found:
        raise DeviceError(f"data {args.data} names no image: give at least one")
    return LabelledImages(found, [args.label] * len(found))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", nargs="?", help=DATA_HELP)
    parser.add_argument(
        "--label",
        metavar="NAME",
        help="every image is of this class: DATA is a file, a folder or - (paths), or --source",
    )
    add_source(parser, "DATA")
    parser.add_argument(
        "--replay",
        default="statistics",
        help="statistics: half of each batch is drawn from the statistics of every class seen; buffer:N: from N images "
        "kept as features; none: real images only",
    )
    parser.add_argument(
        "--one-by-one", action="store_true", help="in the order given, as labels come on a device in use; no epochs"
    )
    parser.add_argument(
        "--save-every", metavar="N", type=int, default=0, help="training steps between two saves; 0: one at the end"
    )
    parser.add_argument("--epochs", type=int, default=DEFAULT_EPOCHS, help="passes over the images")
    parser.add_argument("--learning-rate", type=float, help="Adam's step size (default: the bundle's)")
    add_max_memory(parser)


COMMANDS = (Command("learn", "learn labelled images and save the state", _learn, _add_arguments),)
