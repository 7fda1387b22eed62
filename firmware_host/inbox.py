"""An inbox: a folder with one folder of images per class, learned one image at a time, each of them once.

What cannot be learned is moved aside. What was learned is remembered in the state, so that a stop at any moment neither
loses an image nor has one learned twice.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from firmware_host.bundle import DeviceError
from firmware_host.images import ImageLike
from firmware_host.shared.files import sha256_of_file, sync_folder
from firmware_host.shared.folders import image_files, listed
from firmware_host.shared.names import class_name

__all__ = ["Lesson", "lesson_key", "lessons_in", "move_aside"]

KEY_BYTES = 8


class Lesson(NamedTuple):
    """One image with the name of its class; or why there is no lesson in it."""

    name: str
    image: ImageLike
    label: str
    error: Optional[DeviceError] = None


def lessons_in(root: Path) -> Iterator[Lesson]:
    """Yield what an inbox holds, in the order of the names; what cannot be listed stops nothing.

    Raises:
        DeviceError: where there is no such folder.
    """
    found = listed(root)
    for name in found.files:
        error = DeviceError(f"image {root / name} names no class: put it into a folder named after its class")
        yield Lesson(str(root / name), root / name, "", error)
    for name in found.folders:
        try:
            label, files = class_name(name), list(image_files(root / name))
        except DeviceError as error:
            yield Lesson(str(root / name), root / name, "", error)
            continue
        yield from (Lesson(str(file), file, label) for file in files)


def lesson_key(file: Path, root: Path) -> int | None:
    """Return a number that tells a file of an inbox from every other: its place, time and content; None for no file.

    It stays the same when the inbox is renamed.
    """
    if not file.is_file():
        return None
    words = (str(file.relative_to(root)), str(file.stat().st_mtime_ns), sha256_of_file(file))
    digest = hashlib.sha256("\n".join(words).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:KEY_BYTES], "big")


def move_aside(path: Path, root: Path, place: Path) -> Path:
    """Move a file of the inbox `root` to the same place under `place`, where nothing is overwritten; return where to.

    Raises:
        OSError: it cannot be moved.
    """
    target = place / path.relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    while os.path.lexists(target):
        number += 1
        target = target.with_name(f"{path.stem}-{number}{path.suffix}")
    shutil.move(os.fspath(path), os.fspath(target))
    sync_folder(target.parent)
    return target
