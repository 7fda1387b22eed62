"""`predict` and `evaluate`: what the device sees, and how often it is right."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from firmware_host.bundle import DeviceError
from firmware_host.commands.common import (
    BAD_IMAGE,
    DATA_HELP,
    Command,
    Output,
    add_jobs,
    add_judging,
    add_max_memory,
    add_source,
    add_watch,
    images_given,
    judge_as_asked,
    open_device,
)
from firmware_host.device import Device
from firmware_host.images.labelled import STANDARD_INPUT, read_data
from firmware_host.images.sources import NamedImage, good_images, is_one_file, named_images
from firmware_host.images.watch import Watch
from firmware_host.learning.sightings import Sightings
from firmware_host.report import Judged, write_report
from firmware_host.shared.arguments import data_argument, new_file_argument
from firmware_host.terminal import ProgressLine

__all__ = ["COMMANDS"]


def _predict(args: argparse.Namespace) -> Iterator[Output]:
    """Yield a line per image, as soon as it is known; a bad image among many gets an error line and stops no other.

    With --agree, a line only where so many frames in a row agree on another answer than that of the line before. With
    --remember, what was seen of unknown images is saved now and then, and at the end.
    """
    if args.source is None and (args.motion or args.agree is not None):
        raise DeviceError("--agree and --motion are for the frames of --source: give both")
    watch = Watch(1 if args.agree is None else args.agree, args.motion)
    images = images_given(args, args.images, "IMAGE", "predict")
    device = open_device(args)
    judge_as_asked(device, args)
    if not device.classes:
        raise DeviceError(f"bundle {args.bundle} knows no class yet: teach it some with learn")
    if not args.remember:
        yield from _predictions(args, device, images, watch, None)
        return
    device.knowledge.reserve()
    sightings = Sightings()
    try:
        yield from _predictions(args, device, images, watch, sightings)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what was seen is saved") from None
    finally:
        if sightings.waiting:
            device.save()
        device.close()


def _predictions(
    args: argparse.Namespace, device: Device, images: Iterator[NamedImage], watch: Watch, sightings: Sightings | None
) -> Iterator[Output]:
    if STANDARD_INPUT in args.images:
        device.jobs = 1  # paths come one by one, and so do predictions
    for (name, image), take in device.read_ahead((one, one.image) for one in images):
        if isinstance(image, np.ndarray) and not watch.wants(image):
            continue
        try:
            pixels = take()  # (H, W, 3)
        except DeviceError as error:
            if args.source is None and is_one_file(args.images):
                raise
            yield Output({"image": name, "error": str(error)}, str(error), BAD_IMAGE, error=True, more=True)
            continue
        found = device.predict(pixels)
        if sightings is not None and sightings.due(found):
            device.save()
            sightings.saved()
        watch.hear(found.label if found.known else None)
        if args.agree is not None and not watch.news:
            continue
        what = found.label if found.known else f"unknown (nearest: {found.label})"
        text = f"{name}: {what} ({found.probability:.1%}, {found.latency_ms:.2f} ms)"
        if found.group is not None:
            text += f", group {found.group}"
        if found.offered:
            text += f": {found.alike} alike, teach them a name?"
        yield Output({"image": name, **found._asdict()}, text, more=True)


def _evaluate(args: argparse.Namespace) -> Iterator[Output]:
    """Yield the accuracy on the images of DATA, over all classes known."""
    if args.strangers and args.report is None:
        raise DeviceError("--strangers is given without --report: name the page that is to tell of them")
    data = read_data(args.data, "test", args.max_memory)
    device = open_device(args)
    judged: list[Judged] = []
    progress = ProgressLine(sys.stderr)
    try:
        record = device.evaluate(data.images, data.labels, progress, lambda *one: judged.append(Judged(*one)))
    finally:
        progress.close()
    rows = [f"  {name}: {accuracy:.1%}" for name, accuracy in record["per_class"].items()]
    if args.report is not None:
        strangers = list(good_images(named_images([args.strangers] if args.strangers else [])))
        judged += [Judged(image, None, found) for image, found in zip(strangers, device.look_many(strangers))]
        write_report(args.report, f"{Path(args.bundle).name} on {Path(args.data).name}", device, judged)
        record["report"] = str(args.report)
        rows.append(f"report: {args.report}")
    yield Output(
        record,
        "\n".join([data.describe(args.data), f"accuracy {record['accuracy']:.1%} on {record['images']} images", *rows]),
    )


def _add_predict_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images",
        metavar="IMAGE",
        nargs="*",
        type=data_argument,
        help="image file, folder (all files in it), or - for paths on standard input, one per line",
    )
    add_judging(parser)
    parser.add_argument(
        "--remember",
        action="store_true",
        help="keep groups of unknown images alike in the state: another run goes on counting, and until this one ends "
        "no other process can change the state",
    )
    add_source(parser, "IMAGE")
    add_watch(
        parser,
        None,
        False,
        "frames in a row that must agree before a line is printed, and then only for another answer than the last "
        "(default: a line for each frame)",
    )
    add_jobs(parser)
    add_max_memory(parser)


def _add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", type=data_argument, help=DATA_HELP)
    parser.add_argument(
        "--report",
        metavar="FILE.html",
        type=new_file_argument,
        help="page with what was confused, how sure the device was and what it learned when; replaced if it exists",
    )
    parser.add_argument(
        "--strangers",
        metavar="IMAGES",
        type=data_argument,
        help="folder of images of none of the classes, for the report: does the device say so?",
    )
    add_jobs(parser)
    add_max_memory(parser)


COMMANDS = (
    Command("predict", "class of each image, one line per image", _predict, _add_predict_arguments),
    Command("evaluate", "accuracy on labelled images", _evaluate, _add_evaluate_arguments),
)
