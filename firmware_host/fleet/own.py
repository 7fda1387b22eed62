"""What this device itself was taught, kept apart from what its bundle knew and what others taught.

It is kept from the moment a device joins a group, or its state comes from elsewhere; before, it follows from what is
known less what the bundle knew (`of_state` in base.py). Sums are those of `Delta`, in float64. Of a class of few images
the rows are all of its scatter, and not in that of all classes: so a class that is not shared yet shows nowhere.

Dimensions: d features, n images, K classes.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np

from firmware_host.fleet.delta import Array, Delta, Share, packed, unpacked
from firmware_host.shared.bank.sums import compressed
from firmware_host.shared.errors import DeviceError
from firmware_host.shared.names import look

__all__ = ["APART", "MIN_IMAGES", "Own", "Part", "device_id", "new_token"]

APART = 16  # images of a class up to which its rows are all of its scatter
MIN_IMAGES = 5
ROWS = 32  # that are told of a class


def new_token() -> str:
    """Return a secret by which a device is told from all others; its number follows from it."""
    return secrets.token_hex(16)


def device_id(token: str) -> str:
    """Return the number of the device with this secret: 12 hexadecimal digits, which tell nothing of it."""
    return hashlib.sha256(f"cbpnet device\n{token}".encode()).hexdigest()[:12]


@dataclass
class Part:
    """What was taught of one class: as `Share`, and whether `rows`, float64, are `apart` from the scatter of all."""

    life: int
    count: float
    mean: Array
    rows: Array
    apart: bool = True

    def take(self, feature: Array, scatter: Array, weights: Array) -> float:
        """Take in images [n, d]; return by how much the degrees of the `scatter`, which changes too, rise.

        `weights` [d]: what each feature counts where rows are chosen.
        """
        n, mean = float(len(feature)), feature.mean(axis=0)
        shift, old = mean - self.mean, self.count
        rows = np.concatenate([feature - mean, np.sqrt(old * n / (old + n)) * shift[None]])
        rows = rows[np.any(rows != 0.0, axis=1)]
        self.count, self.mean = old + n, self.mean + shift * (n / (old + n))
        if not self.apart:
            scatter += rows.T @ rows
        self.rows = np.concatenate([self.rows, rows])
        degrees = 0.0 if self.apart else n
        if self.apart and self.count > APART:
            scatter += self.rows.T @ self.rows
            self.apart, degrees = False, self.count - 1.0
        if not self.apart:
            self.rows = compressed(self.rows, ROWS, weights)
        return degrees


class Own:
    """What this device was taught.

    Args:
        scale: [d], deviations of the features within a class; one of large numbers counts no more than another.

    Attributes:
        parts: by class name.
        scatter, degrees: as of `Delta`, of classes that are not apart.
        forgotten: names that were forgotten here, each with the life that begins after it.
        lives: by the look of names, the life that lessons are of by now.
        shared: names that the others were told of.
        version, told: of the delta that was told last, and its `content`.
        fingerprint: of the set of deltas that what is known stands for.
        moved: whether the classes look otherwise here than elsewhere, so that nothing can be shared (`check_place`).
        peers: bytes of deltas of other devices that came with an imported state, by their numbers.
        lessons: how often it was changed, in this process.
    """

    def __init__(self, scale: Array) -> None:
        self.scale = np.array(scale, np.float64)
        self.parts: dict[str, Part] = {}
        self.scatter, self.degrees = np.zeros((len(scale), len(scale))), 0.0
        self.forgotten: dict[str, int] = {}
        self.lives: dict[str, int] = {}
        self.shared: list[str] = []
        self.version, self.told, self.fingerprint = 0, "", ""
        self.moved = False
        self.peers: dict[str, bytes] = {}
        self.lessons = 0

    def check_place(self) -> None:
        """Raise DeviceError where this device's sensor was moved."""
        if self.moved:
            raise DeviceError(
                "the sensor of this device was moved, so classes look otherwise there than on other devices: what it "
                "learned cannot be shared; `state BUNDLE reset` starts it again"
            )

    # --- lessons ----------------------------------------------------------------------------------------------------
    def learn(self, name: str, feature: Array) -> None:
        """Take in images of a class, features [n, d] in the terms of the host's camera."""
        x = np.asarray(feature, np.float64)
        self.lessons += 1
        if name not in self.parts:
            d = len(self.scatter)
            self.parts[name] = Part(self.lives.get(look(name), 0), 0.0, np.zeros(d), np.zeros((0, d)))
        self.degrees += self.parts[name].take(x, self.scatter, self.scale**-2)

    def forget(self, name: str, alone: bool = False) -> None:
        """Forget a class, whoever taught it; what it added to the scatter of all stays.

        The others are told, unless nobody but this device knows of it: it was taught here `alone`, and never told.
        """
        self.lessons += 1
        if alone and name not in self.shared:
            self.parts.pop(name, None)
            return
        life = self.lives.get(look(name), 0) + 1
        self.forgotten[name] = life
        self.bury({look(name): life})

    def rename(self, old: str, new: str, count: float, mean: Array, alone: bool = False) -> None:
        """Forget a class under its old name and take it over under a new one, `count` images with their mean [d]."""
        part = self.parts.get(old)
        self.forget(old, alone)
        if alone and old not in self.shared and part is not None:
            self.parts[new] = replace(part, life=self.lives.get(look(new), 0))
            return
        self.parts[new] = Part(self.lives.get(look(new), 0), count, np.array(mean), np.zeros((0, len(mean))), False)

    def bury(self, dead: Mapping[str, int]) -> None:
        """Take notice of forgotten names, by their look, each with the first life that counts."""
        for key, life in dead.items():
            self.lives[key] = max(life, self.lives.get(key, 0))
        self.parts = {name: p for name, p in self.parts.items() if p.life >= self.lives.get(look(name), 0)}

    def move(self, shift: Array) -> None:
        """Take `shift` [d] from all images: they came through a camera whose offset is known better by now."""
        self.lessons += 1
        for part in self.parts.values():
            part.mean = part.mean - shift

    # --- what is told of it -----------------------------------------------------------------------------------------
    def delta(self, token: str, backbone: str, min_images: int = 1, noise: float = 0.0) -> Delta:
        """Return it as a delta of the version that was told last.

        Args:
            token: the device's secret.
            backbone: SHA-256 of backbone.tflite.
            min_images: of a class; one of fewer is left out.
            noise: deviation of Gaussian noise on the sum of every class and on the scatter, in deviations of the
                features within a class. With noise, there are no rows. Each version draws its own, from the secret.

        Raises:
            DeviceError: `min_images` is not between 1 and APART, `noise` is below 0, or the delta is too large.
        """
        exact = self._exact(token, backbone, min_images, noise)
        noisy = exact if noise == 0.0 else self._noisy(exact, token)
        return Delta.from_bytes(replace(noisy, version=self.version).to_bytes())  # as others have it

    def tell(self, token: str, backbone: str, min_images: int = MIN_IMAGES, noise: float = 0.0) -> Optional[Delta]:
        """Return what others are told, as `delta`, and count its version where it is another content than the last.

        None where there is nothing to tell.
        """
        exact = self._exact(token, backbone, min_images, noise)
        content = exact.content()
        if content != self.told and (exact.classes or self.forgotten or self.version):
            self.version, self.told = self.version + 1, content
            self.shared = sorted({*self.shared, *exact.classes})
        return self.delta(token, backbone, min_images, noise) if self.told else None

    def _exact(self, token: str, backbone: str, min_images: int, noise: float) -> Delta:
        if not 1 <= min_images <= APART:
            raise DeviceError(f"min-images is {min_images}: use 1 to {APART}")
        if not 0.0 <= noise < 1e6:
            raise DeviceError(f"noise is {noise}: use a number of deviations, 0 for none")
        scatter, degrees = self.scatter.copy(), self.degrees
        shares = {}
        for name, part in sorted(self.parts.items()):
            if part.count < min_images:
                continue
            if part.apart:
                scatter += part.rows.T @ part.rows
                degrees += part.count - 1.0
            rows = compressed(part.rows, ROWS, self.scale**-2) if noise == 0.0 else part.rows[:0]
            shares[name] = Share(part.life, part.count, part.mean.copy(), np.asarray(rows, np.float32))
        scatter = 0.5 * (scatter + scatter.T)
        return Delta(device_id(token), 0, backbone, shares, scatter, degrees, dict(self.forgotten), noise)

    def _noisy(self, delta: Delta, token: str) -> Delta:
        seed = hashlib.sha256(f"cbpnet noise\n{token}\n{self.version}".encode()).digest()
        rng, d = np.random.default_rng(int.from_bytes(seed, "big")), len(self.scale)
        shares = {}
        for name, share in delta.classes.items():
            drawn = delta.noise * self.scale * rng.standard_normal(d)
            shares[name] = share._replace(mean=share.mean + drawn / share.images)
        drawn = delta.noise * np.triu(rng.standard_normal((d, d)))
        scatter = delta.scatter + np.outer(self.scale, self.scale) * (drawn + np.triu(drawn, 1).T)
        return replace(delta, classes=shares, scatter=positive(scatter, self.scale))

    # --- what is saved of it ----------------------------------------------------------------------------------------
    def arrays(self) -> dict[str, Array]:
        """Return it as named arrays."""
        parts, d = list(self.parts.items()), len(self.scatter)
        exact = [part.rows for _, part in parts if part.apart]
        rough = [part.rows for _, part in parts if not part.apart]
        about = {
            "parts": [[name, part.life, len(part.rows), part.apart] for name, part in parts],
            **{name: getattr(self, name) for name in PLAIN},
        }
        return {
            "about": np.array(json.dumps(about, sort_keys=True)),
            "scale": self.scale.copy(),
            "count": np.array([part.count for _, part in parts]),
            "mean": np.array([part.mean for _, part in parts]).reshape(-1, d),
            "scatter": packed(self.scatter),
            "exact": np.concatenate([np.zeros((0, d)), *exact]),
            "rough": np.concatenate([np.zeros((0, d)), *rough]).astype(np.float32),
            **{f"peer.{name}": np.frombuffer(content, np.uint8) for name, content in self.peers.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], since: Optional[Own] = None) -> Own:
        """Return what `arrays` took apart; raises KeyError or ValueError where they do not fit each other.

        What was told `since` then stays told: a version never falls, whatever is taken back.
        """
        about: dict[str, Any] = json.loads(str(arrays["about"]))
        own = cls(arrays["scale"])
        d = len(own.scale)
        own.scatter = unpacked(arrays["scatter"], d)
        for name in PLAIN:
            setattr(own, name, about[name])
        rows = {True: arrays["exact"].astype(np.float64), False: arrays["rough"].astype(np.float64)}
        for place, (name, life, length, apart) in enumerate(about["parts"]):
            mine, rows[apart] = rows[apart][:length], rows[apart][length:]
            mean = np.array(arrays["mean"][place], np.float64)
            own.parts[str(name)] = Part(int(life), float(arrays["count"][place]), mean, mine, bool(apart))
        if since is not None and since.version > own.version:
            own.version, own.told = since.version, since.told
            own.shared = sorted({*own.shared, *since.shared})
        own.peers = {name[5:]: value.tobytes() for name, value in arrays.items() if name.startswith("peer.")}
        return own


PLAIN = ("degrees", "forgotten", "lives", "shared", "version", "told", "fingerprint", "moved")


def positive(matrix: Array, unit: Array) -> Array:
    """Return the nearest matrix [d, d] without a negative direction, distances taken in units [d] of the features."""
    values, vectors = np.linalg.eigh(matrix / np.outer(unit, unit))
    if values[0] >= 0.0:
        return matrix
    found: Array = (vectors * np.maximum(values, 0.0)) @ vectors.T * np.outer(unit, unit)
    return 0.5 * (found + found.T)
