"""Devices on a broker that loses, repeats and delays messages, devices that are killed: all come to know the same."""

import random
from collections import defaultdict

import numpy as np
import pytest

from firmware_host.bundle import DeviceError
from firmware_host.fleet.check import Expected
from firmware_host.fleet.exchange import Exchange
from firmware_host.fleet.merge import dead_before, merged
from firmware_host.fleet.own import Own, device_id
from firmware_host.fleet.peers import Peers
from firmware_host.fleet.protocol import Taken
from firmware_host.fleet.sign import Key

from .conftest import BACKBONE, MEAN, SCALE, C, features, known, make_base

BASE = make_base()
EXPECTED = Expected(BACKBONE, MEAN, SCALE)
TOPIC = "cbpnet/fleet/test"
KEY = Key(b"k" * 32, "test")


@pytest.fixture(autouse=True)
def no_power_cuts(monkeypatch):
    """Fifty devices on one disk: what is written need not outlast a power cut."""
    monkeypatch.setattr("firmware_host.fleet.peers.write_atomically", lambda path, content: path.write_bytes(content))


class Broker:
    """A broker: it retains, and delivers late, twice, or not at all."""

    def __init__(self, seed=0, lost=0.0, twice=0.0, delay=0):
        self.rng, self.lost, self.twice, self.delay = random.Random(seed), lost, twice, delay
        self.retained, self.lines, self.waiting, self.now = {}, {}, [], 0.0
        self.listening = defaultdict(set)

    def publish(self, topic, payload):
        self.retained[topic] = payload
        for name, wanted in self.listening.items():
            if topic in wanted or f"{topic.rpartition('/')[0]}/+" in wanted:
                self.send(name, topic, payload, self.lost)

    def send(self, name, topic, payload, lost=0.0):
        for _ in range(1 + (self.rng.random() < self.twice)):
            if self.rng.random() >= lost:
                when = self.now + self.rng.uniform(0, self.delay)
                self.waiting.append((when, len(self.waiting), name, topic, payload))

    def subscribe(self, name, topics):
        self.listening[name] |= set(topics)
        for topic, payload in list(self.retained.items()):
            if topic in topics or f"{topic.rpartition('/')[0]}/+" in topics:
                self.send(name, topic, payload)

    def deliver(self, devices):
        due = sorted(one for one in self.waiting if one[0] <= self.now)
        self.waiting = [one for one in self.waiting if one[0] > self.now]
        for _, _, name, topic, payload in due:
            device = devices.get(name)
            if device is not None and name in self.listening:
                self.listening[name].discard(topic)  # as a device that asked once
                device.exchange.received(topic, payload, self.now)


class Wire:
    def __init__(self, broker, name):
        self.broker, self.name, self.there = broker, name, True

    def publish(self, topic, payload):
        self.broker.publish(topic, payload)

    def fetch(self, topic):
        self.broker.subscribe(self.name, [topic])


class Device:
    """A device that is nothing but sums; `disk` is what outlasts a kill."""

    def __init__(self, broker, name, folder, disk=None, every=60.0, token=None, key=KEY):
        self.name, self.token, self.disk = name, token or name, disk
        self.own = Own(SCALE) if disk is None else Own.from_arrays(disk)
        self.device, self.changed, self.merged, self.lines = device_id(self.token), True, None, []
        self.peers, self.broker, self.folder = Peers(folder, EXPECTED), broker, folder
        self.wire = Wire(broker, name)
        self.exchange = Exchange(
            self, self.peers, EXPECTED, key, TOPIC, self.wire, lambda good, text: self.lines.append((good, text)),
            every, broker.now, random.Random(name),
        )  # fmt: skip
        self.exchange.tick(broker.now)
        self.connect()

    def connect(self):
        self.exchange.connected(self.broker.now)
        self.broker.subscribe(self.name, self.exchange.subscribed)

    def learn(self, name, rows):
        self.own.learn(name, rows)
        self.changed = True

    def take(self, deltas):
        others = [delta for name, delta in deltas.items() if name != self.device]
        self.own.bury(dead_before(others))
        told = self.own.tell(self.token, BACKBONE, 1)
        self.merged = merged(BASE, [*others, *([] if told is None else [told])], C)
        self.disk, self.changed = self.own.arrays(), False
        return Taken(told, None)

    @property
    def knows(self):
        return known(self.merged)


