"""An inbox: a folder with one folder of images per class, learned one image at a time, each of them once.

What cannot be learned is moved aside. What was learned is remembered in the state, so that a stop at any moment neither
loses an image nor has one learned twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
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

__all__ = ["Lesson", "Reading", "lesson_key", "lessons_in", "move_aside"]

KEY_BYTES = 8
ENDED = 2  # processes at one image: one may have been stopped or lost its power there


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


class Reading:
    """Remembers on disk which image is being read, for a process that ends there: killed for memory, or by a decoder.

    Args:
        folder: where it is kept; nothing is remembered where that cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "reading.json"
        self._ended: dict[str, int] = {}  # how often a process ended at an image
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError, KeyError):  # none, or half written
            found = json.loads(self._file.read_bytes())
            self._ended = {str(name): int(times) for name, times in found["ended"].items()}
            self._ended[found["image"]] = self._ended.get(found["image"], 0) + 1

    def begin(self, name: str) -> None:
        """Say that an image is read from now on; raises DeviceError for one at which two processes ended already."""
        if self._ended.get(name, 0) >= ENDED:
            raise DeviceError(
                f"image {name} ended the process that read it {ENDED} times: make it smaller or remove it"
            )
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps({"image": name, "ended": self._ended}))

    def end(self) -> None:
        """Say that the process goes on, or ends by itself."""
        with contextlib.suppress(OSError):
            self._file.unlink()


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
