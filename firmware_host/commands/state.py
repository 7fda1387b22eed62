"""`python -m firmware_host state BUNDLE [ACTION]`: what was learned, shown, kept elsewhere, compared, brought back."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from firmware_host.bundle import Bundle, DeviceError, read_bundle
from firmware_host.commands.common import Command, Output
from firmware_host.shared.files import write_atomically
from firmware_host.state import Snapshot, StateFolder, default_folder, read_file, snapshot_for, to_bytes

__all__ = ["COMMANDS", "state_record"]

ACTIONS = ("show", "export", "import", "diff", "reset")
WITH_FILE = ("export", "import", "diff")


def _state(args: argparse.Namespace) -> Iterator[Output]:
    """Show, export, import, compare or reset what was learned."""
    if args.bundle in ACTIONS and args.action not in ACTIONS:  # `state export BUNDLE FILE` is meant as well
        args.bundle, args.action = args.action, args.bundle
    action, file = args.action, args.file
    if action not in ACTIONS:
        raise DeviceError(f"state has no action {action!r}: use one of {', '.join(ACTIONS)}")
    if args.bundle is None or (file is None) != (action not in WITH_FILE):
        raise DeviceError(f"state {action}: write `state BUNDLE {action}{' FILE' * (action in WITH_FILE)}`")
    bundle = read_bundle(args.bundle)
    folder = StateFolder(Path(args.state) if args.state is not None else default_folder(bundle.path), bundle)
    try:
        yield {"show": _show, "export": _export, "import": _import, "diff": _diff, "reset": _reset}[action](
            folder, bundle, None if file is None else Path(file)
        )
    finally:
        folder.close()


def state_record(folder: StateFolder, learned: Snapshot) -> dict[str, Any]:
    """Return what there is to say of a state that was just read from `folder`."""
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


def _show(folder: StateFolder, bundle: Bundle, _: Path | None) -> Output:
    learned = folder.read()
    if learned is None:
        return Output({"path": str(folder.path), "classes": None}, f"nothing learned yet in {folder.path}")
    record = state_record(folder, learned)
    counts = learned.statistics.count
    record["images_per_class"] = {name: int(counts[slot]) for slot, name in enumerate(learned.classes)}
    rows = [f"  {name}: {count} images" for name, count in record["images_per_class"].items()]
    text = (
        f"{record['images']} images, {record['steps']} steps ({record['rolled_back']} taken back), "
        f"{record['buffer']} images kept for replay, in {folder.path}; save {record['saves']}, "
        f"{record['bytes_written_per_hour']:,.0f} bytes written per hour"
    )
    return Output(record, "\n".join([text, *rows]))


def _export(folder: StateFolder, bundle: Bundle, file: Path | None) -> Output:
    file = _given(file)
    learned = _learned(folder)
    if file.exists():
        raise DeviceError(f"{file} exists: give another file, nothing is overwritten")
    if not file.parent.is_dir():
        raise DeviceError(f"folder {file.parent} does not exist: make it first")
    content = to_bytes(learned, bundle, folder.generation)
    write_atomically(file, content)
    record = {"file": str(file), "bytes": len(content), **state_record(folder, learned)}
    return Output(record, f"exported to {file} ({len(content):,} bytes)")


def _import(folder: StateFolder, bundle: Bundle, file: Path | None) -> Output:
    file = _given(file)
    learned = snapshot_for(bundle, read_file(file))
    path = folder.replace(learned)
    record = {"file": str(file), **state_record(folder, learned)}
    return Output(record, f"imported {file} into {path}; what was there before is kept beside it")


def _diff(folder: StateFolder, bundle: Bundle, file: Path | None) -> Output:
    file = _given(file)
    here = _learned(folder)
    there = snapshot_for(bundle, read_file(file))
    images = {}
    for name in dict.fromkeys([*here.classes, *there.classes]):
        counts = [int(s.statistics.count[s.classes.index(name)]) if name in s.classes else None for s in (here, there)]
        if counts[0] != counts[1]:
            images[name] = counts
    both = [name for name in here.head if name in there.head]
    tensors = {name: float(np.abs(here.head[name] - there.head[name]).max(initial=0)) for name in both}
    record: dict[str, Any] = {
        "file": str(file),
        "equal": not images and not any(tensors.values()) and here.generator == there.generator,
        "images": images,
        "steps": [here.steps, there.steps],
        "max_difference": {name: value for name, value in tensors.items() if value},
    }
    shown = [f"  {name}: {a if a is not None else '-'} images here, {b if b is not None else '-'} there"
             for name, (a, b) in images.items()]  # fmt: skip
    shown += [f"  {name}: differs by up to {value:.3g}" for name, value in record["max_difference"].items()]
    head = "equal" if record["equal"] else f"different: {record['steps'][0]} steps here, {record['steps'][1]} there"
    return Output(record, "\n".join([head, *shown]))


def _reset(folder: StateFolder, bundle: Bundle, _: Path | None) -> Output:
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


def _given(file: Path | None) -> Path:
    if file is None:  # _state has seen to it
        raise DeviceError("no FILE: give one")
    return file


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", nargs="?", default="show", help="action: " + ", ".join(ACTIONS))
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="file of export, import and diff: a state kept elsewhere"
    )


COMMANDS = (
    Command("state", "display, export, import, comparison or reset of what was learned", _state, _add_arguments),
)
