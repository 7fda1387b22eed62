"""The C++ bank of a microcontroller, compiled for this machine and fed with features."""

# Dimensions: N images, d features, K class slots, r directions of a class.

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from firmware_host.shared.bank import empty_bank
from keras_cbpnet.export.micro.bank import constants, state_bytes
from keras_cbpnet.export.micro.project import SOURCES

Array = np.ndarray[Any, Any]
SOURCE = Path(__file__).with_name("bank_stream.cc")
WARNINGS = ("-std=c++17", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti")
PREDICT, RENEW, EXPORT = -1, -2, -3  # what a record can ask for beside the label it teaches


class CppBank:
    """A compiled bank.

    Args:
        folder: to compile in.
        sizes: d, K and r.
        options: of the compiler.
    """

    def __init__(self, folder: Path, sizes: tuple[int, int, int], options: Sequence[str] = ("-O2",)) -> None:
        self.sizes, self.folder = sizes, folder
        self._program = folder / "bank_stream"
        (folder / "bank_constants.h").write_text(constants())
        names = ("BANK_FEATURES", "BANK_SLOTS", "BANK_DIRECTIONS")
        defined = [f"-D{name}={size}" for name, size in zip(names, sizes)]
        command = ["g++", *WARNINGS, *options, *defined, f"-I{folder}", f"-I{SOURCES}", str(SOURCE)]
        subprocess.run([*command, "-o", str(self._program)], check=True)

    @property
    def bytes(self) -> int:
        """Memory of a bank, work memory included."""
        return int(self._run(b""))

    def stream(self, label: Array, feature: Array, start: Mapping[str, Array] | None = None) -> bytes:
        """Feed records, label [N] and feature [N, d], to a bank; return what it writes.

        Args:
            label: class to teach, or PREDICT, RENEW, EXPORT.
            feature: of the images.
            start: what the bank knows, tensors of `BANK` in which class c has slot c; and `feature_mean` and
                `feature_scale` [d]. What is not given is nothing known, 0 and 1.
        """
        d, slots, r = self.sizes
        given = {"feature_mean": np.zeros(d), "feature_scale": np.ones(d), **empty_bank(slots, slots, d, r)}
        given.update(start or {})
        records = np.zeros(len(label), [("label", "<i4"), ("feature", "<f4", d)])
        records["label"], records["feature"] = label, feature
        head = b"".join(given[name].astype("<f4").tobytes() for name in ("feature_mean", "feature_scale"))
        return self._run(head + state_bytes(given) + records.tobytes())

    def logits(self, label: Array, feature: Array, start: Mapping[str, Array] | None = None) -> Array:
        """Return the logits [N', K] of the records with label PREDICT; arguments as of `stream`."""
        return np.frombuffer(self.stream(label, feature, start), "<f4").reshape(-1, self.sizes[1])

    def _run(self, content: bytes) -> bytes:
        return subprocess.run([str(self._program)], input=content, capture_output=True, check=True).stdout
