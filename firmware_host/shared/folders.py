"""Folders of images: what lies in them, which folders are classes, and which are parts (train and test) of them.

What cannot be listed, or can be read in two ways, is refused: nothing is left out in silence.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from firmware_host.shared.errors import DeviceError
from firmware_host.shared.litter import is_litter
from firmware_host.shared.names import class_name, distinct_names

__all__ = ["IMAGES", "Layout", "class_files", "describe", "find_layout", "image_files", "is_part", "listed"]

PARTS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}
IMAGES = tuple(
    ".jpg .jpeg .jpe .jfif .jp2 .j2k .jpx .mpo .png .apng .webp .avif .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm "
    ".heic .heif".split()
)
SHOWN = 8  # names in a message
Identity = tuple[int, int]  # of a folder: device and inode


class Listed(NamedTuple):
    """The names in a folder that count, sorted: of folders (or links to some) and of everything else."""

    folders: list[str]
    files: list[str]

    def ending(self, suffixes: Sequence[str]) -> list[str]:
        """Return the files that have one of these suffixes."""
        return [name for name in self.files if name.lower().endswith(tuple(suffixes))]


class Layout(NamedTuple):
    """How a folder of images is laid out.

    Args:
        root: where the class folders lie, or the parts.
        parts: the folders of the parts by `train` and `test`; empty where the data are not split.
        notes: what is there and not used.
    """

    root: Path
    parts: dict[str, Path]
    notes: tuple[str, ...]


def listed(folder: str | os.PathLike[str]) -> Listed:
    """List a folder without what other programs left in it.

    Raises:
        DeviceError: for a folder that cannot be read, and for a photo of which iCloud left a placeholder alone.
    """
    found = Listed([], [])
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith(".") and entry.name.endswith(".icloud"):
                    raise DeviceError(f"image {entry.path} is a placeholder: download the photo from iCloud first")
                is_folder = _is_folder(entry)
                if not is_litter(entry.name, is_folder):
                    (found.folders if is_folder else found.files).append(entry.name)
    except OSError as error:
        raise DeviceError(
            f"folder {os.fspath(folder)} cannot be read ({error.strerror}): check that it may be"
        ) from None
    return found


def image_files(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the files in `folder` and its folders, sorted; one folder's names are held at a time.

    Links to folders are followed, each folder is visited once. A link that leads nowhere is yielded: whoever opens it
    says so.

    Raises:
        DeviceError: as `listed`.
    """
    start = Path(folder).resolve()
    seen = {_identity(each) for each in (start, *start.parents)}  # a link to one of these leads in circles
    yield from _walk(Path(folder), seen)


def _walk(folder: Path, seen: set[Identity]) -> Iterator[Path]:
    found = listed(folder)
    folders = set(found.folders)
    for name in sorted((*found.folders, *found.files)):
        path = folder / name
        if name not in folders:
            yield path
        elif (identity := _identity(path)) not in seen:
            seen.add(identity)
            yield from _walk(path, seen)


def class_files(root: Path, kind: str = "class") -> dict[str, list[str]]:
    """Return the files of each class folder in `root` by its name, both sorted; one name in two forms is one class.

    Raises:
        DeviceError: as `listed` and `distinct_names`, for a class without images and where there is no class.
    """
    folders: dict[str, list[str]] = {}
    found = listed(root).folders
    try:
        for name in found:
            folders.setdefault(class_name(name, kind), []).append(name)
        distinct_names(folders, kind)
    except DeviceError as error:
        raise DeviceError(f"{root}: {error}") from None
    if not folders:
        raise DeviceError(f"folder {root} has no classes: put the images of each class in a separate folder there")
    files = {}
    for name in sorted(folders):
        files[name] = [os.fspath(file) for each in folders[name] for file in image_files(root / each)]
        if not files[name]:
            raise DeviceError(f"class folder {root / folders[name][0]} has no images: add some or remove the folder")
    return files


def is_part(name: str) -> bool:
    """Return whether a folder of this name is a part of the data, such as train or Validation."""
    return name.casefold() in PARTS


