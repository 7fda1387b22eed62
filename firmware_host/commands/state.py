"""`python -m firmware_host state BUNDLE [ACTION]`: what was learned, shown, kept, exchanged, compared, changed."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from firmware_host.bundle import Bundle, DeviceError
from firmware_host.commands.common import Command, Output, bundle_of, open_device
from firmware_host.commands.comparison import compared
from firmware_host.device import Device
from firmware_host.engines.find import find_runtime
from firmware_host.fleet.moved import imported, with_peers
from firmware_host.fleet.own import APART, MIN_IMAGES
from firmware_host.learning.start import bundle_snapshot, start_head
from firmware_host.shared.arguments import given_path, new_file_argument
from firmware_host.shared.files import write_atomically
from firmware_host.shared.names import known_name
from firmware_host.state import (
    Snapshot,
    StateFolder,
    from_board,
    is_of_board,
    read_file,
    snapshot_for,
    state_path,
    to_board,
    to_bytes,
)
from firmware_host.terminal import without_runtime_chatter

__all__ = ["COMMANDS", "state_record"]

MICRO = "micro"
ACTIONS = {  # what follows BUNDLE and the action
    "show": (),
    "export": ("FILE",),
    "import": ("FILE",),
    "diff": ("FILE",),
    "reset": (),
    "forget": ("NAME",),
    "rename": ("OLD", "NEW"),
    "moved": (),
    "undo": (),
    "merge": ("FILE", "FILE", "..."),
}


def _state(args: argparse.Namespace) -> Iterator[Output]:
    """Show, export, import, compare, reset or change what was learned."""
    words = [str(args.bundle), *(args.action or ["show"])]
    if words[0] in ACTIONS and words[1] not in ACTIONS:  # `state export BUNDLE FILE` is meant as well
        words[:2] = words[1::-1]
    path, action, given = words[0], words[1], words[2:]
    if action not in ACTIONS:
        raise DeviceError(f"state has no action {action!r}: use one of {', '.join(ACTIONS)}")
    if path in ACTIONS or not _fits(given, ACTIONS[action]):
        raise DeviceError(f"state {action}: write `state {' '.join(('BUNDLE', action, *ACTIONS[action]))}`")
    args.bundle = given_path(path, "BUNDLE")
    if (args.output is not None) != (action == "merge"):
        raise DeviceError(
            "--output FILE is for state merge, which needs it: write `state BUNDLE merge FILE FILE ... -o FILE`"
        )
    if action in CHANGES:
        yield CHANGES[action](args, *given)
        return
    bundle = bundle_of(args)
    folder = StateFolder(state_path(bundle.path, args.state), bundle)
    keep = _export_board if (action, args.format) == ("export", MICRO) else KEPT[action]
    try:
        yield keep(folder, bundle, *(given_path(file, "FILE") for file in given))
    finally:
        folder.close()


def _fits(given: Sequence[str], wanted: Sequence[str]) -> bool:
    """Return whether so many words are given; `...` stands for any number more."""
    return len(given) == len(wanted) if wanted[-1:] != ("...",) else len(given) >= len(wanted) - 1


def state_record(folder: StateFolder, learned: Snapshot) -> dict[str, Any]:
    """Return what is printed of a state that was just read from `folder`."""
    return {
        "path": str(folder.path),
        "classes": list(learned.classes),
        "images": int(learned.statistics.count.sum()),
        "steps": learned.steps,
        "rolled_back": learned.rolled_back,
        "buffer": 0 if learned.buffer is None else len(learned.buffer.label),
        "saves": folder.generation,
        "bytes_written_per_hour": folder.bytes_per_hour,
    }


def _show(folder: StateFolder, bundle: Bundle) -> Output:
    learned = folder.read()
    if learned is None:
        return Output({"path": str(folder.path), "classes": None}, f"nothing learned yet in {folder.path}")
    record = state_record(folder, learned)
    counts = learned.statistics.count
    record["images_per_class"] = {name: int(counts[slot]) for slot, name in enumerate(learned.classes)}
    record["groups"] = [] if learned.unknowns is None else learned.unknowns.records()
    rows = [f"  {name}: {count} images" for name, count in record["images_per_class"].items()]
    rows += [f"  group {each['group']}, unknown: {each['images']} images alike" for each in record["groups"]]
    text = (
        f"{record['images']} images, {record['steps']} steps ({record['rolled_back']} rolled back), "
        f"{record['buffer']} images kept for replay, in {folder.path}; save {record['saves']}, "
        f"{record['bytes_written_per_hour']:,.0f} bytes written per hour"
    )
    return Output(record, "\n".join([text, *rows]))


def _export(folder: StateFolder, bundle: Bundle, file: Path) -> Output:
    learned = _learned(folder)
    content = to_bytes(with_peers(learned, folder.path, bundle), bundle, folder.generation)
    return _written(file, content, state_record(folder, learned))


def _export_board(folder: StateFolder, bundle: Bundle, file: Path) -> Output:
    known = _known(folder, bundle)
    return _written(file, to_board(known, bundle), state_record(folder, known))


def _written(file: Path, content: bytes, record: dict[str, Any]) -> Output:
    """Write a new file."""
    if file.exists():
        raise DeviceError(f"{file} exists: give another file, nothing is overwritten")
    if not file.parent.is_dir():
        raise DeviceError(f"folder {file.parent} does not exist: make it first")
    write_atomically(file, content)
    record = {"file": str(file), "bytes": len(content), **record}
    return Output(record, f"exported to {file} ({len(content):,} bytes)")


def _import(folder: StateFolder, bundle: Bundle, file: Path) -> Output:
    if is_of_board(file):
        learned = from_board(file.read_bytes(), bundle, _known(folder, bundle))
    else:
        read = read_file(file)
        learned = imported(bundle, snapshot_for(bundle, read), read.generation)
    path = folder.replace(learned)
    record = {"file": str(file), **state_record(folder, learned)}
    return Output(record, f"imported {file} into {path}; what was there before is kept beside it")


def _diff(folder: StateFolder, bundle: Bundle, file: Path) -> Output:
    return compared(_learned(folder), snapshot_for(bundle, read_file(file)), file)


def _reset(folder: StateFolder, bundle: Bundle) -> Output:
    if not folder.path.is_dir():
        raise DeviceError(f"nothing learned yet in {folder.path}: there is nothing to reset")
    kept = [str(path) for path in folder.reset()]
    return Output(
        {"path": str(folder.path), "kept": kept}, f"back to the bundle; kept as {', '.join(kept) or 'nothing'}"
    )


def _learned(folder: StateFolder) -> Snapshot:
    learned = folder.read()
    if learned is None:
        raise DeviceError(f"nothing learned yet in {folder.path}: give the right --state, or learn first")
    return learned


def _known(folder: StateFolder, bundle: Bundle) -> Snapshot:
    """Return what is known, whole: what was learned, or what the bundle came with."""
    start = bundle_snapshot(bundle)
    return (folder.read() or start).completed(start.head, bundle.bank())


def _forget(args: argparse.Namespace, name: str) -> Output:
    def change(device: Device) -> str:
        device.forget_class(known_name(name, device.classes))
        return f"forgot {name!r}"

    return _changed(args, change)


def _rename(args: argparse.Namespace, old: str, new: str) -> Output:
    def change(device: Device) -> str:
        device.rename_class(known_name(old, device.classes), new)
        return f"renamed {old!r} to {new!r}"

    return _changed(args, change)


def _moved(args: argparse.Namespace) -> Output:
    def change(device: Device) -> str:
        device.forget_looks()
        return "forgot what the classes look like, show each of them again"

    return _changed(args, change)


def _undo(args: argparse.Namespace) -> Output:
    def change(device: Device) -> str:
        device.undo()
        return "took the last lesson back"

    return _changed(args, change)


def _merge(args: argparse.Namespace, *files: str) -> Output:
    from firmware_host.fleet.files import merge_files

    bundle = bundle_of(args)
    if args.output.exists():
        raise DeviceError(f"{args.output} exists: give another file, nothing is overwritten")
    with without_runtime_chatter():
        head = start_head(bundle, find_runtime(args.runtime, args.recipe), args.threads)
    found = merge_files(bundle, head, [given_path(file, "FILE") for file in files], args.min_images, args.noise)
    write_atomically(args.output, found.content)
    counts = found.merged.statistics.count
    record: dict[str, Any] = {
        "file": str(args.output),
        "bytes": len(found.content),
        "devices": {device: delta.version for device, delta in found.deltas.items()},
        "classes": list(found.merged.classes),
        "images": int(sum(delta.images for delta in found.deltas.values())),
        "images_per_class": {name: int(counts[slot]) for slot, name in enumerate(found.merged.classes)},
        "steps": found.steps,
        "left_out": list(found.merged.left_out),
        "withheld": found.withheld,
    }
    text = (
        f"{record['images']} images that {len(found.deltas)} devices were taught, {len(record['classes'])} classes, "
        f"{found.steps} training steps: {args.output} ({record['bytes']:,} bytes)"
    )
    lines = [f"  {file}: fewer than {args.min_images} images of {', '.join(few)}, left out"
             for file, few in found.withheld.items()]  # fmt: skip
    if record["left_out"]:
        lines.append(f"  no slot is left for {', '.join(record['left_out'])}: convert the run again with more --slots")
    return Output(record, "\n".join([text, *lines]))


def _changed(args: argparse.Namespace, change: Callable[[Device], str]) -> Output:
    """Change what the device knows and save it."""
    args.max_memory = None
    with open_device(args) as device:
        done = change(device)
        saved = device.save()
        spare = device.bundle.slots - len(device.classes)
        record = {"path": str(saved.parent), "classes": list(device.classes), "spare_slots": spare}
        known = ", ".join(device.classes) or "none"
    return Output(
        record, f"{done}; saved in {saved}; classes now: {known}; {spare} of {device.bundle.slots} slots are free"
    )


KEPT: dict[str, Callable[..., Output]] = {
    "show": _show, "export": _export, "import": _import, "diff": _diff, "reset": _reset
}  # fmt: skip
CHANGES: dict[str, Callable[..., Output]] = {  # they need an interpreter
    "forget": _forget, "rename": _rename, "moved": _moved, "undo": _undo, "merge": _merge
}  # fmt: skip


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        metavar="ACTION",
        nargs="*",
        help="action: "
        + "; ".join(" ".join((action, *words)) for action, words in ACTIONS.items())
        + " (FILE: a state kept elsewhere; NAME, OLD, NEW: classes; undo: takes the last learn, calibrate or change "
        "back; moved: of a sensor that was moved, keeps names and forgets looks; merge: what several devices learned, "
        "into --output; default: show)",
    )
    parser.add_argument("-o", "--output", metavar="FILE", type=new_file_argument, help="file to write, of merge")
    parser.add_argument(
        "--min-images",
        metavar="N",
        type=int,
        default=MIN_IMAGES,
        help=f"images of a class from which merge takes it from a device, 1 to {APART}",
    )
    parser.add_argument(
        "--noise",
        metavar="X",
        type=float,
        default=0.0,
        help="deviation of Gaussian noise on what merge takes, in deviations of the features within a class; 0: none",
    )
    parser.add_argument(
        "--format",
        choices=("state", MICRO),
        default="state",
        help="form of an export: micro is what the firmware of --target micro imports; import tells them apart",
    )


COMMANDS = (
    Command(
        "state", "display, export, import, comparison, reset or change of what was learned", _state, _add_arguments
    ),
)
