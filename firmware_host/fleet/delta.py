"""What one device was taught, apart from what its bundle knew: sums over images, as an object and as bytes.

Exact, and additive over devices: of each class the number of images and their mean, and the scatter within classes of
all of them together (Chan, Golub and LeVeque 1979), in float64. Approximate: `rows`, whose squares come near the
scatter of one class alone, in half precision; they are for the bank's directions and shift no mean.

The bytes are the magic line, the length of a header, the header in JSON, and the arrays, little-endian: counts, means,
the upper triangle of the scatter, rows. The same delta gives the same bytes. Dimensions: d features, K classes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from firmware_host.shared.errors import DeviceError
from firmware_host.shared.names import class_name

__all__ = ["LARGEST", "SCHEMA_VERSION", "Delta", "Share", "packed", "unpacked"]

Array = np.ndarray[Any, Any]
SCHEMA_VERSION = 1
MAGIC = b"cbpnet delta\n"
LARGEST = 8 << 20  # bytes of a delta
MOST_CLASSES = 4096
MOST_ROWS = 128  # of a class
MOST_VERSION = 1 << 53
NAME_BYTES = 400  # of a class
PEAK = 1024.0  # largest number among rows: they keep their precision in float16 whatever the features' unit is
MOST_UNIT = 1e30
WORD = 4  # bytes of the header's length
ID_LETTERS = 64


class Share(NamedTuple):
    """What a device was taught of one class.

    Attributes:
        life: how often the class had been forgotten before, anywhere in the group.
        images: how many.
        mean: [d] of them, float64, in the features' own units and the terms of the host's camera.
        rows: [., d], float32, whose squares are about their scatter; none where nothing is told of it.
    """

    life: int
    images: float
    mean: Array
    rows: Array


@dataclass(frozen=True)
class Delta:
    """What a device was taught, at one moment.

    `device`: its number; `version`: rises with each other content; `backbone`: SHA-256 of backbone.tflite, whose
    features these are; `classes`: by name; `scatter`: [d, d], float64, of all images around their class's mean;
    `degrees`: images less classes that it stands for; `forgotten`: names, each with the life that begins after it;
    `noise`: see `Own.delta`, 0 for none.
    """

    device: str
    version: int
    backbone: str
    classes: Mapping[str, Share]
    scatter: Array = field(repr=False)
    degrees: float = 0.0
    forgotten: Mapping[str, int] = field(default_factory=dict)
    noise: float = 0.0

    @property
    def features(self) -> int:
        """d, the length of a feature."""
        return len(self.scatter)

    @property
    def images(self) -> float:
        """How many images it stands for."""
        return float(sum(share.images for share in self.classes.values()))

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def content(self) -> str:
        """Return what is the same for deltas that differ in their version alone."""
        return replace(self, version=0).digest

    def to_bytes(self) -> bytes:
        """Return its bytes; where they would be more than LARGEST, without the rows.

        Raises:
            DeviceError: even so they are more.
        """
        content = self._bytes(True)
        content = content if len(content) <= LARGEST else self._bytes(False)
        if len(content) > LARGEST:
            raise DeviceError(
                f"what {len(self.classes)} classes taught takes {len(content)} bytes, of {LARGEST} at most: forget some"
            )
        return content

    def _bytes(self, with_rows: bool) -> bytes:
        d, named = self.features, sorted(self.classes.items())
        none = np.zeros((0, d))
        rows = [share.rows if with_rows else none for _, share in named]
        every = np.concatenate([none, *rows])
        peak = float(np.abs(every).max(initial=0.0))
        unit = peak / PEAK if peak > 0.0 else 1.0
        header = {
            "schema": SCHEMA_VERSION,
            "device": self.device,
            "version": self.version,
            "backbone": self.backbone,
            "features": d,
            "degrees": self.degrees,
            "noise": self.noise,
            "unit": unit,
            "classes": [[name, share.life, len(mine)] for (name, share), mine in zip(named, rows)],
            "forgotten": dict(sorted(self.forgotten.items())),
        }
        text = json.dumps(header, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        counts = np.array([share.images for _, share in named], "<f8")
        means = np.array([share.mean for _, share in named], "<f8").reshape(-1, d)
        arrays = (counts, means, packed(self.scatter).astype("<f8"), (every / unit).astype("<f2"))
        return MAGIC + len(text).to_bytes(WORD, "big") + text + b"".join(array.tobytes() for array in arrays)

    @classmethod
    def from_bytes(cls, content: bytes) -> Delta:
        """Return the delta whose bytes these are; they may come from anybody.

        What they say is not judged yet: see `check.checked`.

        Raises:
            DeviceError: they are not a delta, of another schema version, or not whole.
        """
        if len(content) > LARGEST:
            raise DeviceError(f"a delta of {len(content)} bytes: {LARGEST} are the most")
        if content[: len(MAGIC)] != MAGIC:
            raise DeviceError("it is not a delta: it begins otherwise")
        start = len(MAGIC) + WORD
        length = int.from_bytes(content[len(MAGIC) : start], "big")
        try:
            header = json.loads(content[start : start + length].decode())
            if _whole(header["schema"], 1 << 31) != SCHEMA_VERSION:
                raise DeviceError(
                    f"a delta of schema version {header['schema']}, this firmware_host reads {SCHEMA_VERSION}: install "
                    "the matching keras-cbpnet"
                )
            return cls._read(header, memoryview(content)[start + length :])
        except DeviceError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise DeviceError(f"the delta is not whole ({' '.join(str(error).split())[:80]})") from None

    @classmethod
    def _read(cls, header: Mapping[str, Any], body: memoryview) -> Delta:
        d, version = _whole(header["features"], 1 << 16), _whole(header["version"], MOST_VERSION)
        classes = [_class(*entry) for entry in header["classes"]]
        K, R = len(classes), sum(rows for _, _, rows in classes)
        if len({name for name, _, _ in classes}) < K or K > MOST_CLASSES or d < 1:
            raise ValueError("names or sizes out of range")
        sizes = [8 * K, 8 * K * d, 4 * d * (d + 1), 2 * R * d]
        if len(body) != sum(sizes):
            raise ValueError(f"{len(body)} bytes of numbers, not {sum(sizes)}")
        places = np.cumsum([0, *sizes])
        parts = [body[a:b] for a, b in zip(places[:-1], places[1:])]
        counts, means, triangle = (np.frombuffer(part, "<f8").astype(np.float64) for part in parts[:3])
        unit = _number(header["unit"])
        if not unit < MOST_UNIT:
            raise ValueError("a unit out of range")
        with np.errstate(invalid="ignore", over="ignore"):  # they may be anything until they are checked
            rows = np.frombuffer(parts[3], "<f2").astype(np.float32).reshape(R, d) * np.float32(unit)
        ends = np.cumsum([0, *(rows for _, _, rows in classes)])
        shares = {
            name: Share(life, float(counts[k]), means[k * d : (k + 1) * d], rows[ends[k] : ends[k + 1]])
            for k, (name, life, _) in enumerate(classes)
        }
        forgotten = {_name(name): _whole(life, 1 << 31) for name, life in header["forgotten"].items()}
        device, backbone = _text(header["device"]), _text(header["backbone"])
        degrees, noise = _number(header["degrees"]), _number(header["noise"])
        return cls(device, version, backbone, shares, unpacked(triangle, d), degrees, forgotten, noise)


def packed(matrix: Array) -> Array:
    """Return the upper triangle of a symmetric matrix [d, d] row by row, [d (d + 1) / 2]."""
    return np.asarray(matrix[np.triu_indices(len(matrix))])


def unpacked(triangle: Array, d: int) -> Array:
    """Return the symmetric matrix [d, d] whose upper triangle this is."""
    matrix = np.zeros((d, d))
    matrix[np.triu_indices(d)] = triangle
    return matrix + np.triu(matrix, 1).T


def _class(name: Any, life: Any, rows: Any) -> tuple[str, int, int]:
    return _name(name), _whole(life, 1 << 31), _whole(rows, MOST_ROWS)


def _name(text: Any) -> str:
    if len(_text(text, NAME_BYTES).encode()) > NAME_BYTES or class_name(text) != text:
        raise ValueError("a class name out of form")
    return str(text)


def _text(text: Any, most: int = ID_LETTERS) -> str:
    if not isinstance(text, str) or not 0 < len(text) <= most or not text.isprintable():
        raise ValueError("a text out of form")
    return text


def _whole(value: Any, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"a number is {value!r:.40}, not from 0 to {most}")
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"a number is {value!r:.40}")
    return float(value)
