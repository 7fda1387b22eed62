"""Data sets on disk: where downloads lie, folders and lists, with one clear line for what is missing."""

from __future__ import annotations

import os
from pathlib import Path

from keras_cbpnet.errors import UserError

__all__ = [
    "datasets_folder",
    "has_parts",
    "image_files",
    "read_lines",
    "require_download",
    "require_folder",
    "subfolders",
]

NOT_IMAGES = frozenset({"desktop.ini", "thumbs.db"})  # what file managers leave behind, besides hidden files


def datasets_folder() -> Path:
    """Returns the folder Keras keeps data sets in."""
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "datasets"


def require_download(root: Path, name: str, url: str) -> None:
    """Raises `UserError`, which says what to download and where to unpack it, unless the folder `root` is there."""
    if not root.is_dir():
        raise UserError(f"{name} is not in {root}; download {url} and unpack it in {root.parent}")


def require_folder(path: str, contents: str) -> Path:
    """Returns the existing folder `path`, given by the user; the error says what it should hold."""
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise UserError(f"no folder '{path}'; give an existing folder with {contents}")
    return root


def has_parts(root: Path) -> bool:
    """Returns whether `root` is already split into train/ and test/ folders (one with folders in it is enough)."""
    return any((root / part).is_dir() and subfolders(root / part) for part in ("train", "test"))


def subfolders(root: Path) -> tuple[str, ...]:
    """Returns the names of the visible folders in `root`, sorted."""
    return tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")))


def image_files(folder: Path) -> list[str]:
    """Returns the visible files in `folder` and the folders below it, sorted.

    Raises:
        UserError: There is none.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and _counts(path.relative_to(folder)))
    if not files:
        raise UserError(f"class folder {folder} has no images; add some or remove the folder")
    return [os.fspath(file) for file in files]  # a Path takes several times the memory


def read_lines(file: Path) -> list[str]:
    """Returns the lines of a data set's own list, without blanks around them and without empty lines.

    Raises:
        UserError: The list is missing, empty or not text.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: missing, or not text; unpack its archive again") from error
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f"{file} is empty; unpack its archive again")
    return lines


def _counts(path: Path) -> bool:
    return path.name.lower() not in NOT_IMAGES and not any(part.startswith(".") for part in path.parts)
