"""Features of classes, devices that see a part of them, and what one device that saw all of them would know."""

import numpy as np
import pytest

from firmware_host import Device
from firmware_host.fleet.delta import Delta
from firmware_host.fleet.merge import Base
from firmware_host.fleet.own import Own
from firmware_host.shared.bank import Bank, empty_bank
from firmware_host.shared.statistics import ClassStatistics

D, C, SLOTS, R = 5, 12, 14, 2
HOST = ("mug", "spoon")
BACKBONE = "b" * 64
MEAN, SCALE = np.linspace(-1, 1, D), np.linspace(0.5, 2.0, D)


def features(name, n, seed=0):
    """[n, D] of a class: each has a mean of its own."""
    centre = np.random.default_rng(sum(name.encode())).normal(MEAN, 2 * SCALE)
    return centre + SCALE * np.random.default_rng([seed, len(name)]).normal(size=(n, D))


def bank_of(rows):
    arrays = empty_bank(C, SLOTS, D, R)
    bank = Bank(arrays, MEAN, SCALE, False)
    for slot, one in enumerate(rows):
        bank.learn_classes(one, np.full(len(one), slot))
    return arrays


def make_base(bank=True):
    rows = [features(name, 20, 7) for name in HOST]
    statistics = ClassStatistics.empty(C, D)
    for slot, one in enumerate(rows):
        statistics.update_all(one, np.full(len(one), slot))
    return Base(HOST, statistics, bank_of(rows) if bank else None, MEAN, SCALE)


class Seen:
    """A device that was taught images, and tells what it learned."""

    def __init__(self, token):
        self.token, self.own = token, Own(SCALE)

    def learn(self, name, rows):
        self.own.learn(name, rows)
        return self

    def tell(self, min_images=1, noise=0.0):
        return self.own.tell(self.token, BACKBONE, min_images, noise)


@pytest.fixture
def base():
    return make_base()


@pytest.fixture
def eight():
    """Deltas of eight devices, and all images by class: some classes are known to one device, some to all."""
    rng, devices, images = np.random.default_rng(0), [Seen(f"token {i}") for i in range(8)], {}
    for name in ("mug", "spoon", "fork", "plate", "glass"):
        rows = features(name, 96, 1)
        images[name] = rows
        part = rng.permutation(np.repeat(np.arange(8), 12)) if name != "glass" else np.full(96, 3)
        for i, device in enumerate(devices):
            mine = rows[part == i]
            for one in np.array_split(mine, 3):  # lessons of some images each
                if len(one):
                    device.learn(name, one)
    return [device.tell() for device in devices], images


def known(merged):
    """The bytes of what is known."""
    arrays = {**merged.statistics.arrays(), **(merged.bank or {})}
    return "\n".join(merged.classes).encode() + b"".join(arrays[name].tobytes() for name in sorted(arrays))


def damaged(delta: Delta, **changes) -> Delta:
    from dataclasses import replace

    return replace(delta, **changes)


@pytest.fixture
def banked(make, tmp_path):
    return make.write_bundle(tmp_path / "banked", bank=True, slots=6)


@pytest.fixture
def device(banked, tmp_path, make):
    """device(name, taught, seed): a device with a state of its own, which was taught some images of each name."""
    opened = []

    def device(name, taught=None, seed=5):
        opened.append(Device.open(banked, tmp_path / name, runtime="numpy"))
        for label, n in (taught or {}).items():
            opened[-1].learn(*make.images([label], n, seed), epochs=1)
        return opened[-1]

    yield device
    for one in opened:
        one.close()
