"""What a device needs to go on where it stopped, as one value and as named arrays.

Dimensions: d features, C class slots, p images that wait for their training step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from firmware_host.bundle import Bundle, ClassStatistics
from firmware_host.engines.protocol import Array, HeadState
from firmware_host.shared.bank import BANK, bank_axes
from firmware_host.shared.bank.unknowns import Unknowns
from firmware_host.shared.names import restored_names
from firmware_host.state.buffer import ReplayBuffer

__all__ = ["BANK_AXES", "CLASS_AXES", "Snapshot", "from_arrays", "head_key", "to_arrays"]

CLASS_AXES = {  # beside those of the head
    "statistics.mean": 0,
    "statistics.count": 0,
    "buffer.seen": 0,
    "doubted": 0,
    "camera.images": 0,
    **{f"bank.{name}": axis for name, axis in bank_axes("C").items()},
}
CAMERA = ("offset", "images", "apart", "novelty")  # of `CameraState`
BANK_AXES = {f"bank.{name}": axis for name, axis in bank_axes("K").items()}


@dataclass(frozen=True)
class Snapshot:
    """Everything a device needs to go on where it stopped.

    `head`: the head's tensors; `statistics`: class statistics for replay; `classes`: names in slot order;
    `generator`: state of the random numbers (`numpy.random.Generator.bit_generator.state`); `buffer`: features kept for
    replay, if any; `pending`: images taught one at a time that wait for a full batch, feature [p, d] as the backbone
    stores it and label [p]; `rolled_back`: how many training steps were rolled back so far; `doubted`: [C], labels
    of each class that were doubted in a row; `taught`: which images of an inbox were learned (`inbox.lesson_key`);
    `bank`: the bank's tensors, if there is one; `camera`: its offset [d], how many images of each class it took [C],
    and what it leaves open in the means of the others, one number; `unknowns`: the groups of unknown images, if any;
    `device`: the secret by which the device is told from others; `fleet`: what it was taught itself (`Own.arrays`),
    where that is kept apart;
    `board`: the random numbers of the microcontroller that it was imported from, 0 for none.
    One read from a file may lack tensors of the head, the bank or the camera, which came into being after it was
    written.
    """

    head: HeadState
    statistics: ClassStatistics
    classes: tuple[str, ...]
    generator: dict[str, Any]
    buffer: ReplayBuffer | None = None
    pending: tuple[Array, Array] | None = None
    rolled_back: int = 0
    doubted: Array | None = None
    taught: frozenset[int] = frozenset()
    bank: dict[str, Array] | None = None
    camera: dict[str, Array] | None = None
    unknowns: Unknowns | None = None
    device: str = ""
    fleet: dict[str, Array] | None = None
    board: int = 0

    @property
    def steps(self) -> int:
        """Training steps made."""
        return int(self.head.get("step", 0))

    def completed(self, start: HeadState, bank: dict[str, Array] | None) -> Snapshot:
        """Return the same with the start value of every tensor of the head that is lacking, and of the bank."""
        return replace(self, head={**start, **self.head}, bank=self.bank or bank)


def to_arrays(snapshot: Snapshot) -> dict[str, Array]:
    """Return the arrays of a state file, `meta` (JSON) without what belongs to the file."""
    arrays = {f"head.{name}": value for name, value in snapshot.head.items()}
    arrays.update({f"statistics.{name}": value for name, value in snapshot.statistics.arrays().items()})
    if snapshot.buffer is not None:
        arrays.update({f"buffer.{name}": value for name, value in snapshot.buffer.arrays().items()})
    if snapshot.pending is not None:
        arrays.update({"pending.feature": snapshot.pending[0], "pending.label": snapshot.pending[1]})
    if snapshot.doubted is not None:
        arrays["doubted"] = snapshot.doubted
    if snapshot.taught:
        arrays["taught"] = np.array(sorted(snapshot.taught), np.uint64)
    arrays.update({f"bank.{name}": value for name, value in (snapshot.bank or {}).items()})
    arrays.update({f"camera.{name}": value for name, value in (snapshot.camera or {}).items()})
    if snapshot.unknowns is not None:
        arrays.update({f"unknowns.{name}": value for name, value in snapshot.unknowns.arrays().items()})
    arrays.update({f"fleet.{name}": value for name, value in (snapshot.fleet or {}).items()})
    if snapshot.board:
        arrays["board"] = np.array(snapshot.board, np.uint32)
    meta = {
        "classes": list(snapshot.classes),
        "generator": snapshot.generator,
        "rolled_back": snapshot.rolled_back,
        "device": snapshot.device,
    }
    return {**arrays, "meta": np.array(json.dumps(meta, sort_keys=True))}


def from_arrays(arrays: Mapping[str, Array], meta: Mapping[str, Any], bundle: Bundle) -> Snapshot:
    """Return what `to_arrays` took apart; raises KeyError or ValueError when it does not fit the bundle.

    Tensors of the head that the arrays lack are left out, see `Snapshot.completed`.
    """
    shapes = bundle.learned_shapes
    head = {name: arrays[f"head.{name}"] for name in shapes if f"head.{name}" in arrays}
    for name, tensor in head.items():
        if tensor.shape != shapes[name]:
            raise ValueError(f"tensor {name} has shape {list(tensor.shape)}, the head needs {list(shapes[name])}")
    bank = {name: arrays[f"bank.{name}"] for name in bundle.bank_shapes if f"bank.{name}" in arrays}
    for name, tensor in bank.items():
        if tensor.shape != bundle.bank_shapes[name]:
            raise ValueError(f"bank.{name} has shape {list(tensor.shape)}, not {list(bundle.bank_shapes[name])}")
    if bank:  # tensors that came into being after it was written are zero
        bank = {**{name: np.zeros(shape, BANK[name][1]) for name, shape in bundle.bank_shapes.items()}, **bank}
    mean, count, scatter = (arrays[f"statistics.{name}"] for name in ("mean", "count", "scatter"))
    kept = {name[len("buffer.") :]: value for name, value in arrays.items() if name.startswith("buffer.")}
    pending = (arrays["pending.feature"], arrays["pending.label"]) if "pending.feature" in arrays else None
    camera = {name: arrays[f"camera.{name}"] for name in CAMERA if f"camera.{name}" in arrays}
    if camera and (camera["offset"].shape, camera["images"].shape) != (mean.shape[1:], count.shape):
        raise ValueError("offset and images of the camera do not fit the class statistics")
    if "novelty" in camera:
        novelty = camera["novelty"]
        if novelty.shape != (2, 2) or not np.isfinite(novelty).all() or not (novelty[1] > 0).all():
            raise ValueError("camera.novelty is not two changes of a mean and two positive ratios of deviations")
    groups = {name[len("unknowns.") :]: value for name, value in arrays.items() if name.startswith("unknowns.")}
    return Snapshot(
        head,
        ClassStatistics(mean, count, scatter),
        restored_names(meta["classes"]),
        dict(meta["generator"]),
        ReplayBuffer.from_arrays(kept) if kept else None,
        pending,
        int(meta.get("rolled_back", 0)),
        arrays.get("doubted"),
        frozenset(arrays["taught"].tolist()) if "taught" in arrays else frozenset(),
        bank or None,
        camera or None,
        Unknowns.from_arrays(groups, mean.shape[1]) if groups else None,
        str(meta.get("device") or _token_of(arrays)),
        {name[len("fleet.") :]: value for name, value in arrays.items() if name.startswith("fleet.")} or None,
        int(arrays.get("board", 0)),
    )


def _token_of(arrays: Mapping[str, Array]) -> str:
    """Return the token of a state that was written before there were any: the same for the same statistics."""
    numbers = (np.ascontiguousarray(arrays[f"statistics.{name}"]).tobytes() for name in ("mean", "count", "scatter"))
    return hashlib.sha256(b"".join(numbers)).hexdigest()[:32]


def head_key(bundle: Bundle) -> str:
    """Return the SHA-256 over what a head's tensors mean: the block, its size and its constants."""
    names = ("block", "units", "logit_scale", "feature_mean", "feature_scale")
    return hashlib.sha256(json.dumps([bundle.head[name] for name in names]).encode()).hexdigest()
