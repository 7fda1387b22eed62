"""Many devices of one bundle in one process, and a hub in their middle; the backbone sees each image once.

Every device is taught its own images, tells of them, and is told what all others were taught, in the bytes that a
network would carry. A few are whole: with head and bank, they take over what they are told, and are tested. Of the
others only what they were taught is kept, which is all that they tell of.

Dimensions: N images, d features, K classes.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import numpy as np

from firmware_host.device import Device
from firmware_host.fleet.base import backbone_of, base_of, deviations, expected_of
from firmware_host.fleet.check import Expected
from firmware_host.fleet.delta import Delta
from firmware_host.fleet.node import Part, answer
from firmware_host.fleet.own import Own, device_id
from firmware_host.fleet.protocol import Taken
from keras_cbpnet.fleet.hub import Hub
from keras_cbpnet.fleet.inputs import Array, Features, Say, Settings

__all__ = ["simulated"]


def simulated(bundle: Path, features: Features, settings: Settings, folder: Path, say: Say) -> Iterator[dict[str, Any]]:
    """Yield a record of each round.

    Args:
        bundle: of the devices.
        features: of images that they are taught and tested on; taught are the classes that the bundle does not know,
            all where it knows all.
        settings: how many devices, and so on.
        folder: an empty one for the states of the whole devices.
        say: is given lines of progress.

    Yields:
        round; accuracy: mean of the whole devices on the test images, of a class that is not known yet it is 0; alone:
        the same before the first merge. classes: that a whole device knows then. images: that were told of.
        bytes_up, bytes_down: of the round, all devices. server_s: processor seconds of the hub's work; device_s: of a
        whole device's, for one merge; round_s: of all, without the tests. refused: answers.
    """
    settings.check()
    hub = Hub.of_bundle(bundle)
    group = _Group(bundle, features, settings, folder)
    try:
        for number in range(1, settings.rounds + 1):
            yield {"round": number, "devices": settings.devices, **group.round(hub, say)}
    finally:
        group.close()


class _Group:
    """The devices of a simulation; a whole one by its number comes first."""

    def __init__(self, bundle: Path, features: Features, settings: Settings, folder: Path) -> None:
        self._features, self._settings = features, settings
        self.whole = [
            Device.open(bundle, folder / f"device-{number}", settings.runtime, seed=settings.seed)
            for number in range(min(settings.whole, settings.devices))
        ]
        first = self.whole[0]
        known = set(first.classes)
        names = sorted(set(features.taught.tolist()))
        self._names = [name for name in names if name not in known] or names
        self._rows = {name: np.flatnonzero(features.taught == name) for name in self._names}
        self._numbers = np.random.default_rng(settings.seed)
        light = _Light.maker(first)
        self._parts: list[Part] = [device.knowledge.sharing(settings.min_images) for device in self.whole]
        self._parts += [
            light(f"{settings.seed}/{number}", settings.min_images)
            for number in range(len(self.whole), settings.devices)
        ]
        self._alone: Optional[float] = None
        self._mine = [self._drawn_classes(number) for number in range(settings.devices)]

    def close(self) -> None:
        """Let go of the whole devices."""
        for device in self.whole:
            device.close()

    def round(self, hub: Hub, say: Say) -> dict[str, Any]:
        """Teach all devices, let them share, test the whole ones; return the record."""
        begun, before = time.process_time(), hub.traffic
        for number, part in enumerate(self._parts):
            self._teach(number, part)
        say(f"{len(self._parts)} devices were taught")
        tested = time.process_time()
        if self._alone is None:  # later it is that of the merge before, and the lessons since
            self._alone = statistics.fmean(self._accuracy(device) for device in self.whole)
        begun += time.process_time() - tested
        watch = _Watch()
        answers = {
            node: answer("tell", lambda node=node: self._parts[node], question)  # type: ignore[misc]
            for node, question in watch.each(hub.questions(range(len(self._parts))))
        }
        with watch:
            hub.hear(answers)
        merges = []
        for node, message in watch.each(hub.sums()):
            start = time.process_time()
            reply = answer("take", lambda node=node: self._parts[node], message)  # type: ignore[misc]
            if node < len(self.whole):
                merges.append(time.process_time() - start)
            with watch:
                hub.taken(node, reply)
        round_s = time.process_time() - begun
        say(f"{len(hub.deltas)} devices shared")
        accuracy = [self._accuracy(device) for device in self.whole]
        return {
            "accuracy": statistics.fmean(accuracy),
            "alone": self._alone,
            "classes": len(self.whole[0].classes),
            "images": sum(delta.images for delta in hub.deltas.values()),
            "bytes_up": hub.traffic.up - before.up,
            "bytes_down": hub.traffic.down - before.down,
            "server_s": watch.seconds,
            "device_s": statistics.fmean(merges) if merges else None,
            "round_s": round_s,
            "refused": len(hub.refused),
        }

    def _drawn_classes(self, number: int) -> list[str]:
        rng = np.random.default_rng([self._settings.seed, number])
        return [str(name) for name in rng.choice(self._names, min(self._settings.classes, len(self._names)), False)]

    def _teach(self, number: int, part: Part) -> None:
        """Teach a device images of its classes, as many of each; several devices may be taught the same image."""
        names = self._mine[number]
        labels = [names[place % len(names)] for place in range(self._settings.images)]
        rows = [int(self._numbers.choice(self._rows[name])) for name in labels]
        if number < len(self.whole):
            self.whole[number].learn(list(self._features.train[rows]), labels)
        elif isinstance(part, _Light):
            part.learn(self._features.train[rows], labels)

    def _accuracy(self, device: Device) -> float:
        features, known = self._features, set(device.classes)
        rows = [row for row, label in enumerate(features.labels) if label in known]
        if not rows:
            return 0.0
        found = device.evaluate([features.test[row] for row in rows], [str(features.labels[row]) for row in rows])
        return float(found["accuracy"]) * len(rows) / len(features.labels)


class _Light:
    """A device of which only what it was taught is kept."""

    brought: dict[str, Delta] = {}  # noqa: RUF012

    def __init__(self, own: Own, token: str, backbone: str, expected: Expected, dequantize: Any, least: int) -> None:
        self._own, self._token, self._backbone, self._least = own, token, backbone, least
        self._dequantize = dequantize
        self.expected = expected

    @classmethod
    def maker(cls, device: Device) -> Callable[[str, int], _Light]:
        """Return what makes one like a device."""
        start = device._lessons.start()
        base, backbone = base_of(device.bundle, start), backbone_of(device.bundle)
        scale, expected, dequantize = deviations(base), expected_of(device.bundle), device._backbone.dequantize

        def make(name: str, least: int) -> _Light:
            token = hashlib.sha256(name.encode()).hexdigest()[:32]
            return cls(Own(scale), token, backbone, expected, dequantize, least)

        return make

    @property
    def device(self) -> str:
        return device_id(self._token)

    def learn(self, raw: Array, labels: Sequence[str]) -> None:
        """Take in images, features [N, d] as stored."""
        values, names = self._dequantize(raw), np.array(labels)
        for name in dict.fromkeys(labels):
            self._own.learn(name, values[names == name])

    def tell(self) -> Optional[Delta]:
        return self._own.tell(self._token, self._backbone, self._least)

    def take(self, deltas: dict[str, Delta], devices: Optional[int] = None) -> Taken:
        del deltas, devices  # it was read and checked, and that is all
        return Taken(None, None)


class _Watch:
    """Seconds that were spent within it."""

    def __init__(self) -> None:
        self.seconds, self._begun = 0.0, 0.0

    def __enter__(self) -> None:
        self._begun = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.process_time() - self._begun

    def each(self, found: Iterator[Any]) -> Iterator[Any]:
        """Yield what an iterator does, and count what that takes it."""
        while True:
            with self:
                one = next(found, None)
            if one is None:
                return
            yield one
