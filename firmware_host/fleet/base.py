"""What a bundle starts with, and what a state adds to that.

Dimensions: d features, C class slots, K slots of the bank.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from firmware_host.bundle import Bundle, DeviceError
from firmware_host.engines.protocol import Array
from firmware_host.fleet.check import Expected
from firmware_host.fleet.merge import Base
from firmware_host.fleet.own import APART, MIN_IMAGES, Own, Part, new_token, positive
from firmware_host.shared.bank.sums import LEAST
from firmware_host.state.snapshot import Snapshot

__all__ = ["adopted", "backbone_of", "base_of", "check_sharing", "deviations", "expected_of", "own_of"]


def backbone_of(bundle: Bundle) -> str:
    """Return the SHA-256 of a bundle's backbone.tflite."""
    return str(bundle.manifest["sha256"]["backbone.tflite"]).lower()


def check_sharing(bundle: Bundle) -> None:
    """Raise DeviceError for a bundle whose devices cannot share: where labels may change their meaning."""
    if "surprise" in bundle.head:
        raise DeviceError(
            f"bundle {bundle.path} has drift detection, so a class may mean another thing on each device, and sums of "
            "it would be of no use: train the run with another --plasticity"
        )


def expected_of(bundle: Bundle) -> Expected:
    """Return what deltas for a bundle have to be like."""
    mean, scale = (np.array(bundle.head[name], np.float64) for name in ("feature_mean", "feature_scale"))
    return Expected(backbone_of(bundle), mean, scale)


def base_of(bundle: Bundle, start: Snapshot) -> Base:
    """Return what a bundle starts with; `start`: what its head starts with, as `start_snapshot` returns it."""
    mean, scale = (np.array(bundle.head[name], np.float64) for name in ("feature_mean", "feature_scale"))
    return Base(bundle.classes, start.statistics, bundle.bank(), mean, scale)


def deviations(base: Base) -> Array:
    """Return the deviation of each feature within the bundle's classes, [d]; of all images where that is not known."""
    squares = np.diag(base.statistics.scatter)
    if not squares.mean() > 0.0:
        return base.scale
    degrees = max(float(base.statistics.count.sum()) - len(base.statistics.seen), 1.0)
    return np.asarray(np.sqrt(np.maximum(squares, LEAST * squares.mean()) / degrees))


def own_of(snapshot: Snapshot, base: Base, version: int) -> Own:
    """Return what a state was taught itself: as it is kept there, or else what is known less what the bundle knew.

    A class of the bundle that is not known any more is one that was forgotten. `version`: number of the save, which
    becomes that of the delta.
    """
    if snapshot.fleet is not None:
        kept = Own.from_arrays(snapshot.fleet)
        kept.check_place()
        return kept
    state, start = snapshot.statistics, base.statistics
    own = Own(deviations(base))
    own.version = max(version - 1, 0)
    scatter = state.scatter - start.scatter
    degrees = 0.0
    for slot, name in enumerate(snapshot.classes):
        before = base.classes.index(name) if name in base.classes else None
        old = 0.0 if before is None else float(start.count[before])
        count = float(state.count[slot]) - old
        if count < 1.0:
            continue
        mean = state.mean[slot].copy()
        if before is not None and old > 0.0:
            mean = (state.count[slot] * state.mean[slot] - old * start.mean[before]) / count
            away = mean - start.mean[before]
            scatter -= old * count / (old + count) * np.outer(away, away)
        rows = _rows(snapshot, base, slot, before)
        apart = old == 0.0 and count <= APART and len(rows) >= count - 1.0
        if apart:
            scatter -= rows.T @ rows
        else:
            degrees += count - 1.0
        own.parts[name] = Part(0, count, mean, rows, apart)
    own.scatter = positive(0.5 * (scatter + scatter.T), base.scale) if degrees else np.zeros_like(scatter)
    own.degrees = degrees
    _limit_rows(own)
    for name in base.classes:
        if name not in snapshot.classes:
            own.forget(name)
    return own


def adopted(snapshot: Snapshot, base: Base, backbone: str, version: int, min_images: int = MIN_IMAGES) -> Snapshot:
    """Return a state as another device's: what it was taught becomes that of a peer, and it gets its own number.

    So nothing counts twice, whether the device that it comes from goes on or not. Classes of fewer than `min_images`
    images, which that device does not tell of, are taken over as its own.
    """
    if snapshot.fleet is not None and Own.from_arrays(snapshot.fleet).moved:
        return replace(snapshot, device=new_token())
    own = own_of(snapshot, base, version)
    delta = own.tell(snapshot.device, backbone, min_images)
    new = Own(own.scale)
    new.parts = {name: part for name, part in own.parts.items() if delta is None or name not in delta.classes}
    new.lives, new.peers = dict(own.lives), dict(own.peers)
    if delta is not None:
        new.peers[delta.device] = delta.to_bytes()
    return replace(snapshot, device=new_token(), fleet=new.arrays())


def _limit_rows(own: Own) -> None:
    """Let the rows of classes that are not apart come to no more than their scatter."""
    rough = [part for part in own.parts.values() if not part.apart]
    held = sum(float(np.square(part.rows / own.scale).sum()) for part in rough)
    most = float(np.sum(np.diag(own.scatter) / own.scale**2))
    for part in rough if held > most else ():
        part.rows = part.rows * np.sqrt(max(most, 0.0) / held)


def _rows(snapshot: Snapshot, base: Base, slot: int, before: int | None) -> Array:
    """Return rows [., d] whose squares come near the scatter of a class's images, less those of the bundle."""
    none = np.zeros((0, len(base.scale)))
    if snapshot.bank is None or base.bank is None:
        return none
    new, old = _held(snapshot.bank, slot), none if before is None else _held(base.bank, before)
    if len(old):
        new = _less(new, old)
    return new * base.scale


def _held(bank: dict[str, Array], label: int) -> Array:
    slot = int(bank["binding"][label]) - 1
    return bank["factor"][slot, : bank["rows"][slot]].astype(np.float64) if slot >= 0 else bank["factor"][0, :0] * 1.0


def _less(new: Array, old: Array) -> Array:
    """Return rows whose squares are the positive part of those of `new` less those of `old`."""
    if not len(new):
        return new
    basis, triangle = np.linalg.qr(np.concatenate([new, old]).T)  # (d, m), (m, m)
    signs = np.concatenate([np.ones(len(new)), -np.ones(len(old))])
    values, vectors = np.linalg.eigh((triangle * signs) @ triangle.T)
    found: Array = (basis @ vectors[:, values > 0.0] * np.sqrt(values[values > 0.0])).T
    return found
