"""What is frozen is computed once: arrays on disk, which a later process goes on filling after a kill."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from keras_cbpnet.data import Dataset
from keras_cbpnet.models.backbone import Backbone
from keras_cbpnet.training.run import write_json

# Dimensions: N images, D feature size.

ROWS = 400  # computed between two records on disk
Say = Callable[[str], None]
WARNED: set[str] = set()  # what this process has said once


def cache_folder() -> Path:
    """Return the folder of cached features: KERAS_CBPNET_CACHE, or keras_cbpnet in the user's cache folder.

    Raises:
        FileNotFoundError: the user has no home folder.
    """
    named = os.environ.get("KERAS_CBPNET_CACHE")
    folder = os.path.expanduser(named or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "keras_cbpnet"))
    if folder.startswith("~"):
        raise FileNotFoundError(errno.ENOENT, "no home folder is known", folder)
    return Path(folder)


class CachedFeatures:
    """Features of a data set's images under a model that no longer changes.

    Args:
        data: the images.
        identity: of the model.
        width: D.
        forward: returns the features [n, D] of the images `rows` [n] of `part`, `train` or `test`.
        say: takes a line of progress.
    """

    def __init__(
        self,
        data: Dataset,
        identity: str,
        width: int,
        forward: Callable[[str, NDArray[np.integer[Any]]], NDArray[np.float32]],
        say: Say = lambda line: None,
    ) -> None:
        self.data, self.identity, self.width, self.forward, self.say = data, identity, width, forward, say
        self._parts: dict[str, NDArray[np.float32]] = {}

    def rows(self, part: str, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Return the features [n, D] of the images `rows` of `part`, `train` or `test`."""
        if part not in self._parts:
            self._parts[part] = self._computed(part)
        return np.asarray(self._parts[part][rows])

    def _computed(self, part: str) -> NDArray[np.float32]:
        stored = self.data.stored(part)
        sizes = f"{stored.shape} {self.data.image_size}"
        identity = fingerprint(self.identity, sizes, self.data.contents(part))
        shape = (len(stored), self.width)

        def compute(start: int, end: int) -> NDArray[np.float32]:
            return self.forward(part, np.arange(start, end))

        def say(line: str) -> None:
            self.say(f"{part} features: {line}")

        file = None
        try:
            file = cache_folder() / f"features-{identity}.npy"
            file.parent.mkdir(parents=True, exist_ok=True)
            return computed_once(file, identity, shape, np.float32, compute, say)
        except OSError as error:  # the cache is a convenience
            self._warn(error)
            return computed_in_memory(file, identity, shape, np.float32, compute, say)

    def _warn(self, error: OSError) -> None:
        """Say once that features are kept in memory."""
        reason = ": ".join(str(part) for part in (error.filename, error.strerror) if part is not None)
        line = f"features are not cached ({reason}); set KERAS_CBPNET_CACHE to a folder with room to keep them"
        if line not in WARNED:
            WARNED.add(line)
            self.say(f"warning: {line}")


