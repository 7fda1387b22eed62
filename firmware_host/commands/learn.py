"""`learn`: labelled images, all at once or as they come, and saving what came of them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firmware_host.bundle import DeviceError, read_bundle
from firmware_host.commands.common import (
    DATA_HELP,
    Command,
    Output,
    add_following,
    add_jobs,
    add_max_memory,
    add_source,
    images_given,
    open_device,
)
from firmware_host.device import DEFAULT_EPOCHS, Device
from firmware_host.images import ImageLike, load_image
from firmware_host.images.cameras import shown
from firmware_host.images.features import read_features
from firmware_host.images.labelled import STANDARD_INPUT, LabelledImages, read_data
from firmware_host.images.sources import good_images, has_end
from firmware_host.inbox import Lesson, Reading, lesson_key, lessons_in, move_aside
from firmware_host.learning.camera_state import ASSUMED, MOVED, UNCLEAR
from firmware_host.learning.consolidation import WAYS
from firmware_host.process_memory import peak_memory_mb
from firmware_host.shared.arguments import command_line, data_argument, folder_argument, name_argument, path_argument
from firmware_host.shared.names import known_name, nearest
from firmware_host.shared.streams import is_terminal
from firmware_host.terminal import ProgressLine, ask

__all__ = ["COMMANDS"]

ADVICE = {
    MOVED: "images of known classes look other than the host's: this camera may be the cause",
    UNCLEAR: "the new classes lie far from all known ones: this camera may be the cause, and not the classes",
    ASSUMED: "the new classes lie far from all known ones: taken for this camera's doing, as far as they stay apart",
}


def _learn(args: argparse.Namespace) -> Iterator[Output]:
    """Learn the images of DATA and save the state."""
    _check(args)
    progress = ProgressLine(sys.stderr)
    data, lessons = None, []
    if args.set_aside is not None:
        lessons = list(lessons_in(Path(args.data)))
    elif args.consolidate is None or not _nothing_given(args):
        data = _images_to_learn(args)
        lessons = [Lesson(_name(index, image), image, label) for index, (image, label) in enumerate(zip(*data[:2]))]
    with open_device(args) as device:
        before, device.camera.follows = device.classes, not args.no_follow_camera
        if args.label is not None:
            _confirm_new(args, device)
        reading = None if args.set_aside is None else Reading(device.state_folder)
        try:
            if args.one_by_one:
                with device.as_one_lesson():
                    record = yield from _learn_one_by_one(device, lessons, args, progress, reading)
            else:
                images, labels = [each.image for each in lessons], [each.label for each in lessons]
                settings = (args.learning_rate, progress, args.save_every, args.consolidate)
                record = device.learn(images, labels, args.replay, args.epochs, *settings)
        except KeyboardInterrupt:
            saves = device.written["saves"]
            raise KeyboardInterrupt("only what was saved on the way is kept" if saves else "") from None
        finally:
            progress.close()
            if reading is not None:
                reading.end()
        saved = device.save()
        written = device.written
        new = [name for name in device.classes if name not in before]
        spare, said = device.bundle.slots - len(device.classes), device.camera.said
    loss = "unknown" if record["loss"] is None else f"{record['loss']:.4f}"
    found = "" if data is None else f"{data.describe(str(args.data or args.features or shown(args.source)))}\n"
    what = f"learned {record['images']} images" if lessons else "consolidated the classes that were taught before"
    text = (
        f"{found}{what} in {record['steps']} steps, loss {loss}, "
        f"{record['replaced']} units reset, {record['rolled_back']} steps rolled back; saved in {saved}; "
        f"{written['bytes_written_per_hour']:,.0f} bytes written per hour"
    )
    for name, how in (("refused", "could not be learned"), ("known", "were learned before")):
        text += f"; {record[name]} {how}" if record.get(name) else ""
    if new:
        text += (
            f"\nnew classes: {', '.join(new)}; free slots: {spare}; take this lesson back with: "
            + command_line("python", "-m", "firmware_host", "state", args.bundle, "undo")
            + ("" if args.state is None else f" --state {command_line(args.state)}")
        )
    if said is not None:
        text += (
            f"\n{ADVICE[said]}; adjust to it by one to five images of each class that the bundle came with: "
            + command_line("python", "-m", "firmware_host", "calibrate", args.bundle)
            + ("" if args.state is None else f" --state {command_line(args.state)}")
            + " IMAGES"
        )
    record.update(written, new_classes=new, camera=said, state=str(saved.parent), peak_memory_mb=peak_memory_mb())
    yield Output(record, text)


def _learn_one_by_one(
    device: Device,
    lessons: Sequence[Lesson],
    args: argparse.Namespace,
    progress: ProgressLine,
    reading: Reading | None,
) -> Generator[Output, None, dict[str, Any]]:
    """Teach image by image, saving on the way, and yield the bad ones; return the record.

    Its loss is that of the last label that was not rolled back.
    """
    total: dict[str, Any] = {"images": 0, "steps": 0, "replaced": 0, "rolled_back": 0}
    loss, due, refused = None, args.save_every, 0
    taught, seen = set(device.taught), set()
    for done, lesson in enumerate(lessons, 1):
        try:
            if lesson.error is not None:
                raise lesson.error
            key = None if args.set_aside is None else lesson_key(Path(lesson.name), Path(args.data))
            if key is not None and key in taught:
                seen.add(key)
                continue
            if reading is not None:
                reading.begin(lesson.name)
            pixels = device.load(lesson.image)  # (H, W, 3)
            device.check_class(lesson.label)
        except (DeviceError, OSError) as error:
            if len(lessons) == 1 and args.set_aside is None:
                raise
            refused += 1
            progress.close()
            yield _refused(lesson, error, args)
            continue
        record = device.teach(pixels, lesson.label, args.replay, args.learning_rate)
        total = {name: value + record[name] for name, value in total.items()}
        loss = loss if record["loss"] is None else record["loss"]
        if key is not None:
            taught.add(key)
            seen.add(key)
        if args.save_every and total["steps"] >= due:
            device.taught = frozenset(taught)
            device.save()
            due = total["steps"] + args.save_every
        progress("learning", done, len(lessons))
    if args.set_aside is not None:
        device.taught = frozenset(seen)  # those of the inbox before it are not needed any more
    elif refused == len(lessons):
        raise DeviceError(f"none of {refused} images could be learned: see the lines above")
    return {**total, "loss": loss, "refused": refused, "known": len(seen) - total["images"] if seen else 0}


def _refused(lesson: Lesson, error: Exception, args: argparse.Namespace) -> Output:
    """Move a bad image aside, if wanted, and say so."""
    reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
    record = {"image": lesson.name, "error": reason, "moved_to": None}
    what = "left out"
    if args.set_aside is not None and not Path(lesson.name).is_dir():
        try:
            record["moved_to"] = str(move_aside(Path(lesson.name), Path(args.data), args.set_aside))
            what = f"moved to {record['moved_to']}"
        except OSError as moving:
            what = f"left where it is, for it cannot be moved to {args.set_aside} ({moving.strerror})"
    return Output(record, f"{reason}; {what}", error=True)


def _nothing_given(args: argparse.Namespace) -> bool:
    return args.data is None and args.source is None and args.features is None


def _check(args: argparse.Namespace) -> None:
    if args.consolidate is not None and args.one_by_one:
        raise DeviceError(
            f"--consolidate {args.consolidate} learns all at once: leave --one-by-one out, or consolidate afterwards, "
            "without DATA"
        )
    if args.consolidate is not None and args.label is not None and _nothing_given(args):
        raise DeviceError(f"--label {args.label} is for images, and none are given: give DATA, or leave it out")
    if args.features is not None and (args.data, args.source) != (None, None):
        other = args.data or f"--source {shown(args.source)}"
        raise DeviceError(f"--features {args.features} and {other} are given: use one of them")
    if args.source is not None and args.data is None:
        if args.label is None:
            raise DeviceError(f"the class that source {shown(args.source)} shows is unknown: give --label NAME")
        if args.frames is None and not has_end(args.source):
            raise DeviceError(f"source {shown(args.source)} has no end: give --frames N")
    if args.set_aside is None:
        return
    if not args.one_by_one:
        raise DeviceError(f"--set-aside {args.set_aside} is for --one-by-one: give both")
    if args.data is None or args.label is not None or not Path(args.data).is_dir():
        raise DeviceError(
            f"--set-aside {args.set_aside} is for a folder with one folder of images per class, got DATA {args.data}"
            + ("" if args.label is None else f" --label {args.label}")
        )
    if Path(args.data).resolve() in (args.set_aside.resolve(), *args.set_aside.resolve().parents):
        raise DeviceError(f"--set-aside {args.set_aside} is in DATA {args.data}: give a folder outside it")


def _confirm_new(args: argparse.Namespace, device: Device) -> None:
    """Make sure that a new class is meant: a typing error would take a slot."""
    if args.new or known_name(args.label, device.classes) in device.classes:
        return
    device.check_class(args.label)
    near = nearest(args.label, device.classes)
    known = f"known are {', '.join(device.classes) or 'none'}" + (f"; do you mean {near!r}?" if near else "")
    if args.data != STANDARD_INPUT and not args.json and is_terminal(sys.stdin) and is_terminal(sys.stderr):
        if ask(f"class {args.label!r} is new ({known}). Learn it as a new class?"):
            return
        raise DeviceError(f"class {args.label!r} is not learned: give one of the known, or --new")
    raise DeviceError(f"class {args.label!r} is new ({known}): correct --label, or give --new to learn a new class")


def _name(index: int, image: ImageLike) -> str:
    return f"image {index}" if isinstance(image, np.ndarray) else os.fspath(image)


def _images_to_learn(args: argparse.Namespace) -> LabelledImages:
    """Return what is to be learned; a frame is resized at once, so that none is kept at its original size."""
    if args.features is not None:
        data = read_features(args.features, read_bundle(args.bundle))
        return data if args.label is None else data._replace(labels=[args.label] * len(data.images))
    if args.source is None and args.data is not None and args.label is None:
        return read_data(args.data, "train", args.max_memory)
    images = good_images(images_given(args, [] if args.data is None else [args.data], "DATA", "learn"))
    if args.source is None:
        found: list[ImageLike] = list(images)
    else:
        size = read_bundle(args.bundle).image_size
        found = [load_image(frame, size) for frame in images]
    if not found:
        raise DeviceError(f"data {args.data} names no image: give at least one")
    return LabelledImages(found, [args.label] * len(found))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", nargs="?", type=data_argument, help=DATA_HELP)
    parser.add_argument(
        "--features",
        metavar="FILE",
        type=path_argument,
        help="features that another device computed by this bundle's backbone, instead of DATA: an .npz with feature, "
        "label and backbone",
    )
    parser.add_argument(
        "--label",
        metavar="NAME",
        type=name_argument,
        help="class of every image; DATA is then a file, a folder or - (paths), or --source is given",
    )
    parser.add_argument(
        "--new", action="store_true", help="permission for a new class in --label (on a terminal you are asked)"
    )
    add_source(parser, "DATA")
    parser.add_argument(
        "--replay",
        default="statistics",
        help="statistics: half of each batch is drawn from the statistics of every class seen; buffer:N: from N images "
        "kept as features; none: real images only",
    )
    parser.add_argument(
        "--one-by-one",
        action="store_true",
        help="one image at a time, in the order given, as labels arrive on a device in use; no epochs",
    )
    parser.add_argument(
        "--set-aside",
        metavar="DIR",
        type=folder_argument,
        help="folder for what cannot be learned, moved out of DATA (an inbox, with --one-by-one); an image of DATA is "
        "learned once, however often the command is started again",
    )
    parser.add_argument(
        "--save-every", metavar="N", type=int, default=0, help="training steps between two saves; 0: one at the end"
    )
    parser.add_argument("--epochs", type=int, default=DEFAULT_EPOCHS, help="passes over the images")
    parser.add_argument("--learning-rate", type=float, help="Adam's step size (default: the bundle's)")
    parser.add_argument(
        "--consolidate",
        choices=WAYS,
        help="in place of training steps, learn new classes by a second block and compress both into one (residual "
        "heads); without DATA: all classes taught to the device, from their statistics",
    )
    add_following(parser)
    add_jobs(parser)
    add_max_memory(parser)


COMMANDS = (Command("learn", "training on labelled images, and saving of the state", _learn, _add_arguments),)