def find_layout(root: Path, levels: int = 1, suffixes: Sequence[str] = IMAGES) -> Layout:
    """Find where the class folders of `root` lie, and whether they are split into parts.

    Args:
        root: a folder with `levels` of folders above the images (classes; or domains and classes), with the parts
            train/ and test/ (or val/) of such in any spelling, or with one folder that holds such parts.
        levels: 1 or 2.
        suffixes: of the files that the data are made of.

    Raises:
        DeviceError: where two readings are possible, one line that says which.
    """
    found = listed(root)
    inside = {name: listed(root / name) for name in found.folders}
    parts: dict[str, list[str]] = {}
    for name in found.folders:
        if is_part(name):
            parts.setdefault(PARTS[name.casefold()], []).append(name)
    others = [name for name in found.folders if not is_part(name)]
    split = [name for names in parts.values() for name in names if inside[name].folders]
    if split and not others:
        return _split_layout(root, parts, inside, levels, suffixes)
    if split and not all(inside[name].ending(suffixes) for name in split):
        raise DeviceError(
            f"{root / split[0]} looks like a part of the data, but other folders lie beside it ({_some(others)}): give "
            f"{root / split[0]} alone, or move what is not a class elsewhere"
        )
    if parts and not others:
        flat = [name for name in found.folders if inside[name].ending(suffixes)]
        if flat:
            raise DeviceError(
                f"{root / flat[0]} looks like a part of the data, but holds images and no class folders: put the "
                "images of each class in a separate folder there"
            )
    if len(found.folders) == 1 and not inside[found.folders[0]].ending(suffixes) and inside[found.folders[0]].folders:
        inner = root / found.folders[0]
        if any(map(is_part, inside[inner.name].folders)):
            return find_layout(inner, levels, suffixes)
    if levels == 1:
        _check_classes(root, inside)
    if len({_part_in(name) for name in inside} - {""}) > 1 and all(map(_part_in, inside)) and _hold_folders(inside):
        raise DeviceError(
            f"{_some(inside)} of {root} look like the parts of a split: name them train and test, with a folder of "
            "images for each class directly in each"
        )
    return Layout(root, {}, _loose(found))


def describe(source: str, files: dict[str, int], notes: Sequence[str] = ()) -> str:
    """Return a line about data: where they are from, how many images of which classes, and what is not used."""
    images, classes = sum(files.values()), len(files)
    line = f"{source}: {images} image{'s' * (images != 1)} of {classes} class{'es' * (classes != 1)} ({_some(files)})"
    return "; ".join((line, *notes))


def _split_layout(
    root: Path, parts: dict[str, list[str]], inside: dict[str, Listed], levels: int, suffixes: Sequence[str]
) -> Layout:
    notes = list(_loose(listed(root)))
    for names in parts.values():
        if len(names) > 1:
            raise DeviceError(f"{root} holds {' and '.join(names)}, two folders for one part: merge them")
        if inside[names[0]].ending(suffixes):
            raise DeviceError(
                f"{root / names[0]} looks like a part of the data, but holds images and not only class folders: move "
                "each into the folder of its class"
            )
        if levels == 1:
            _check_classes(root / names[0], {name: listed(root / names[0] / name) for name in inside[names[0]].folders})
    if "val" in parts:
        if "test" in parts:
            notes.append(f"{root / parts['val'][0]} is not used")
        else:
            parts = {**parts, "test": parts["val"]}
    return Layout(root, {part: root / parts[part][0] for part in ("train", "test") if part in parts}, tuple(notes))


def _check_classes(root: Path, inside: dict[str, Listed]) -> None:
    """Refuse folders that are not classes: each holds folders alone, one of them, or all the same ones."""
    if not inside or not _hold_folders(inside):
        return
    names, below = list(inside), next(iter(inside.values())).folders
    if len(names) == 1:
        raise DeviceError(
            f"{root} holds one folder, {names[0]}, and that holds folders ({_some(below)}): give {root / names[0]} if "
            f"those are the classes, or put the images of class {names[0]} directly into its folder"
        )
    if len(names) > 1 and len(below) > 1 and all(each.folders == below for each in inside.values()):
        raise DeviceError(
            f"the folders {_some(names)} of {root} all hold the same folders ({_some(below)}): give a folder whose "
            "folders are the classes, with their images directly in them (or train with domains:PATH)"
        )


def _hold_folders(inside: dict[str, Listed]) -> bool:
    return all(each.folders and not each.files for each in inside.values())


def _part_in(name: str) -> str:
    """Return the part that a word in a folder's name means, as in seg_train or Test-Images; empty for none."""
    return next((PARTS[word] for word in re.split(r"[^a-z]+", name.casefold()) if word in PARTS), "")


def _loose(found: Listed) -> tuple[str, ...]:
    count = len(found.files)
    return (f"{count} file{'s' * (count > 1)} beside the folders not used ({_some(found.files)})",) if count else ()


def _some(names: Iterable[str]) -> str:
    """Return the first names in a line, and how many more there are."""
    every = list(names)
    return ", ".join(every[:SHOWN]) + (f" and {len(every) - SHOWN} more" if len(every) > SHOWN else "")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in circles, or to where we may not look: whoever opens it says so
        return False


def _identity(folder: Path) -> Identity:
    try:
        status = folder.stat()
    except OSError as error:
        raise DeviceError(f"folder {folder} cannot be read ({error.strerror}): check that it may be") from None
    return status.st_dev, status.st_ino
