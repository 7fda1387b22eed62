"""Images that stay in their files until they are asked for."""

# N images, H height, W width, S rows asked for

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from firmware_host.bundle import Input
from firmware_host.shared.files import sha256_of_file
from firmware_host.shared.sensors.readers import IMAGE
from keras_cbpnet.data.preprocessing import ImageSize, height_and_width, read_image
from keras_cbpnet.errors import UserError

__all__ = ["ImageFiles", "Rows", "StoredImages"]

KEPT = 2**29  # bytes of decoded images up to which they are kept in memory: 3,500 of 224 px, 170,000 of 32 px
HASH = 32  # bytes of a SHA-256
LINE = 1000  # images between two lines of progress, at least

Rows = Union["NDArray[np.integer[Any]]", "NDArray[np.bool_]", slice]


class ImageFiles:
    """Image files as a sequence, uint8 [N, H, W, 3]: decoded, upright and at one size, when they are indexed.

    Where all of them fit in `KEPT` bytes, each is decoded once and kept.

    Args:
        files: the files, in their order.
        image_size: side of the images in pixels, or (height, width).
        taken: what the files are, where they are not images.

    Raises:
        UserError: a file is missing.
    """

    ndim = 4
    dtype = np.dtype(np.uint8)

    def __init__(self, files: Iterable[str | os.PathLike[str]], image_size: ImageSize, taken: Input = IMAGE) -> None:
        self.files = [os.fspath(file) for file in files]
        if missing := next((file for file in self.files if not os.path.isfile(file)), None):
            raise UserError(_why_missing(missing))
        self.taken = taken
        self.shape = (len(self.files), *height_and_width(image_size), 3)
        few = int(np.prod(self.shape)) <= KEPT
        self._kept = np.empty(self.shape, np.uint8) if few else None  # takes memory as it is filled
        self._known = np.zeros(len(self.files), np.bool_)  # which rows of it are filled
        self._hashes: NDArray[np.uint8] | None = None
        self._checked = False

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        """Return the images `rows` [S], uint8 [S, H, W, 3].

        Raises:
            UserError: a file is not an image, or damaged.
        """
        wanted = np.arange(len(self))[rows]
        images = np.empty((len(wanted), *self.shape[1:]), np.uint8)
        for place, row in enumerate(wanted.tolist()):
            images[place] = self._read(row)
        return images

    def subset(self, rows: Rows) -> ImageFiles:
        """Return the images `rows` as another such sequence; none is decoded."""
        return ImageFiles((self.files[row] for row in np.arange(len(self))[rows].flat), self.shape[1:3], self.taken)

    def check(self, say: Callable[[str], None] = lambda line: None) -> bytes:
        """Decode every image once, and return a digest of what the files hold, in their order.

        Args:
            say: takes a line of progress, about one for each tenth of many images.

        Raises:
            UserError: a file is not an image, or damaged.
        """
        hashes, step = self._hashes, max(LINE, -(-len(self) // 10))
        if not self._checked:
            for row, file in enumerate(self.files):
                self._read(row)
                if self._hashes is None:  # while the file is at hand
                    hashes = np.empty((len(self), HASH), np.uint8) if hashes is None else hashes
                    hashes[row] = _hash(file)
                if (row + 1) % step == 0:
                    say(f"{row + 1} of {len(self)} images checked")
            self._hashes, self._checked = hashes, True
        return hashlib.sha256(self.hashes().tobytes()).digest()

    def hashes(self) -> NDArray[np.uint8]:
        """Return the SHA-256 of each file's bytes, uint8 [N, 32]; none is decoded.

        Raises:
            UserError: a file cannot be read.
        """
        if self._hashes is None:
            self._hashes = np.stack([_hash(file) for file in self.files])
        return self._hashes

    def _read(self, row: int) -> NDArray[np.uint8]:
        if self._kept is None:
            return read_image(self.files[row], self.shape[1:3], self.taken)
        if not self._known[row]:
            self._kept[row] = read_image(self.files[row], self.shape[1:3], self.taken)
            self._known[row] = True
        return np.asarray(self._kept[row])


def _why_missing(file: str) -> str:
    if os.path.exists(file):
        return f"{file} is not an image but a folder, device, pipe or socket; remove it"
    if os.path.islink(file):
        return f"image {file} is a link to {os.readlink(file)}, which is not there; fetch it, or remove the link"
    return f"image {file} is missing; unpack its archive again or put the file there"


def _hash(file: str) -> NDArray[np.uint8]:
    try:
        return np.frombuffer(bytes.fromhex(sha256_of_file(Path(file))), np.uint8)
    except OSError as error:
        raise UserError(f"image {file} cannot be read ({error.strerror}); replace or remove it") from error


StoredImages = Union["NDArray[np.uint8]", ImageFiles]
