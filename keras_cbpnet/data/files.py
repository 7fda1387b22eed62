"""Data sets on disk: where downloads lie, folders and lists, with one clear line for what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from firmware_host.bundle import DeviceError
from firmware_host.shared.folders import IMAGES, Layout, find_layout
from firmware_host.shared.kinds import archive
from keras_cbpnet.errors import UserError

__all__ = [
    "datasets_folder",
    "read_lines",
    "require_folder",
    "split_layout",
    "user_errors",
]


def datasets_folder() -> Path:
    """Return the folder Keras keeps data sets in."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    if home.startswith("~"):  # a user without a name, and no HOME
        raise UserError("the home folder is unknown; set HOME, or KERAS_HOME to the folder of data sets")
    return Path(home) / "datasets"


def require_folder(path: str, contents: str) -> Path:
    """Return the existing folder `path`, given by the user; the error says what it should hold."""
    root = Path(os.path.expanduser(path))
    if path and (kind := archive(root)):
        raise UserError(f"{path} is {kind.what}; {kind.remedy}")
    if not path or not root.is_dir():
        raise UserError(f"no folder '{path}'; give an existing folder with {contents}")
    return root


@contextmanager
def user_errors() -> Iterator[None]:
    """Turn what the code shared with the device refuses into a `UserError` of the same text."""
    try:
        yield
    except DeviceError as error:
        raise UserError(str(error)) from error


def split_layout(path: str, contents: str, levels: int = 1, suffixes: Sequence[str] = IMAGES) -> Layout:
    """Return how the folder `path` is laid out, with either both parts or none.

    Args:
        path: of a folder, given by the user.
        contents: what it should hold, for the message.
        levels: folders above the images: 1, of classes, or 2, of domains and classes.
        suffixes: of the files that the data are made of.

    Raises:
        UserError: it is missing, has one part alone, cannot be read, or in two ways.
    """
    with user_errors():
        layout = find_layout(require_folder(path, contents), levels, suffixes)
    for part in ("train", "test"):
        if layout.parts and part not in layout.parts:
            raise UserError(f"no folder {layout.root / part}; add it, or give a folder with {contents}")
    return layout


def read_lines(file: Path) -> list[str]:
    """Return the lines of a data set's own list, without blanks around them and without empty lines.

    Raises:
        UserError: the list is missing, empty or not text.
    """
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: missing, or not text; unpack its archive again") from error
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f"{file} is empty; unpack its archive again")
    return lines
