"""What a classifier is made from, read and refused without Keras: source, state, size, folder."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from firmware_host.bundle import read_bundle
from keras_cbpnet.config import read_config
from keras_cbpnet.errors import UserError
from keras_cbpnet.export.check import prepare, runtimes_to_verify
from keras_cbpnet.export.frozen.learned import Learned, read_learned
from keras_cbpnet.export.replacing import recover
from keras_cbpnet.export.source import RunFiles

__all__ = ["LARGEST", "MODEL", "Asked", "Wanted", "read_asked"]

# Dimensions: N pixels of a side.

MODEL, LABELMAP, INDEXED = "model.tflite", "labelmap.txt", "labels.txt"
LARGEST = 2048  # pixels of a side that a classifier may resize


class Wanted(NamedTuple):
    """What kind of classifier is wanted.

    Args:
        state: what a device learned, an exported file or a state folder; None: what the bundle knows.
        input_size: N, of the images that it takes; 0: what the backbone takes.
        scores: their type, `uint8` or `float32`.
    """

    state: Path | None = None
    input_size: int = 0
    scores: str = "uint8"


class Asked(NamedTuple):
    """What was found usable.

    Args:
        output: folder to write.
        wanted: what kind of classifier.
        learned: what the bundle and its state know; None where a run is converted first.
        run: that is converted first; None for a bundle.
    """

    output: Path
    wanted: Wanted
    learned: Learned | None
    run: RunFiles | None


def read_asked(
    source: Path,
    output: Path,
    wanted: Wanted,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Asked:
    """Return what a classifier is made from.

    Args:
        source: a bundle, or a finished run, which is converted first.
        output: the folder to write.
        wanted: what kind of classifier.
        overwrite: whether a folder of this command may be replaced.
        progress: called with a line.

    Raises:
        UserError: the folder exists, or the source or the state cannot be used; nothing is written.
    """
    recover(output)
    _check_output(output, overwrite)
    if not 0 <= wanted.input_size <= LARGEST:
        raise UserError(f"--input-size {wanted.input_size} is not from 1 to {LARGEST}, or 0 for the backbone's own")
    runtimes_to_verify()
    if (source / "manifest.json").is_file():
        bundle = read_bundle(source)
        progress("reading what is known")
        return Asked(output, wanted, read_learned(bundle, wanted.state), None)
    if not (source / "config.json").is_file():
        raise UserError(f"{source} is neither a bundle (it has no manifest.json) nor a run (no config.json)")
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(source, read_config(source), [Path(folder) / "bundle"], progress=progress)
    return Asked(output, wanted, None, run)


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.exists():
        return
    if not overwrite:
        raise UserError(f"{output} exists; choose another folder or give --overwrite")
    if not output.is_dir() or {path.name for path in output.iterdir()} - {MODEL, LABELMAP, INDEXED}:
        raise UserError(
            f"{output} is not a folder that freeze wrote, so --overwrite does not replace it; choose another"
        )