class FrozenFeatures(CachedFeatures):
    """Prompt-free features of a data set's images under a backbone whose blocks no longer change.

    What is stored is the class token after the blocks; norm and whitening are cheap, and may be there or not.

    Args:
        backbone: in the state that counts.
        data: the images.
        say: takes a line of progress.
        depth: encoder blocks to run; None: all.
    """

    def __init__(
        self, backbone: Backbone, data: Dataset, say: Say = lambda line: None, depth: int | None = None
    ) -> None:
        import tensorflow as tf

        early = (depth or 0) % backbone.config.depth  # all blocks and none in particular are the same features
        self.finish = None if early else backbone.last
        layers = (backbone.pixels, backbone.embedding, *backbone.blocks)
        weights = b"".join(np.asarray(v).tobytes() for layer in layers for v in layer.weights)
        config = dataclasses.replace(backbone.config, whitening=False).to_dict()
        described = json.dumps({**config, "quantized": backbone.quantized}, sort_keys=True)
        identity = fingerprint(described, weights, *([f"behind {early} blocks"] if early else []))
        size = backbone.config.image_size
        pixels = tf.TensorSpec((None, size, size, 3), tf.uint8)  # any number, traced once
        encode = backbone.encode if early else backbone.class_token
        run = tf.function(lambda x: encode(backbone.embed(x), depth=early), (pixels,), autograph=False)

        def forward(part: str, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
            batch = backbone.pass_images
            starts = range(0, len(rows), batch)
            return np.concatenate([run(data.images(part, rows[i : i + batch])).numpy() for i in starts])

        super().__init__(data, identity, backbone.config.width, forward, say)

    def rows(self, part: str, rows: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """Return the features [n, D] of the images `rows` of `part`, `train` or `test`."""
        found = super().rows(part, rows)
        return found if self.finish is None else np.array(self.finish(found))


def computed_once(
    file: Path,
    identity: str,
    shape: tuple[int, ...],
    dtype: Any,
    compute: Callable[[int, int], NDArray[Any]],
    say: Say = lambda line: None,
) -> NDArray[Any]:
    """Return an array that lies in `file` (.npy, mapped into memory, read-only), filled now or by an earlier call.

    A record beside it counts the rows done, so that a computation that was killed goes on; a lock file keeps two
    processes from filling it at once. Where record or file are damaged, everything is computed again.

    Args:
        file: to write or to read.
        identity: of all that the result depends on; a file of another identity is computed again.
        shape: of the array; the first dimension counts rows.
        dtype: of the array.
        compute: returns the rows from its first argument to before its second.
        say: takes a line of progress, one for each tenth.

    Raises:
        OSError: the file cannot be written, or the disk is full.
    """
    record, total = file.with_suffix(".json"), shape[0]
    if _rows_done(file, identity, shape, dtype) == total:
        return np.load(file, mmap_mode="r")
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = _rows_done(file, identity, shape, dtype)
        if not done:  # a new file, not the old one emptied: another process may still read that
            record.unlink(missing_ok=True)
            file.unlink(missing_ok=True)
        with file.open("r+b" if done else "w+b") as stream:
            start = _start_of_rows(stream, shape, dtype)
            for row, rows in _blocks(done, shape, dtype, compute, say):
                stream.seek(start + row * rows[0].nbytes)
                stream.write(rows.tobytes())  # not through a map of the file, where a full disk would be a signal
                stream.flush()
                os.fsync(stream.fileno())
                write_json(record, {**_described(identity, shape), "done": row + len(rows)})
        return np.load(file, mmap_mode="r")


def computed_in_memory(
    file: Path | None,
    identity: str,
    shape: tuple[int, ...],
    dtype: Any,
    compute: Callable[[int, int], NDArray[Any]],
    say: Say = lambda line: None,
) -> NDArray[Any]:
    """Return the array of `computed_once`, whose arguments these are, where `file` cannot be written (None: no folder).

    What is done in the file already is taken from there; an unfinished file is removed, which makes room.
    """
    array, done = np.empty(shape, dtype), 0
    if file is not None:
        with contextlib.suppress(OSError):
            done = _rows_done(file, identity, shape, dtype)
            array[:done] = np.load(file, mmap_mode="r")[:done] if done else 0
            file.with_suffix(".json").unlink(missing_ok=True)
            file.unlink(missing_ok=True)
    for row, rows in _blocks(done, shape, dtype, compute, say):
        array[row : row + len(rows)] = rows
    return array


def _blocks(
    done: int, shape: tuple[int, ...], dtype: Any, compute: Callable[[int, int], NDArray[Any]], say: Say
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Compute the rows from `done` on; yield the first row's number with each block of them, and say how far it is."""
    total = shape[0]
    for start in range(done, total, ROWS):
        end = min(start + ROWS, total)
        yield start, np.ascontiguousarray(compute(start, end), dtype)
        if end == total or end * 10 // total > start * 10 // total:
            say(f"{end} of {total} images")


def _start_of_rows(stream: BinaryIO, shape: tuple[int, ...], dtype: Any) -> int:
    """Return where the rows begin in a .npy file; an empty one gets its header and its size."""
    if stream.read(1):
        stream.seek(0)
        np.lib.format.read_magic(stream)
        np.lib.format.read_array_header_1_0(stream)
        return stream.tell()
    described = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, described)
    start = stream.tell()
    stream.truncate(start + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return start


def _described(identity: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"identity": identity, "shape": list(shape)}


def _rows_done(file: Path, identity: str, shape: tuple[int, ...], dtype: Any) -> int:
    """Return how many rows of `file` are there; 0 where it or its record is missing, damaged or of something else."""
    record, wanted = file.with_suffix(".json"), _described(identity, shape)
    try:
        found = json.loads(record.read_text())
        done = found.pop("done")
        array = np.load(file, mmap_mode="r")  # raises where the file is shorter than its header says
        same = found == wanted and (array.dtype, list(array.shape)) == (np.dtype(dtype), wanted["shape"])
        return int(done) if same and 0 < done <= len(array) else 0
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError, EOFError):
        return 0


def fingerprint(*parts: bytes | memoryview | str) -> str:
    """Return a short name of what `parts` hold; bytes or a contiguous buffer of them, or text."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
    return digest.hexdigest()[:16]