def run(broker, devices, seconds, step=1.0):
    for _ in range(int(seconds / step)):
        broker.now += step
        broker.deliver(devices)
        for device in list(devices.values()):
            device.exchange.tick(broker.now)


def one_that_saw(images):
    statistics = BASE.statistics.copy()
    names = [*BASE.classes, *sorted(set(images) - set(BASE.classes))]
    for name in sorted(images):
        rows = np.concatenate(images[name])
        statistics.update_all(rows, np.full(len(rows), names.index(name)))
    return statistics


@pytest.mark.parametrize("many", [9, pytest.param(50, marks=pytest.mark.slow)])
def test_a_third_of_many_devices_is_killed_and_all_know_the_same_to_the_byte(tmp_path, many):
    broker, rng = Broker(1, lost=0.1, twice=0.2, delay=8), random.Random(2)
    devices = {f"device {i}": Device(broker, f"device {i}", tmp_path / str(i)) for i in range(many)}
    names, images = ["mug", "spoon", "fork", "plate", "glass", "cup"], defaultdict(list)
    for round_ in range(6):
        for device in list(devices.values()):
            if rng.random() < 0.5:
                label, rows = rng.choice(names), features(rng.choice(names), rng.randint(1, 8), rng.randint(0, 10**6))
                device.learn(label, rows)
                device.exchange.tick(broker.now)  # or it is killed before it was saved
        run(broker, devices, 40, 2.0)
        for name in rng.sample(sorted(devices), many // 3):  # killed: only what is on disk is left
            broker.listening.pop(name, None)
            dead = devices.pop(name)
            if round_ < 5:
                devices[name] = Device(broker, name, dead.folder, dead.disk)
            else:
                images["dead"].append(dead)
    broker.lost = 0.0
    for device in devices.values():
        device.connect()
    run(broker, devices, 300, 2.0)
    knows = {device.knows for device in devices.values()}
    assert len(devices) == many - many // 3
    assert len(knows) == 1
    every = list(devices.values()) + images.pop("dead")
    late = Device(broker, "late", tmp_path / "late")
    run(broker, {**devices, "late": late}, 150, 1.0)
    assert late.knows in knows
    told = sum(part.count for device in every for part in device.own.parts.values())
    assert 0 < late.merged.statistics.count.sum() - 40 <= told
    assert late.exchange.devices >= many - many // 3


def test_what_all_know_is_what_one_that_saw_everything_knows(tmp_path):
    broker = Broker()
    devices = {str(i): Device(broker, str(i), tmp_path / str(i), every=10.0) for i in range(8)}
    images = defaultdict(list)
    for i, device in enumerate(devices.values()):
        for label in ("mug", "fork", "plate"):
            rows = features(label, 9 + i, i)
            images[label].append(rows)
            device.learn(label, rows)
    run(broker, devices, 60)
    wanted = one_that_saw(images)
    assert len({device.knows for device in devices.values()}) == 1
    for name, value in devices["0"].merged.statistics.arrays().items():
        expected = wanted.arrays()[name]
        np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_a_broker_that_forgot_everything_is_told_again_those_of_dead_devices_too(tmp_path):
    broker = Broker()
    devices = {name: Device(broker, name, tmp_path / name, every=5.0) for name in ("a", "b", "c")}
    for name, device in devices.items():
        device.learn(f"class {name}", features(name, 6))
    run(broker, devices, 30)
    gone = devices.pop("c")
    broker.listening.pop("c")
    broker.retained.clear()
    for device in devices.values():
        device.connect()
    run(broker, devices, 20)
    assert f"{TOPIC}/delta/{gone.device}" not in broker.retained  # it may come back itself
    run(broker, devices, 150)
    late = Device(broker, "late", tmp_path / "late", every=5.0)
    run(broker, {**devices, "late": late}, 30)
    assert late.knows == devices["a"].knows
    assert "class c" in late.merged.classes


def test_an_idle_group_sends_nothing(tmp_path):
    broker = Broker()
    devices = {name: Device(broker, name, tmp_path / name, every=5.0) for name in ("a", "b")}
    devices["a"].learn("fork", features("fork", 6))
    run(broker, devices, 200)
    sent = [device.exchange.traffic(broker.now) for device in devices.values()]
    run(broker, devices, 200)
    after = [device.exchange.traffic(broker.now) for device in devices.values()]
    assert [each[:2] for each in sent] == [each[:2] for each in after]
    assert sent[0].sent > 300
    assert after[0].per_hour == sent[0].sent + sent[0].received  # less than an hour counts as one
    assert devices["a"].exchange.traffic(broker.now + 7200 - 400).per_hour == pytest.approx(after[0].per_hour / 2)


def test_what_is_not_signed_or_poisoned_is_refused_and_said_once(tmp_path):
    broker = Broker()
    good = Device(broker, "good", tmp_path / "good", every=5.0)
    good.learn("fork", features("fork", 6))
    devices = {"good": good}
    run(broker, devices, 20)
    before = good.knows
    stranger = Device(broker, "stranger", tmp_path / "s", every=5.0, key=Key(b"x" * 32, "test"))
    stranger.learn("bomb", features("bomb", 6))
    run(broker, {**devices, "stranger": stranger}, 30)
    delta = stranger.own.delta("bad", BACKBONE)
    share = delta.classes["bomb"]._replace(images=1e9)
    from dataclasses import replace

    bad = replace(delta, classes={"bomb": share})
    announced = b'{"digest": "' + bad.digest.encode() + b'", "version": 1}'
    broker.publish(f"{TOPIC}/delta/{bad.device}", KEY.signed("delta", bad.device, bad.to_bytes()))
    broker.publish(f"{TOPIC}/version/{bad.device}", KEY.signed("version", bad.device, announced))
    broker.publish(f"{TOPIC}/version/{'0' * 12}", KEY.signed("version", "0" * 12, b"[]"))
    broker.publish(f"{TOPIC}/version/not a device", b"")
    run(broker, devices, 200)
    assert good.knows == before
    said = [text for ok, text in good.lines if not ok]
    assert len(said) == len(set(said))
    assert any("not signed by this group's key" in text for text in said)
    assert any("'bomb' has 1e+09 images" in text for text in said)
    assert any("does not say a version" in text for text in said)
    received = good.exchange.traffic(broker.now).received
    run(broker, devices, 200)
    assert good.exchange.traffic(broker.now).received == received  # it is not asked for again and again
    assert good.exchange.refused >= 3


def test_a_device_that_is_revoked_counts_no_more_anywhere(tmp_path):
    broker = Broker()
    devices = {name: Device(broker, name, tmp_path / name, every=5.0) for name in ("a", "b", "bad")}
    devices["a"].learn("fork", features("fork", 6))
    devices["bad"].learn("bomb", features("bomb", 6))
    run(broker, devices, 30)
    assert "bomb" in devices["b"].merged.classes
    bad = devices["bad"].device
    devices["a"].exchange.revoke(bad)
    run(broker, devices, 30)
    assert "bomb" not in devices["b"].merged.classes
    assert devices["a"].knows == devices["b"].knows
    assert any("is revoked: this one" in text for _, text in devices["bad"].lines)
    devices["bad"].learn("bomb", features("bomb", 6, 2))
    run(broker, devices, 60)
    again = {"b": Device(broker, "b", tmp_path / "b", devices["b"].disk, every=5.0), "a": devices["a"]}
    late = Device(broker, "late", tmp_path / "late", every=5.0)
    run(broker, {**again, "late": late}, 40)
    assert all("bomb" not in device.merged.classes for device in (*again.values(), late))
    with pytest.raises(DeviceError, match="is not the number of one: give 12"):
        devices["a"].exchange.revoke("../../x")


@pytest.mark.parametrize("more", [0, 6])
def test_two_devices_with_one_number_are_told_so(tmp_path, more):
    broker = Broker()
    first = Device(broker, "first", tmp_path / "1", every=5.0, token="same")
    first.learn("fork", features("fork", 6))
    run(broker, {"first": first}, 20)
    copy = Device(broker, "copy", tmp_path / "2", first.disk, every=5.0, token="same")
    run(broker, {"first": first, "copy": copy}, 20)  # as long as it is the same, there is no harm
    copy.learn("plate", features("plate", 5))
    if more:
        first.learn("fork", features("fork", more, 3))
    with pytest.raises(DeviceError, match=r"another device uses the number of this one, .* with --new-id"):
        run(broker, {"first": first, "copy": copy}, 60)
