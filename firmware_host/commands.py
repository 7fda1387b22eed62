"""The commands: each takes the parsed arguments and yields what to print, as a record for machines and as text."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from firmware_host.bench import bench
from firmware_host.bundle import Bundle, DeviceError, read_bundle
from firmware_host.data import LabelledImages, read_data
from firmware_host.device import Device
from firmware_host.images import ImageLike, load_image
from firmware_host.learner import Progress
from firmware_host.process_memory import peak_memory_mb
from firmware_host.runtime import find_runtime
from firmware_host.selftest import selftest
from firmware_host.sources import NamedImage, frames, good_images, is_one_file, named_images
from firmware_host.state import LearnedState, StateFolder, default_folder
from firmware_host.state_commands import Output, state_record
from firmware_host.terminal import ProgressLine, without_runtime_chatter

__all__ = ["Output", "run_bench", "run_evaluate", "run_info", "run_learn", "run_predict", "run_selftest"]

BAD_IMAGE = 2  # exit code: bad input
REQUIRED = "the following arguments are required: {what} or --source (see python -m firmware_host {command} --help)"


def run_info(args: argparse.Namespace) -> Iterator[Output]:
    """The manifest, and what was learned since."""
    bundle = read_bundle(args.bundle)
    folder = StateFolder(Path(args.state) if args.state is not None else default_folder(bundle.path), bundle)
    learned = folder.read()
    state = None if learned is None else state_record(folder, learned)
    yield Output({**bundle.manifest, "state": state}, _info_text(bundle, folder, learned))


def run_selftest(args: argparse.Namespace) -> Iterator[Output]:
    """Whether this machine computes what the bundle was verified with."""
    bundle, runtime = read_bundle(args.bundle), find_runtime(args.runtime)
    with without_runtime_chatter():
        record = selftest(bundle, runtime, args.threads)
    text = (
        f"{'ok' if record['ok'] else 'FAILED'} ({record['runtime']}): backbone within "
        f"{record['backbone_max_quanta']} quanta of {record['reference']} over {record['images']} images, head within "
        f"{record['head_max_error']} over {record['steps']} training steps"
    )
    if not record["prompts_equal"]:
        text += "; other prompts are chosen"
    if not record["replaced_equal"]:
        text += "; other units are reborn"
    yield Output(record, text, 0 if record["ok"] else 1)


def run_predict(args: argparse.Namespace) -> Iterator[Output]:
    """A line an image, as soon as it is known; a bad image among many has a line of its own and stops no other."""
    images = _images_to_predict(args)
    device = _open_device(args)
    if not device.classes:
        raise DeviceError(f"bundle {args.bundle} knows no class yet: teach it some with learn")
    for name, image in images:
        try:
            if isinstance(image, DeviceError):
                raise image
            pixels = load_image(image, device.bundle.image_size, args.max_memory)  # (H, W, 3)
        except DeviceError as error:
            if args.source is None and is_one_file(args.images):
                raise
            yield Output({"image": name, "error": str(error)}, str(error), BAD_IMAGE, error=True)
            continue
        label, probability, latency_ms = device.predict(pixels)
        record = {"image": name, "label": label, "probability": probability, "latency_ms": latency_ms}
        yield Output(record, f"{name}: {label} ({probability:.1%}, {latency_ms:.2f} ms)")


def run_learn(args: argparse.Namespace) -> Iterator[Output]:
    """Learn the images of DATA and save the state."""
    images, labels = _images_to_learn(args)
    progress = ProgressLine(sys.stderr)
    with _open_device(args) as device:
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


def run_evaluate(args: argparse.Namespace) -> Iterator[Output]:
    """Accuracy on the images of DATA, over all classes known."""
    images, labels = read_data(args.data, "test", args.max_memory)
    device = _open_device(args)
    progress = ProgressLine(sys.stderr)
    try:
        record = device.evaluate(images, labels, progress)
    finally:
        progress.close()
    rows = [f"  {name}: {accuracy:.1%}" for name, accuracy in record["per_class"].items()]
    yield Output(record, "\n".join([f"accuracy {record['accuracy']:.1%} on {record['images']} images", *rows]))


def run_bench(args: argparse.Namespace) -> Iterator[Output]:
    """Milliseconds and memory, in the bundle's start state."""
    bundle, runtime = read_bundle(args.bundle), find_runtime(args.runtime)
    with without_runtime_chatter():
        record = bench(bundle, runtime, args.threads, args.repeat, args.seed or 0)
    memory = "unknown" if record["peak_memory_mb"] is None else f"{record['peak_memory_mb']:.0f} MiB"
    text = (
        f"{record['runtime']}, {record['threads']} thread(s), median of {record['repeat']}: "
        f"predict {record['predict_ms']:.2f} ms (backbone {record['backbone_ms']:.2f} ms), "
        f"training step {record['train_ms']:.2f} ms; peak memory {memory}"
    )
    yield Output(record, text)


def _images_to_predict(args: argparse.Namespace) -> Iterator[NamedImage]:
    if args.source is None:
        if not args.images:
            raise DeviceError(REQUIRED.format(what="IMAGE", command="predict"))
        return named_images(args.images)
    if args.images:
        raise DeviceError(f"IMAGE {args.images[0]} and --source {args.source} are given: use one of them")
    return frames(args.source, args.every, args.frames, args.max_memory)


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


def _open_device(args: argparse.Namespace) -> Device:
    with without_runtime_chatter():
        device = Device.open(args.bundle, args.state, args.runtime, args.threads, args.seed)
    device.max_memory_mb = args.max_memory
    return device


def _info_text(bundle: Bundle, folder: StateFolder, learned: LearnedState | None) -> str:
    head, shapes, dtypes = bundle.head, bundle.manifest["shapes"], bundle.manifest["dtypes"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(bundle.manifest["versions"].items()))
    lines = [
        f"{bundle.name} ({bundle.recipe}), identity {bundle.identity[:12]}, schema version "
        f"{bundle.manifest['schema_version']}, made by {versions or 'unknown versions'}",
        f"classes: {len(bundle.classes)} of {bundle.slots} slots: {', '.join(bundle.classes)}",
        *(f"{name}: {dtypes[name]} {shapes[name]}" for name in ("image", "feature", "prompt")),
        f"head: {head['block']}, {head['units']} units, batch {head['batch']}, learning rate {head['learning_rate']}",
        f"continual backpropagation: decay {head['decay_rate']}, replacement rate {head['replacement_rate']}, "
        f"maturity {head['maturity_threshold']}",
        *(f"{name}: {bundle.file(name).stat().st_size:,} bytes" for name in bundle.files),
    ]
    if learned is None:
        lines.append(f"state: nothing learned yet in {folder.path}")
    else:
        record = state_record(folder, learned)
        new = [name for name in learned.classes if name not in bundle.classes]
        lines.append(
            f"state: {record['images']} images and {record['steps']} steps in {folder.path}; "
            f"new classes: {', '.join(new) or 'none'}"
        )
    return "\n".join(lines)
