"""Labelled images on disk: a folder with one folder per class, paths on standard input, or `npz:PATH`."""

from __future__ import annotations

import codecs
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Optional

from firmware_host.bundle import DeviceError
from firmware_host.images import ImageLike
from firmware_host.process_memory import check_fits
from firmware_host.shared.folders import class_files, describe, find_layout
from firmware_host.shared.kinds import archive
from firmware_host.shared.names import class_name, distinct_names
from firmware_host.shared.npz import read_npz
from firmware_host.shared.sensors.csi_npz import read_csi_npz

__all__ = ["STANDARD_INPUT", "LabelledImages", "read_data", "standard_input_paths"]

LAYOUT = "give a folder with one folder of images per class, or npz:PATH"
STANDARD_INPUT = "-"
LONGEST_LINE = 1 << 16  # bytes; what comes without line ends is not a path and not kept in memory


class LabelledImages(NamedTuple):
    """Images (paths or uint8 arrays [h, w, 3]), the class name of each, and what of the data is not used."""

    images: list[ImageLike]
    labels: list[str]
    notes: tuple[str, ...] = ()

    def describe(self, source: str) -> str:
        """Return a line that says how many images of which classes were found in `source`."""
        return describe(f"data {source}", dict(Counter(self.labels)), self.notes)


def read_data(source: str, split: str, max_memory_mb: Optional[float] = None) -> LabelledImages:
    """Read the images that DATA on the command line names; files are listed, not opened.

    Args:
        source: a folder with one folder per class or with train/ and test/ (or val/) folders of such, `-` for paths on
            standard input, each in a folder named after its class, `npz:PATH` with x_train, y_train, x_test, y_test
            (x uint8 [N, h, w, 3], y integer [N]) and class_names, or `csi:PATH`, a folder or an .npz of recordings;
            `folder:PATH` and `series:PATH` are that folder.
        split: `train` or `test`; which part to take where there are two.
        max_memory_mb: limit of the whole process in MiB, which the arrays of an .npz are checked against; None: none.

    Raises:
        DeviceError: for no classes, a class without images, a folder that can be read in two ways or not at all, an
            invalid name, or an .npz file that lacks these arrays or is too large.
    """
    if source.startswith("npz:"):
        return _read_npz(Path(source[len("npz:") :]), split, max_memory_mb)
    form, _, path = source.partition(":")
    if form in ("folder", "csi", "series") and path:
        if form == "csi" and Path(path).is_file():
            return _read_csi_npz(Path(path), split, max_memory_mb)
        source = path
    if source == STANDARD_INPUT:
        return _read_listing(standard_input_paths())
    root = Path(source)
    if not root.is_dir():
        if root.suffix.lower() != ".npz" and (kind := archive(root)):
            raise DeviceError(f"data {source} is {kind.what}: {kind.remedy}")
        raise DeviceError(f"data {source} is not a folder: {LAYOUT}")
    return _read_folder(root, split)


def standard_input_paths() -> Iterator[str]:
    """Yield the paths on standard input, one per line, as they come; raises DeviceError when it cannot be read."""
    if sys.stdin is None:
        raise DeviceError("standard input is closed: write paths into it, one per line, or give files")
    for number, line in enumerate(iter(_line_of_input, b"")):
        if number == 0:
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise DeviceError("standard input is UTF-16 text: write the list of paths as UTF-8")
            line = line[len(codecs.BOM_UTF8) :] if line.startswith(codecs.BOM_UTF8) else line
        if b"\0" in line:
            raise DeviceError("standard input holds zero bytes: write one path per line (find -print, not -print0)")
        path = os.fsdecode(line.rstrip(b"\r\n"))
        if path:
            yield path


def _line_of_input() -> bytes:
    try:
        return sys.stdin.buffer.readline(LONGEST_LINE)
    except OSError as error:  # open for writing alone, a terminal that is gone
        reason = error.strerror or str(error)
        raise DeviceError(f"standard input cannot be read ({reason}): write paths into it, or give files") from None


def _read_listing(listing: Iterator[str]) -> LabelledImages:
    images: list[ImageLike] = []
    labels: list[str] = []
    names: dict[str, str] = {}  # of classes, in their normal form by the folder's name
    for name in listing:
        path = Path(name)
        if not path.parent.name:
            raise DeviceError(
                f"path {name} on standard input names no class: give FOLDER/IMAGE, the folder is the class"
            )
        images.append(path)
        labels.append(names.setdefault(path.parent.name, class_name(path.parent.name)))
    distinct_names(dict.fromkeys(labels))
    if not images:
        raise DeviceError("data - : standard input holds no path: give one per line, FOLDER/IMAGE")
    return LabelledImages(images, labels)


def _read_folder(root: Path, split: str) -> LabelledImages:
    layout = find_layout(root)
    if layout.parts and split not in layout.parts:
        raise DeviceError(f"data {layout.root} has no folder {split}: add it, or {LAYOUT}")
    files = class_files(layout.parts.get(split, layout.root))
    images: list[ImageLike] = [file for members in files.values() for file in members]
    labels = [name for name, members in files.items() for _ in members]
    return LabelledImages(images, labels, layout.notes)


def _read_npz(path: Path, split: str, max_memory_mb: float | None) -> LabelledImages:
    found = read_npz(path, (split,), _checks(path, max_memory_mb))
    return LabelledImages(list(found.x[split]), [found.names[label] for label in found.y[split]])


def _read_csi_npz(path: Path, split: str, max_memory_mb: float | None) -> LabelledImages:
    found = read_csi_npz(path, _checks(path, max_memory_mb))
    rows = (found.tests == (split == "test")).nonzero()[0]
    return LabelledImages(list(found.x[rows]), [found.names[label] for label in found.y[rows]])


def _checks(path: Path, max_memory_mb: float | None) -> Callable[[int], None]:
    """Return what refuses so many bytes, where the memory is limited."""

    def check_size(size: int) -> None:
        if max_memory_mb is not None:
            check_fits(f"data {path}", size, max_memory_mb)

    return check_size
